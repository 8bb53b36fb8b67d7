"""A whole sync of a real Git repository into a real database, cold and after one file changed.

The plain way does the same for both: it cannot tell what changed.
"""

import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

if sys.platform != "win32":
    import resource

import psycopg
from tests.support.git import GitRepository

from benchmarks import plain, workflows
from benchmarks.comparison import Comparison, Table, Work, times_less
from benchmarks.stage import Stage, Team
from shared.model import Outcome, Replaced, Repository

_LARGEST = 10_000
_COLD_ROUNDS = 3
_PUSH_ROUNDS = 9
_PLAIN_ROUNDS = 3


class Cost(NamedTuple):
    """Seconds. `cpu` is this process's, with all its threads; `children` that of the git processes it ran."""

    wall: float
    cpu: float
    children: float


def run(stage: Stage) -> Iterator[Table]:
    for count in (100, 300) if stage.quick else (1_000, _LARGEST):
        # One plain sync of the largest takes minutes, and differs little from the next.
        plain_rounds = 1 if count == _LARGEST else _PLAIN_ROUNDS
        with stage.team() as team:
            git = stage.repository(count)
            cold = _median([_cold(team, git, count) for _ in range(_COLD_ROUNDS)])
            push = _median(_pushes(team, git, count))
            with psycopg.connect(team.conninfo, autocommit=True) as connection:
                usual = _median(_plain(connection, git, plain_rounds))
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


def _cold(team: Team, git: GitRepository, count: int) -> Cost:
    repository = team.register(git.path)
    outcomes: list[Outcome] = []
    cost = measured(lambda: outcomes.append(team.sync(repository)))
    _check(outcomes[0], count)
    team.remove(repository)
    return cost


def _pushes(team: Team, git: GitRepository, count: int) -> list[Cost]:
    repository = team.register(git.path)
    _check(team.sync(repository), count)
    return [_push(team, git, repository, number % count, number) for number in range(1, _PUSH_ROUNDS + 1)]


def _push(team: Team, git: GitRepository, repository: Repository, number: int, revision: int) -> Cost:
    git.commit({workflows.path(number): workflows.content(number, revision)})
    team.ask(repository)
    outcomes: list[Outcome] = []
    cost = measured(lambda: outcomes.append(team.sync(repository)))
    _check(outcomes[0], 1)
    return cost


def _plain(connection: plain.Connection, git: GitRepository, rounds: int) -> list[Cost]:
    connection.execute(plain.TABLE)
    validate = plain.validator()
    return [measured(lambda: plain.sync(connection, git.path, validate)) for _ in range(rounds)]


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


def _check(outcome: Outcome, written: int) -> None:
    assert isinstance(outcome, Replaced), outcome
    assert outcome.written == written, outcome
