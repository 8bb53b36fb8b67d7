"""Making a stored set equal to another: the fenced statement, against DELETE and writing all in one transaction."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias
from uuid import uuid4

import psycopg

from benchmarks import plain, workflows
from benchmarks.comparison import Comparison, Table, Target, Work, below, seconds, times_less
from benchmarks.stage import MAIN, Stage, Team
from shared.model import (
    Change,
    Claim,
    CommitId,
    Judgement,
    Report,
    Repository,
    Ruleset,
    RuntimeConfig,
    SyncId,
    TreeId,
    Trigger,
)
from shared.postgres.configs import PostgresConfigStore

Meter: TypeAlias = Callable[[Work], float]
Figures: TypeAlias = tuple[float, float, float, float]
"""The statement; the same with claim and stored ids; DELETE plus INSERT; DELETE plus COPY."""

SCENARIOS = ("none", "one", "all")
_LARGEST = 10_000
_JUDGEMENT = Judgement(CommitId("c" * 40), TreeId("d" * 40), Ruleset("e" * 64), Report())


def run(stage: Stage) -> Iterator[Table]:
    for count in (10, 100) if stage.quick else (10, 1_000, _LARGEST):
        rounds = 5 if stage.quick or count == _LARGEST else 15
        with _sets(stage, count) as sets:
            times = {scenario: sets.measure(scenario, seconds, rounds) for scenario in SCENARIOS}
            with stage.countable_wal():
                logs = {scenario: sets.measure(scenario, sets.wal, 5) for scenario in SCENARIOS}
        yield Table(f"replace, {count:,} files: the statement", list(_statement(times, count)))
        yield Table(
            f"replace, {count:,} files: with the claim and reading what is stored before it", list(_whole(times))
        )
        yield Table(f"replace, {count:,} files: write-ahead log", list(_wal(logs)))


def _statement(times: dict[str, Figures], count: int) -> Iterator[Comparison]:
    for scenario, (ours, _, insert, copy) in times.items():
        target = times_less(100) if count == _LARGEST and scenario != "all" else None
        yield Comparison(f"{scenario} changed, DELETE plus INSERT", ours, insert, target)
        yield Comparison(f"{scenario} changed, DELETE plus COPY", ours, copy)


def _whole(times: dict[str, Figures]) -> Iterator[Comparison]:
    for scenario, (_, ours, insert, _) in times.items():
        yield Comparison(f"{scenario} changed, DELETE plus INSERT", ours, insert)


def _wal(logs: dict[str, Figures]) -> Iterator[Comparison]:
    targets: dict[str, Target] = {"none": below(1_000), "one": below(4_000)}
    for scenario, (ours, _, insert, copy) in logs.items():
        yield Comparison(f"{scenario} changed, DELETE plus INSERT", ours, insert, targets.get(scenario), unit="B")
        yield Comparison(f"{scenario} changed, DELETE plus COPY", ours, copy, unit="B")


@dataclass
class _Sets:
    """The same set, stored both ways."""

    team: Team
    repository: Repository
    connection: plain.Connection
    current: tuple[RuntimeConfig, ...]
    _revisions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.store = PostgresConfigStore(self.team.app.pool)
        self.connection.execute(plain.TABLE)
        self._end(self._claim(), self.current)
        plain.delete_copy(self.connection, [(config.path, config.text) for config in self.current])

    def measure(self, scenario: str, meter: Meter, rounds: int) -> Figures:
        """Medians. In each round, ours is repeated where it is so short that a hiccup of the disk would hide it."""
        repeats = 1 if scenario == "all" else 5
        samples: tuple[list[float], ...] = ([], [], [], [])
        for _ in range(rounds):
            # Neither way pays for the dead rows of the rounds before.
            self.connection.execute("VACUUM runtime_configs, plain_configs, branches, syncs")
            samples[0].extend([self._statement(scenario, meter) for _ in range(repeats)])
            samples[1].extend([self._whole(scenario, meter) for _ in range(repeats)])
            samples[2].append(self._plain(plain.delete_insert, meter))
            samples[3].append(self._plain(plain.delete_copy, meter))
        statement, whole, insert, copy = map(median, samples)
        return statement, whole, insert, copy

    def _statement(self, scenario: str, meter: Meter) -> float:
        self.current = self._next(scenario)
        claim, different = self._claim(), self._different(self.current)
        return meter(lambda: self._end(claim, different))

    def _whole(self, scenario: str, meter: Meter) -> float:
        self.current = self._next(scenario)
        return meter(lambda: self._end(self._claim(), self._different(self.current)))

    def _plain(self, way: Callable[[plain.Connection, Iterable[plain.Row]], None], meter: Meter) -> float:
        rows = [(config.path, config.text) for config in self.current]
        return meter(lambda: way(self.connection, rows))

    def wal(self, work: Work) -> float:
        """Bytes that the server logged meanwhile."""
        before = self._position()
        work()
        return self._position() - before

    def _position(self) -> int:
        query = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
        return int(self.connection.execute(query).fetchall()[0][0])

    def _next(self, scenario: str) -> tuple[RuntimeConfig, ...]:
        if scenario == "none":
            return self.current
        revision, count = next(self._revisions), len(self.current)
        if scenario == "one":
            return (*self.current[:-1], workflows.config(count - 1, revision))
        return workflows.configs(count, revision)

    def _different(self, configs: tuple[RuntimeConfig, ...]) -> tuple[RuntimeConfig, ...]:
        """Those that are not stored as they are."""
        stored = self.store.stored(self.repository.repo_id, MAIN)
        known = {path: row.blob_id for path, row in stored.items()}
        return tuple([config for config in configs if known.get(config.path) != config.blob_id])

    def _claim(self) -> Claim:
        claim = self.team.app.queue.claim(self.repository.repo_id, MAIN, SyncId(uuid4()), Trigger.MANUAL)
        assert isinstance(claim, Claim)
        return claim

    def _end(self, claim: Claim, different: tuple[RuntimeConfig, ...]) -> None:
        settled = self.store.replace(claim, _JUDGEMENT, Change(different), serve=_JUDGEMENT.commit_id)
        assert settled.written == len(different)


@contextmanager
def _sets(stage: Stage, count: int) -> Iterator[_Sets]:
    with stage.team() as team, psycopg.connect(team.conninfo, autocommit=True) as connection:
        yield _Sets(team, team.register("/nowhere"), connection, workflows.configs(count))
