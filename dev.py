"""One command to see it, one to check it: `python3 dev.py demo` and `python3 dev.py test`.

Standard library only. Makes `.venv` with the pinned requirements, and hands over to what runs there. A stamp in `.venv`
says what it was made from; it is written last, so a `.venv` without it is broken or half-made, and is made again.
"""

# Old Pythons have to be able to read this file, or they could not say that they are too old.
from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "runtime-store.stamp"
LOCAL = ROOT / ".local"
REQUIREMENTS = "requirements-dev.txt"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
PIP = [str(PYTHON), "-m", "pip", "--no-input", "--disable-pip-version-check"]
AUDITOR = "pip-audit==2.10.1"
VERSIONS = ((3, 11), (3, 12), (3, 13))

HELP = """usage: python3 dev.py COMMAND [arguments]

  demo    the whole service on this machine, filled from a sample repository (--source azure-devops, --fresh, --port)
  test    format, lint, types, import contract and all tests; with arguments: pytest with these, and nothing else
  fmt     puts right what format and lint can put right
  bench   measures what the README claims
  audit   asks on the network whether a pinned package has a known vulnerability

Each makes .venv first when it has to. Start with: python3 dev.py demo"""


class Stop(Exception):
    """Something that only the person at the keyboard can put right; the message says how."""


class Step(NamedTuple):
    name: str
    command: list[str]
    remedy: str = ""


STEPS = (
    Step("format", ["ruff", "format", "--check", "."], "python3 dev.py fmt"),
    Step("lint", ["ruff", "check", "."], "python3 dev.py fmt puts some of it right"),
    Step("types", ["mypy"]),
    Step("imports", ["lint-imports", "--no-logo"]),
    Step("tests", ["pytest", "-n", "logical", "--maxprocesses", "4"]),
)


def main(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    commands = {"demo": demo, "test": test, "fmt": fmt, "bench": bench, "audit": audit}
    if command not in commands:
        asked = command in ("help", "-h", "--help")
        print(
            HELP if asked else f"There is no command {command!r}.\n\n{HELP}", file=sys.stdout if asked else sys.stderr
        )
        return 0 if asked else 2
    try:
        require_python(sys.version_info[:2])
        prepare()
        return commands[command](rest)
    except Stop as problem:
        print(problem, file=sys.stderr)
    except PermissionError as error:
        print(f"{error.filename} cannot be written. If another user made it (root?), remove it.", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return 2


# -- Commands --------------------------------------------------------------------------------------------------------


def demo(arguments: list[str]) -> int:
    return hand_over([str(PYTHON), "-m", "examples.demo", *arguments])


def bench(arguments: list[str]) -> int:
    return hand_over([str(PYTHON), "-m", "benchmarks", *arguments])


def audit(arguments: list[str]) -> int:
    """Not a part of `test`: it needs the network, and what it finds may be news without a change. The auditor goes when
    it is done, with all that it brought along. Strict: else a package that it cannot look up would count as a good one.
    """
    files = [word for path in sorted(ROOT.glob("requirements*.txt")) for word in ("-r", path.name)]
    LOCAL.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=LOCAL) as place:
        watch(f"Installing {AUDITOR}", [*PIP, "install", "--progress-bar", "off", "--target", place, AUDITOR])
        command = [str(PYTHON), "-m", "pip_audit", "--strict", "--no-deps", "--disable-pip", *files, *arguments]
        return wait(command, PYTHONPATH=place)


def fmt(arguments: list[str]) -> int:
    paths = arguments or ["."]
    run(["ruff", "check", "--fix-only", "--quiet", *paths])
    run(["ruff", "format", *paths])
    code = run(["ruff", "check", *paths])
    print("Next: python3 dev.py test" if code == 0 else "What is left needs a person.")
    return code


def test(arguments: list[str]) -> int:
    if arguments:
        return hand_over([str(BIN / "pytest"), *arguments])
    failed = [step for step in STEPS if not passes(step)]
    for step in failed:
        again = shlex.join([os.path.relpath(BIN / step.command[0], ROOT), *step.command[1:]])
        print(f"\nFAILED: {step.name}. Only this again: {again}" + (f"  ({step.remedy})" if step.remedy else ""))
    return 1 if failed else 0


def passes(step: Step) -> bool:
    """One line for each step, and what it has to say when it fails. The tests speak for themselves, and come last, so
    that their number and seconds are the last line of a good run."""
    if step.name == "tests":
        return run(step.command) == 0
    started = time.monotonic()
    command = [str(BIN / step.command[0]), *step.command[1:]]
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, capture_output=True)
    good = done.returncode == 0
    print(f"{step.name:<8} {'ok' if good else 'FAILED':<6} {time.monotonic() - started:6.1f} s", flush=True)
    if not good:
        sys.stdout.buffer.write(done.stdout + done.stderr)
        sys.stdout.flush()
    return good


def run(command: list[str]) -> int:
    return wait([str(BIN / command[0]), *command[1:]])


