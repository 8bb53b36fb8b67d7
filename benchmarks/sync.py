"""A whole sync of a real Git repository into a real database, cold and after one file changed.

The plain way does the same for both: it cannot tell what changed.
"""

import itertools
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

if sys.platform != "win32":
    import resource

import psycopg

from benchmarks import plain, workflows
from benchmarks.comparison import Comparison, Table, Work, times_less
from benchmarks.stage import Stage, Team
from shared.model import Outcome, Replaced, Repository
from tests.support.git import GitRepository

_LARGEST = 10_000
_ROUNDS = 3
_PUSHES = 7
"""In each round."""


class Cost(NamedTuple):
    """Seconds. `cpu` is this process's, with all its threads; `children` that of the git processes it ran."""

    wall: float
    cpu: float
    children: float


def run(stage: Stage) -> Iterator[Table]:
    for count in (100, 300) if stage.quick else (1_000, _LARGEST):
        git = stage.repository(count)
        with stage.team() as team:
            cold, push = _ours(team, git, count)
            with psycopg.connect(team.conninfo, autocommit=True) as connection:
                # One plain sync of the largest takes minutes, and differs little from the next.
                usual = _plain(connection, git, rounds=1 if count == _LARGEST else _ROUNDS)
        yield Table(f"sync, {count:,} files, cold", list(_against(cold, usual)))
        yield Table(f"sync, {count:,} files, one changed", list(_against(push, usual)))
        target = times_less(50) if count == _LARGEST else None
        rows = [
            Comparison("wall", push.wall, cold.wall),
            Comparison("CPU of the syncing process", push.cpu, cold.cpu, target),
        ]
        yield Table(f"sync, {count:,} files, one changed (ours), and our own cold sync (plain)", rows)


def _against(ours: Cost, usual: Cost) -> Iterator[Comparison]:
    yield Comparison("wall", ours.wall, usual.wall)
    yield Comparison("CPU of the syncing process", ours.cpu, usual.cpu)
    yield Comparison("CPU of its git processes", ours.children, usual.children)


def _ours(team: Team, git: GitRepository, count: int) -> tuple[Cost, Cost]:
    """Cold, and after one file changed; in turn, so that what else the machine does strikes both."""
    colds, pushes = [], []
    revisions = itertools.count(1)
    for _ in range(_ROUNDS):
        repository = team.register(git.path)
        colds.append(_synced(team, repository, count))
        for revision in itertools.islice(revisions, _PUSHES):
            number = revision % count
            git.commit({workflows.path(number): workflows.content(number, revision)})
            team.ask(repository)
            pushes.append(_synced(team, repository, 1))
        team.remove(repository)
    return _median(colds), _median(pushes)


def _synced(team: Team, repository: Repository, written: int) -> Cost:
    outcomes: list[Outcome] = []
    cost = measured(lambda: outcomes.append(team.sync(repository)))
    outcome = outcomes[0]
    assert isinstance(outcome, Replaced), outcome
    assert outcome.written == written, outcome
    return cost


def _plain(connection: plain.Connection, git: GitRepository, rounds: int) -> Cost:
    connection.execute(plain.TABLE)
    validate = plain.validator()
    return _median([measured(lambda: plain.sync(connection, git.path, validate)) for _ in range(rounds)])


def measured(work: Work) -> Cost:
    before = Cost(time.perf_counter(), time.process_time(), _children())
    work()
    after = Cost(time.perf_counter(), time.process_time(), _children())
    return Cost(*(end - start for end, start in zip(after, before, strict=True)))


def _children() -> float:
    """Seconds of CPU that ended child processes took; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0.0
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(median(column) for column in zip(*costs, strict=True)))
