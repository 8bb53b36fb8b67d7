"""What was pushed, written down before anybody can see it: readers, in another process, hold answers against it.

One line of JSON for each event, in the order in which they happened, and numbered by it.
"""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str, str]
"""A repository's id, and a branch."""
EVERYWHERE: Place = ("", "")


@dataclass(frozen=True, slots=True)
class Commit:
    """`files` is JSON, an object of each path with the number of the commit that wrote it: equal for equal sets."""

    number: int
    files: str
    is_valid: bool


class Ledger:
    """Written by one process. `number` is that of the last event."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self._lock = Lock()
        self._file = path.open("ab", buffering=0)

    def pushed(self, place: Place, commit: str, files: Mapping[str, int], *, is_valid: bool) -> int:
        return self._write("pushed", place, commit=commit, files=json.dumps(files, sort_keys=True), is_valid=is_valid)

    def gone(self, place: Place) -> int:
        return self._write("gone", place)

    def stale(self) -> int:
        """From now on a source may answer what was true before the last push."""
        return self._write("stale", EVERYWHERE)

    def edited(self, place: Place) -> int:
        """From now on somebody changes rows by hand; until they are `healed` nobody knows what is read."""
        return self._write("edit", place)

    def healed(self, place: Place) -> int:
        return self._write("edit", place)

    def close(self) -> None:
        self._file.close()

    def _write(self, what: str, place: Place, **more: object) -> int:
        with self._lock:
            self.number += 1
            line = {"what": what, "number": self.number, "repo": place[0], "branch": place[1], **more}
            self._file.write(json.dumps(line).encode() + b"\n")
            return self.number


class Known:
    """What the ledger says, as far as it was followed. Some 400 bytes for each push."""

    def __init__(self, path: Path) -> None:
        self.commits: dict[str, Commit] = {}
        self.pushed: dict[Place, set[str]] = defaultdict(set)
        self.places: list[Place] = []
        self.gone: dict[Place, int] = defaultdict(int)
        """The number of each branch's last deletion."""
        self.stale = 0
        self.edits: dict[Place, int] = defaultdict(int)
        """Counts beginnings and ends: an odd one is an edit that was not healed yet."""
        self._file = path.open("rb")
        self._rest = b""
        self._read = 0
        self._lock = Lock()

    def catch_up(self) -> None:
        """Afterwards everything is known that was written before this call."""
        with self._lock:
            if os.fstat(self._file.fileno()).st_size == self._read:
                return
            told = self._file.read()
            self._read += len(told)
            *lines, self._rest = (self._rest + told).split(b"\n")
            for line in lines:
                self._learn(json.loads(line))

    def close(self) -> None:
        self._file.close()

    def _learn(self, event: dict[str, Any]) -> None:
        place, number = (event["repo"], event["branch"]), event["number"]
        match event["what"]:
            case "pushed":
                if place not in self.pushed:
                    self.places.append(place)
                self.pushed[place].add(event["commit"])
                self.commits.setdefault(event["commit"], Commit(number, event["files"], event["is_valid"]))
            case "gone":
                self.gone[place] = number
            case "stale":
                self.stale = number
            case "edit":
                self.edits[place] += 1