def hand_over(command: list[str]) -> int:
    """Become the command: its signals and its exit code are ours. Windows cannot, so there we wait for it."""
    if os.name != "nt":
        sys.stdout.flush()
        os.chdir(ROOT)
        os.execve(command[0], command, environment())
    return wait(command)


def wait(command: list[str], **more: str) -> int:
    """Run it to its end, with `more` in its environment. Ctrl-C reaches it without us, SIGTERM through us, and it
    decides what that means."""
    # Not an exception of ours: one that is raised while its end is noted loses its exit code.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None)}
    try:
        process = subprocess.Popen(command, cwd=ROOT, env={**environment(), **more})
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- The environment -------------------------------------------------------------------------------------------------


def require_python(version: tuple[int, ...]) -> None:
    if version in VERSIONS:
        return
    names = [f"python{major}.{minor}" for major, minor in VERSIONS]
    found = [name for name in reversed(names) if shutil.which(name)]
    advice = (
        f"Try: {found[0]} {shlex.join(sys.argv)}"
        if found
        else "Install one of them, for example from https://www.python.org."
    )
    raise Stop(
        f"Runtime Store runs on Python 3.11, 3.12 and 3.13. This is {'.'.join(map(str, version))} ({sys.executable}).\n"
        + advice
    )


def prepare() -> None:
    """Afterwards `.venv` holds exactly this Python and these requirements."""
    base, pins = base_of_venv(), digest_of_requirements()
    if stamp() == (base, pins):
        return
    with alone():
        made_from = stamp()
        if made_from == (base, pins):
            return
        started = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            STAMP.unlink()
        if made_from is None or made_from[0] != base:
            make_venv()
        watch("Installing the pinned requirements", [*PIP, "install", "--progress-bar", "off", "-r", REQUIREMENTS])
        STAMP.write_text(f"{base}\n{pins}\n", encoding="utf-8")
        print(f"Ready after {time.monotonic() - started:.0f} s.\n", flush=True)


def base_of_venv() -> str:
    """What a `.venv` cannot outlive: this Python, and this place (its scripts hold both)."""
    return f"{sys.version.split()[0]} {sys.base_prefix} {VENV}"


def digest_of_requirements() -> str:
    digest = hashlib.sha256()
    for path in sorted(ROOT.glob("requirements*.txt")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def stamp() -> tuple[str, str] | None:
    """What `.venv` was made from; None when it is not whole."""
    try:
        base, pins = STAMP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return (base, pins) if PYTHON.exists() else None


def make_venv() -> None:
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        raise Stop(
            f"This Python ({sys.executable}) cannot make virtual environments: its venv or ensurepip is missing.\n"
            f"On Debian and Ubuntu, as root: apt install {package}\nElsewhere: install a complete Python 3.11 to 3.13."
        )
    if VENV.is_symlink():
        raise Stop(f"{VENV} is a link, and what it leads to would be made anew: remove the link.")
    if os.name == "nt" and Path(sys.prefix) == VENV:
        raise Stop("This Python is the one in .venv, which has to be made again. Run `deactivate`, and this again.")
    # The Python below, should this one be in `.venv` itself.
    python = getattr(sys, "_base_executable", None) or sys.executable
    watch("Making .venv", [python, "-m", "venv", "--clear", str(VENV)])


def environment() -> dict[str, str]:
    """Ours, without what would make the Python in `.venv` import or install elsewhere."""
    strays = {"PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__"}
    return {"PYTHONUTF8": "1", **{name: value for name, value in os.environ.items() if name.upper() not in strays}}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One set-up at a time: a second dev.py waits for the first. The lock ends with its process."""
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "setup.lock").open("a") as lock:
        if sys.platform == "win32":
            import msvcrt

            while True:
                with contextlib.suppress(OSError):  # it gives up after ten seconds
                    msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def watch(title: str, command: list[str]) -> None:
    """Run it, and show that it is alive: on a terminal all the time, in a log now and then."""
    log = LOCAL / "setup.log"
    print(f"{title} ...", flush=True)
    lines = [""]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

        def read() -> None:
            for line in process.stdout or ():
                file.write(line)
                lines.append(line.decode(errors="replace").strip())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        show_until_done(reader, lines)
        reader.join()
    if process.wait() != 0:
        last = "\n".join(f"    {line}" for line in lines[-12:])
        raise Stop(f"{title} failed. The last lines, of {log}:\n{last}")


def show_until_done(reader: threading.Thread, lines: list[str]) -> None:
    on_terminal, width = sys.stdout.isatty(), shutil.get_terminal_size().columns - 1
    started = shown = time.monotonic()
    while reader.is_alive():
        reader.join(0.2)
        now = time.monotonic()
        text = f"{now - started:4.0f} s  {lines[-1]}"[:width]
        if on_terminal:
            print(f"\r{text.ljust(width)}", end="", flush=True)
        elif now - shown >= 10:
            shown = now
            print(text, flush=True)
    if on_terminal:
        print("\r" + " " * width, end="\r", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
