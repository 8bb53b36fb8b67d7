"""`runtime-store`, run in this process as its entry point runs it."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from shared.cli import main


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        return json.loads(self.stdout)


class CommandLine:
    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *words: str) -> Ended:
        self._captured.readouterr()
        code = main(words)
        return Ended(code, *self._captured.readouterr())


@contextmanager
def log_restored() -> Iterator[None]:
    """A command decides what is logged in its process, which a test shares with others."""
    root, ours = logging.getLogger(), logging.getLogger("shared")
    handlers, level = root.handlers[:], ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)
