"""A worker whose clock jumps by an hour while it works: times are the database's, and budgets count ticks."""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from email.utils import formatdate
from typing import Any
from uuid import uuid4

import pytest
from support.killing import Killer, killer
from support.stores import Store
from support.world import MAIN, Team, workflow

from shared.azure_devops.trouble import pause
from shared.model import Claim, SyncId, Trigger
from shared.postgres.queue import BACK_OFF, LEASE

A = "a_runtime.yaml"
HOUR = 3600.0


@pytest.fixture(scope="module")
def killers() -> Iterator[Killer]:
    with killer() as one:
        yield one


@pytest.fixture(params=[-HOUR, HOUR], ids=["late", "early"])
def clock(request: pytest.FixtureRequest) -> float:
    return float(request.param)


class Worker:
    """Another process, with its own idea of the time."""

    def __init__(self, team: Team, database: str, killers: Killer, clock: float) -> None:
        self.team = team
        self.store = Store(team.world.pool, database)
        self._database = database
        self._killers = killers
        self._clock = clock

    def works(self, work: str, *arguments: str, kill_at: int | None = None) -> Sequence[str]:
        where = self._database, self.team.world.folder
        return self._killers.run(*where, work, *arguments, kill_at=kill_at, clock=self._clock).steps

    def syncs(self, kill_at: int | None = None) -> Sequence[str]:
        return self.works("sync", self.team.repo_id, kill_at=kill_at)

    def now(self) -> datetime:
        [(now,)] = self.store.sql("SELECT clock_timestamp()")
        return now  # type: ignore[no-any-return]

    def row(self, repo_id: str) -> Any:
        return self.store.branch(repo_id=repo_id)


@pytest.fixture
def worker(team: Team, database: str, killers: Killer, clock: float) -> Worker:
    team.git.commit({A: workflow(1)})
    return Worker(team, database, killers, clock)


def test_a_lease_of_another_worker_holds(worker: Worker, team: Team) -> None:
    claim = team.world.queue.claim(team.repo_id, MAIN, SyncId(uuid4()), Trigger.MANUAL)
    assert isinstance(claim, Claim)
    assert worker.syncs() == ["claim", "done"]
    assert team.outcomes() == []


@pytest.mark.parametrize(("step", "name"), [(1, "get"), (3, "head")], ids=["taken", "renewed"])
def test_its_own_lease_ends_when_the_database_says_so(worker: Worker, team: Team, step: int, name: str) -> None:
    begun = worker.now()
    assert worker.syncs(kill_at=step)[-1] == name
    assert begun + LEASE < worker.row(team.repo_id)["lease_until"] <= worker.now() + LEASE
    team.world.sweep()
    assert team.numbers() is None, "it is busy"
    worker.store.expire_leases()
    team.world.let_back_off_pass()
    team.world.sweep()
    assert team.numbers() == {A: "workflow-1"}


def test_a_budget_does_not_end_with_a_jump_and_the_stamps_are_right(worker: Worker, team: Team) -> None:
    begun = worker.now()
    assert worker.syncs()[-1] == "done"
    assert team.numbers() == {A: "workflow-1"}
    [record] = team.world.journal.syncs(team.repo_id, MAIN, 9)
    assert begun < record.started_at < record.ended_at < worker.now()
    for moment in (team.status().since, team.status().synced_at):
        assert moment is not None
        assert begun < moment < worker.now()


def test_what_failed_is_due_after_its_back_off(worker: Worker, team: Team) -> None:
    team.drop()
    begun = worker.now()
    worker.syncs()
    due = worker.row(team.repo_id)["next_attempt_at"]
    assert begun + BACK_OFF / 2 < due <= worker.now() + BACK_OFF
    team.world.execute("UPDATE branches SET next_attempt_at = clock_timestamp() + interval '10 minutes'")
    assert "claim_due" in worker.works("sweep")
    assert team.outcomes() == ["failed"]
    team.restore()
    team.world.let_back_off_pass()
    worker.works("sweep")
    assert team.outcomes() == ["failed", "replaced"]


def test_a_sweep_leaves_another_alone_and_forgets_nothing_too_early(worker: Worker, team: Team) -> None:
    team.sync()
    assert team.world.sweeps.begin(uuid4(), "timer", timedelta(minutes=4))
    assert worker.works("sweep") == ["begin", "done"]
    team.world.execute("UPDATE sweeps SET lease_until = clock_timestamp() - interval '1 second'")
    team.world.execute("UPDATE syncs SET ended_at = clock_timestamp() - interval '29 days 23 hours 30 minutes'")
    # Nothing is due for half an hour.
    team.world.execute("UPDATE repositories SET heads_checked_at = clock_timestamp() + interval '30 minutes'")
    team.world.execute("UPDATE branches SET deep_synced_at = clock_timestamp() + interval '30 minutes'")
    steps = worker.works("sweep")
    assert "prune" in steps
    assert "heads" not in steps
    assert team.outcomes() == ["replaced"]


def test_a_pause_until_a_moment_is_as_long_as_it_is_for_who_names_it(clock: float) -> None:
    theirs = time.time() + clock
    date = {"Date": formatdate(theirs, usegmt=True)}
    assert pause({**date, "Retry-After": formatdate(theirs + 90, usegmt=True)}) == timedelta(seconds=90)
    assert 89 <= pause({**date, "X-RateLimit-Reset": str(theirs + 90)}).total_seconds() <= 91
