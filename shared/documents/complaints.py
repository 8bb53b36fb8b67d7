"""Collects what is wrong in one file while it is read, and ends the reading when enough is known."""

from typing import NoReturn

from shared.documents.scalars import Refusal
from shared.model import FilePath, Finding, Severity


class Stop(Exception):
    """The rest of the file is not read."""


class Complaints:
    """The findings of one file; all of them are errors. A place is line and column from 1."""

    __slots__ = ("_limit", "_path", "findings")

    def __init__(self, path: FilePath, limit: int) -> None:
        self._path = path
        self._limit = limit
        self.findings: list[Finding] = []

    def add(self, refusal: Refusal, place: tuple[int, int] | None, pointer: str = "") -> None:
        """Raises `Stop` when there are enough."""
        line, column = place or (None, None)
        self.findings.append(Finding(self._path, refusal.rule, Severity.ERROR, refusal.message, line, column, pointer))
        if len(self.findings) == self._limit:
            message = f"There are {self._limit} findings until here: the rest of the file was not read."
            self.stop(Refusal("too-many-findings", message), place, pointer)

    def stop(self, refusal: Refusal, place: tuple[int, int] | None, pointer: str = "") -> NoReturn:
        """Add the last finding."""
        line, column = place or (None, None)
        self.findings.append(Finding(self._path, refusal.rule, Severity.ERROR, refusal.message, line, column, pointer))
        raise Stop
