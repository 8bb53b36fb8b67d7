"""A PostgreSQL server that a test may stop, freeze, cut off and fill up. It syncs to disk, as real ones do."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from examples import embedded_postgres
from shared.postgres.migrate import migrate

PASSWORD = "made-up"


class OwnServer:
    def __init__(self, folder: Path) -> None:
        self._place = embedded_postgres._place(folder)
        self._port = embedded_postgres._port(self._place)
        self.conninfo = embedded_postgres._url(self._port, PASSWORD)

    def stop(self, mode: str) -> None:
        """`fast` or `immediate`, as pg_ctl knows it."""
        self._control("stop", "-m", mode)

    def start(self, room: int | None = None) -> None:
        """With `room`, no file of it may grow beyond so many bytes."""
        self._control("start", "-l", str(self._place.log), "-o", f"-p {self._port}", room=room)

    def _control(self, *words: str, room: int | None = None) -> None:
        limit = "unlimited" if room is None else str(room // 512)
        script = 'ulimit -S -f "$1"; shift; exec "$@"'
        command = [str(self._place.binaries / "pg_ctl"), *words, "-D", str(self._place.data), "-w", "-t", "60"]
        with tempfile.TemporaryFile() as output:
            subprocess.run(
                ["sh", "-c", script, "sh", limit, *command],
                cwd=self._place.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=True,
                **self._place.run_as,
            )

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and data, and never answers."""
        postmaster = psutil.Process(int(embedded_postgres._postmaster(self._place)[0]))
        stopped = [postmaster]
        try:
            _tell([postmaster], signal.SIGSTOP)
            # It starts no more of them now.
            stopped += postmaster.children(recursive=True)
            _tell(stopped, signal.SIGSTOP)
            yield
        finally:
            _tell(stopped, signal.SIGCONT)

    @contextmanager
    def full(self, room: int) -> Iterator[None]:
        """Started anew with so much room: as on a full disk, what is there can be written, and nothing added. It takes
        no rights, unlike a small file system."""
        self.stop("fast")
        self.start(room)
        try:
            yield
        finally:
            self.stop("fast")
            self.start()


def _tell(processes: Iterable[Any], number: signal.Signals) -> None:
    """All but those that have ended meanwhile."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@contextmanager
def own_server() -> Iterator[OwnServer]:
    folder = Path(tempfile.mkdtemp(prefix="runtime-store-own-"))
    try:
        with embedded_postgres.running(folder, PASSWORD):
            place = embedded_postgres._place(folder)
            # Write-ahead log in small files, so that a limit on the size of files does not end the server.
            embedded_postgres._stop(place)
            embedded_postgres._run(place, "pg_resetwal", ["--wal-segsize=1", "-D", str(place.data)])
            embedded_postgres._start(place)
            server = OwnServer(folder)
            migrate(server.conninfo)
            yield server
    finally:
        embedded_postgres.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)
