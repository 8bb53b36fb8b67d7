"""Who works side by side, and where."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from shared.model import Claim, RepoId, Repository

_Place = TypeVar("_Place", Claim, Repository)


class Workers:
    """Each goes first to a source that no other is at: one that hangs, and has many branches, would soon hold all of
    them."""

    def __init__(self) -> None:
        self._claiming = Lock()
        self._busy: list[RepoId] = []

    @contextmanager
    def at(self, claim: Callable[[Collection[RepoId]], _Place | None]) -> Iterator[_Place | None]:
        """What `claim` gives, which is told the repositories that the others are at; this worker is there until the
        block ends."""
        with self._claiming:
            place = claim(tuple(self._busy))
            if place is not None:
                self._busy.append(place.repo_id)
        try:
            yield place
        finally:
            if place is not None:
                self._busy.remove(place.repo_id)
