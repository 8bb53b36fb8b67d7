"""What runs: two servers of the app on one database, the timer in front of them, and PostgreSQL below."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
import psycopg

from benchmarks.soak.background import Background
from benchmarks.soak.network import posted
from benchmarks.soak.words import ADMIN_KEY

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
_DEFECTS = ("A sync broke", "A head check broke")


class Server:
    """One process of `runtime-store serve`, at one address for all its lives."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}"
        self._environment = environment
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.begin()
        self.wait()

    def begin(self) -> None:
        command = [sys.executable, "-m", "shared", "serve", "--port", str(self._port), "--no-timer", "--threads", "12"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=_ROOT, env=dict(self._environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            try:
                with urlopen(f"{self.url}/livez", timeout=5):  # noqa: S310
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"the server did not start; its log is {self.log}")

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def defects(self) -> list[str]:
        """What the app itself calls a defect, each with its traceback."""
        found: list[str] = []
        is_told = False
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not line.startswith(" "):
                    is_told = any(words in line for words in _DEFECTS)
                    if is_told:
                        found.append("")
                if is_told:
                    found[-1] += line
        return found


class Postgres:
    """The server behind a URL on this machine: restarted as the same user, with the same arguments."""

    def __init__(self, conninfo: str, log: Path) -> None:
        self.conninfo = conninfo
        self._log = log

    def restart(self, number: signal.Signals) -> None:
        """SIGINT is a fast shutdown, SIGQUIT an immediate one, which is a crash and is recovered from."""
        with psycopg.connect(self.conninfo) as connection:
            found = connection.execute("SELECT current_setting('data_directory')").fetchone()
        assert found is not None
        pid = int(Path(found[0], "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        command, folder, user, group = process.cmdline(), process.cwd(), process.uids().real, process.gids().real
        as_user: dict[str, Any] = {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}
        process.send_signal(number)
        process.wait(60)
        with self._log.open("ab") as log:
            subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **as_user
            )
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            try:
                psycopg.connect(self.conninfo).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL did not come back; its log is {self._log}")


class Timer(Background):
    """Starts a sweep every other second, on either server: stands for a timer of any instance.

    With `hurried`, a database, it comes four times as often, and time also passes quicker there: nobody waits for a
    lease of a worker that was killed.
    """

    def __init__(self, urls: Sequence[str], hurried: str | None = None) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.is_stopped = False
        self._urls = urls
        self._hurried = hurried
        self._pause = 0.5 if hurried else 2.0

    def _run(self) -> None:
        number = 0
        while not self._ending.wait(self._pause):
            number += 1
            if self._hurried:
                self._let_time_pass(self._hurried)
            if self.is_stopped:
                continue
            try:
                status, said = posted(self._urls[number % len(self._urls)], "/reconcile?seconds=5", ADMIN)
                self.counts["sweeps" if status == 200 and json.loads(said)["started"] else "not begun"] += 1
            except (OSError, HTTPException, ValueError):
                self.counts["not begun"] += 1

    def _let_time_pass(self, conninfo: str) -> None:
        with suppress(psycopg.Error), psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(
                "UPDATE branches SET lease_until = clock_timestamp()"
                " WHERE lease_until < clock_timestamp() + interval '80 seconds'"
            )
            connection.execute("UPDATE branches SET next_attempt_at = NULL WHERE next_attempt_at IS NOT NULL")
            # Longer than a source is stale.
            connection.execute(
                "UPDATE branches SET announced_at = NULL WHERE announced_at < clock_timestamp() - interval '5 seconds'"
            )
            connection.execute("DELETE FROM sources")
            connection.execute(
                "UPDATE sweeps SET lease_until = clock_timestamp()"
                " WHERE lease_until < clock_timestamp() + interval '20 seconds'"
            )


@contextmanager
def serving(environment: Mapping[str, str], folder: Path) -> Iterator[tuple[Server, Server]]:
    servers = (Server(environment, folder / "server-a.log"), Server(environment, folder / "server-b.log"))
    try:
        for server in servers:
            server.begin()
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.kill()
