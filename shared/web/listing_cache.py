"""List bodies, kept under the generation they were read with and bounded in bytes.

The cache never decides what is current: whoever asks has just read the generation, and gets a body of exactly that
one or none. Equality, not order: a restored database has older generations.
"""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TypeAlias

from shared.model import BranchName, Generation, RepoId

Key: TypeAlias = tuple[RepoId, BranchName, str]
"""Repository, branch and prefix."""

OVERHEAD = 1024
"""Bytes that an entry costs besides its bodies; keeps many small ones from growing without end."""
STRIPES = 16


@dataclass(frozen=True, slots=True)
class Body:
    generation: Generation
    plain: bytes
    gzip: bytes | None = None
    """None until somebody took it, and when it is not worth it."""

    @property
    def size(self) -> int:
        return OVERHEAD + len(self.plain) + len(self.gzip or b"")


class ListingCache:
    """Least recently used first out. Safe to share between threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bodies: OrderedDict[Key, Body] = OrderedDict()
        self._lock = Lock()
        self._builders = tuple(Lock() for _ in range(STRIPES))
        self.size = 0

    def get(self, key: Key, generation: Generation) -> Body | None:
        """The body of this generation, if it is kept."""
        with self._lock:
            body = self._bodies.get(key)
            if body is None or body.generation != generation:
                return None
            self._bodies.move_to_end(key)
            return body

    def put(self, key: Key, body: Body) -> None:
        with self._lock:
            self._drop(key)
            if body.size > self._limit:
                return
            self._bodies[key] = body
            self.size += body.size
            while self.size > self._limit:
                self._drop(next(iter(self._bodies)))

    def builder(self, key: Key) -> Lock:
        """Held by who builds a body, so that a push is not followed by one building of a big list per reader."""
        return self._builders[hash(key) % STRIPES]

    def _drop(self, key: Key) -> None:
        body = self._bodies.pop(key, None)
        if body is not None:
            self.size -= body.size
