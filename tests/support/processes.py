"""Programs of this project, started for real."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0
"""Longest wait for anything: far above what it takes, since other tests run meanwhile."""


def eventually(look: Callable[[], _T | None], what: str, seconds: float = SECONDS) -> _T:
    """The first thing that `look` finds (None and False are nothing)."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


class Program:
    """`python -m` something. Its output, both streams together, is in `output` as it comes."""

    def __init__(self, *words: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", *words],
            cwd=ROOT,
            env={"PYTHONUTF8": "1", "PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            self._lines.extend(lines)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    def says(self, pattern: str, seconds: float = SECONDS) -> str:
        """Wait until its output matches; returns what the last group matched."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output)
            if found is None and self._process.poll() is not None:
                raise AssertionError(f"it ended with {self._process.returncode} and said:\n{self.output}")
            return found

        found = eventually(look, f"{pattern!r} in the output", seconds)
        return found[found.lastindex or 0]

    def ends(self, number: signal.Signals | None = None) -> int:
        """Send it a signal, if any, and wait for its end; returns its exit code."""
        if number is not None:
            self._process.send_signal(number)
        code = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.ends()


@contextmanager
def started(*words: str, environment: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Killed at the end, unless it has ended by itself."""
    program = Program(*words, environment=environment or {})
    try:
        yield program
    finally:
        program.kill()
