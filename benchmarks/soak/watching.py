"""How soon a push is served, by the journal; and whether every branch serves what it has to, when all is quiet."""

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import psycopg

from benchmarks.soak.background import Background
from benchmarks.soak.ledger import Place
from benchmarks.soak.people import Push, Snapshot, Team
from benchmarks.soak.words import ABSENT, LASTING, READER_KEY

_POLL_SECONDS = 0.25
_OVERLAP_SECONDS = 10.0
"""How much later a row of the journal may be seen than its time of ending says."""
_JOURNAL = """
SELECT sync_id, repo_id, branch, commit_id, extract(epoch FROM ended_at)::float8 FROM syncs
WHERE ended_at > to_timestamp(%s) AND outcome IN ('replaced', 'unchanged', 'rejected')
"""
_BRANCHES = "SELECT repo_id, branch, commit_id, judged_commit, condition, reason, message FROM branches"


@dataclass
class _Trouble:
    """A fault. It counts until every push from before its end is served."""

    started: float
    last: int | None = None
    over: float | None = None

    def touches(self, begin: float, end: float) -> bool:
        return self.started <= end and (self.over is None or self.over >= begin)


class Watch(Background):
    """Times are seconds from a push until the sync that served it, or something newer, had ended."""

    def __init__(self, conninfo: str, is_disturbed: Callable[[tuple[str, int]], bool]) -> None:
        super().__init__()
        self.calm: list[float] = []
        self.troubled: list[float] = []
        self._conninfo = conninfo
        self._is_disturbed = is_disturbed
        self._lock = Lock()
        self._pending: dict[Place, deque[tuple[float, Push]]] = defaultdict(deque)
        self._troubles: deque[_Trouble] = deque(maxlen=500)
        self._number = 0

    def expect(self, push: Push) -> None:
        with self._lock:
            self._pending[push.place].append((time.time(), push))
            self._number = push.number

    @contextmanager
    def trouble(self) -> Iterator[None]:
        one = _Trouble(time.time())
        with self._lock:
            self._troubles.append(one)
        try:
            yield
        finally:
            with self._lock:
                one.last = self._number

    @property
    def is_troubled(self) -> bool:
        with self._lock:
            return any(one.over is None for one in self._troubles)

    def waiting(self) -> int:
        with self._lock:
            return sum(map(len, self._pending.values()))

    def forget(self) -> int:
        """What still waits although everything is served: pushes that led back to what was served. How many."""
        with self._lock:
            count = sum(map(len, self._pending.values()))
            self._pending.clear()
            return count

    def _run(self) -> None:
        since = time.time()
        seen: dict[Any, float] = {}
        while not self._ending.wait(_POLL_SECONDS):
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as connection:
                    while not self._ending.wait(_POLL_SECONDS):
                        rows = connection.execute(_JOURNAL, (since - _OVERLAP_SECONDS,)).fetchall()
                        for sync_id, repo_id, branch, commit, ended in rows:
                            if sync_id not in seen:
                                seen[sync_id] = ended
                                self._served((repo_id, branch), commit, ended)
                        since = max([since, *seen.values()])
                        seen = {one: at for one, at in seen.items() if at > since - 2 * _OVERLAP_SECONDS}
                        self._end_troubles()
            except psycopg.Error:
                # The database is one of the things that are made to fail.
                continue

    def _served(self, place: Place, commit: str, ended: float) -> None:
        with self._lock:
            pending = self._pending[place]
            told = [number for number, (at, push) in enumerate(pending) if (push.commit or ABSENT) == commit]
            for _ in range(told[-1] + 1 if told else 0):
                at, push = pending.popleft()
                touched = any(one.touches(at, ended) for one in self._troubles)
                is_troubled = touched or self._is_disturbed((place[0], push.push_id))
                (self.troubled if is_troubled else self.calm).append(max(0.0, ended - at))

    def _end_troubles(self) -> None:
        with self._lock:
            oldest = min((pending[0][1].number for pending in self._pending.values() if pending), default=None)
            for one in self._troubles:
                if one.over is None and one.last is not None and (oldest is None or oldest > one.last):
                    one.over = time.time()


def unsettled(conninfo: str, teams: Sequence[Team]) -> list[str]:
    """The branches that do not serve what they have to, each with why. Raises `psycopg.Error`."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        rows = {(row[0], row[1]): row[2:] for row in connection.execute(_BRANCHES)}
    return [
        f"{team.name} {branch}: {problem}"
        for team in teams
        for branch, head in team.heads.items()
        if (problem := _problem(rows.get((team.repo_id, branch)), team, branch, head))
    ]


def _problem(row: Sequence[Any] | None, team: Team, branch: str, head: Snapshot | None) -> str | None:
    if row is None:
        # A branch that never was is not known, and needs not be.
        return None if head is None else f"nothing is known of it, and its head is {head.commit[:8]}"
    served, judged, condition, reason, message = row
    told = f"serves {served}, judged {judged}, {condition} ({reason}): {message}"
    if head is None:
        return None if served is None and judged in (None, ABSENT) else f"does not exist, and {told}"
    if head.is_valid:
        is_right = served == judged == head.commit and condition == "Ready"
    else:
        is_good = served in team.accepted[branch] or (served is None and branch not in LASTING)
        is_right = judged == head.commit and condition == "Invalid" and is_good
    return None if is_right else f"its head is {head.commit}, valid: {head.is_valid}, and it {told}"


def wrongly_served(url: str, teams: Sequence[Team]) -> Iterator[str]:
    """What a server answers for each branch, against the head. For a moment in which nothing moves."""
    for team in teams:
        for branch, head in team.heads.items():
            if head is None or head.is_valid:
                found = _listed(url, team.repo_id, branch)
                wanted = None if head is None else dict(head.files)
                if found != wanted:
                    yield f"{team.name} {branch} at {url} is {found}, and its head {wanted}"


def _listed(url: str, repo_id: str, branch: str) -> dict[str, int] | None:
    asked = Request(  # noqa: S310
        f"{url}/runtimes/{repo_id}/{quote(branch)}", headers={"Authorization": f"Bearer {READER_KEY}"}
    )
    try:
        with urlopen(asked, timeout=30) as response:  # noqa: S310
            items = json.load(response)
    except HTTPError as error:
        with error:
            if error.code == 404:
                return None
        raise
    return {item["filepath"]: int(item["config"]["workflow"]["id"].removeprefix("workflow-")) for item in items}
