"""Who may end a sync, and what a sync may know: nothing that was read before its claim, nobody without it."""

from contextlib import closing
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import TupleRow
from support.stores import PATIENCE, Store, started
from support.world import MAIN, NOT_YAML, Team, Watched, budget, workflow

from shared import examination
from shared.model import (
    Claim,
    Condition,
    DeferReason,
    Deferred,
    Outcome,
    Rejected,
    Replaced,
    SyncId,
    Trigger,
    Unchanged,
)
from shared.postgres.configs import PostgresConfigStore
from shared.postgres.pool import Pool
from shared.postgres.queue import LEASE
from shared.rules import Rules

A = "a_runtime.yaml"


class TestALostLease:
    """A sync has read everything, and stalls until its lease has ended; another one ends meanwhile. Then it wakes."""

    @pytest.fixture
    def team(self, team: Team) -> Team:
        self.first = team.git.commit({A: workflow(1)})
        team.sync()
        team.git.commit({A: workflow(2)})
        return team

    def overtake(self, team: Team, store: Store) -> None:
        store.expire_leases()
        self.other = team.sync()
        self.told = team.status(), team.numbers()

    def test_it_writes_nothing_over_a_verdict_that_nothing_had_changed(self, team: Team, store: Store) -> None:
        def meanwhile() -> None:
            team.git.set_head("main", self.first)
            self.overtake(team, store)

        team.world.store.before["replace"].append(meanwhile)
        outcome = team.sync()
        assert isinstance(self.other, Unchanged)
        assert reason(outcome) is DeferReason.CLAIM_LOST
        assert (team.status(), team.numbers()) == self.told
        assert team.numbers() == {A: "workflow-1"}

    def test_it_writes_nothing_over_a_rejection(self, team: Team, store: Store) -> None:
        def meanwhile() -> None:
            team.git.commit({A: NOT_YAML})
            self.overtake(team, store)

        team.world.store.before["replace"].append(meanwhile)
        team.sync()
        assert isinstance(self.other, Rejected)
        assert (team.status(), team.numbers()) == self.told

    def test_it_writes_nothing_over_a_newer_commit_with_the_same_configs(self, team: Team, store: Store) -> None:
        def meanwhile() -> None:
            team.git.set_head("main", self.first)
            self.newest = team.git.commit({"README.md": b"# news"})
            self.overtake(team, store)

        team.world.store.before["replace"].append(meanwhile)
        team.sync()
        assert isinstance(self.other, Unchanged)
        assert (team.status(), team.numbers()) == self.told
        assert team.status().commit_id == self.newest

    def test_it_writes_nothing_into_a_repository_that_was_registered_anew(self, team: Team) -> None:
        def meanwhile() -> None:
            current = team.world.registry.get(team.repo_id)
            team.world.registrar.remove(team.repo_id, expected=current.revision)
            team.world.registrar.put(team.repo_id, current.registration, expected=None)

        team.world.store.before["replace"].append(meanwhile)
        assert reason(team.sync()) is DeferReason.CLAIM_LOST
        assert team.served() is None

    def test_its_failure_is_not_recorded_over_a_newer_outcome(self, team: Team, store: Store) -> None:
        team.drop()

        def meanwhile() -> None:
            team.restore()
            self.overtake(team, store)

        team.world.queue.before["settle"].append(meanwhile)
        team.sync()
        assert isinstance(self.other, Replaced)
        assert team.status().condition is Condition.READY
        assert (team.status(), team.numbers()) == self.told

    def test_its_failure_does_not_release_the_claim_of_another(self, team: Team, store: Store) -> None:
        team.drop()

        def meanwhile() -> None:
            team.restore()
            store.expire_leases()
            store.claim(repo_id=team.repo_id)

        team.world.queue.before["settle"].append(meanwhile)
        team.sync()
        assert reason(team.run()) is DeferReason.BUSY

    def test_it_still_ends_well_when_nobody_took_over(self, team: Team, store: Store) -> None:
        team.world.store.before["replace"].append(store.expire_leases)
        assert isinstance(team.sync(), Replaced)
        assert team.numbers() == {A: "workflow-2"}


def reason(outcome: Outcome) -> DeferReason | None:
    return outcome.reason if isinstance(outcome, Deferred) else None


class Uncommitted:
    """In the place of a pool: what is written through it is not committed yet."""

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        self._connection = connection

    def write(self, statement: Any, parameters: Any, *, prepare: bool | None = None) -> list[TupleRow]:
        return self._connection.execute(statement, parameters).fetchall()


def test_what_is_stored_is_read_after_the_claim_that_waited_for_another_sync_to_commit(
    team: Team, store: Store
) -> None:
    first = team.git.commit({A: workflow(1)})
    team.sync()
    second = team.git.commit({A: workflow(2)})
    world = team.world
    claim = world.queue.claim(team.repo_id, MAIN, SyncId(uuid4()), Trigger.WEBHOOK)
    stored = world.store.stored(team.repo_id, MAIN)
    found = world.examiner.at_head(team.repository, second, stored, budget().deadline, lambda: None)
    store.expire_leases()
    with closing(psycopg.connect(store.conninfo)) as connection:
        ending = PostgresConfigStore(cast(Pool, Uncommitted(connection)))
        ending.replace(claim, found.judgement, found.change, serve=second)
        team.git.set_head("main", first)
        next_one = started(team.run)
        store.wait_for_lock()
        connection.commit()
    assert isinstance(next_one.result(PATIENCE), Replaced)
    assert team.numbers() == {A: "workflow-1"}


def test_a_sync_claims_then_reads_registration_then_head_then_what_is_stored(team: Team) -> None:
    order: list[str] = []
    world = team.world
    registry = Watched(world.registry)
    world.registry = cast(Any, registry)
    world.use(Rules.shipped())
    for watched, name in [(world.queue, "claim"), (registry, "get"), (world.git, "head"), (world.store, "stored")]:
        watched.before[name].append(lambda name=name: order.append(name))  # type: ignore[misc]
    team.git.commit({A: workflow(1)})
    team.run()
    assert order == ["claim", "get", "head", "stored"]


def test_a_head_that_moves_after_the_claim_is_the_one_that_is_served(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.world.queue.after["claim"].append(lambda: team.git.commit({A: workflow(2)}))
    team.sync()
    assert team.numbers() == {A: "workflow-2"}


def test_the_heads_that_a_sweep_saw_decide_whether_to_sync_and_never_to_what(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.git.commit({A: workflow(2)})

    def newer_push() -> None:
        team.git.commit({A: workflow(3)})
        team.sync(trigger=Trigger.WEBHOOK)

    team.world.git.after["heads"].append(newer_push)
    assert team.world.sweep().moved == 1
    assert team.numbers() == {A: "workflow-3"}
    assert team.outcomes() == ["replaced", "replaced", "unchanged"]


class TestTheLease:
    def test_it_is_renewed_before_every_step_so_that_long_steps_lose_it_to_nobody(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        others: list[Outcome] = []

        def take_long() -> None:
            team.world.execute("UPDATE branches SET lease_until = lease_until - interval '80 seconds'")
            others.append(team.run())

        for step in ("head", "tree", "blobs"):
            team.world.git.before[step].append(take_long)
        assert isinstance(team.sync(), Replaced)
        assert list(map(reason, others)) == [DeferReason.BUSY] * 3
        assert team.outcomes() == ["replaced"]

    def test_it_is_renewed_while_files_take_long_to_judge(self, team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(examination, "SECONDS_BETWEEN", 0.0)
        team.git.commit({f"{number}_runtime.yaml": workflow(number) for number in range(5)})
        team.sync()
        assert team.world.queue.calls["renew"] >= 5

    def test_a_claim_that_had_to_wait_has_a_whole_one(self, team: Team, store: Store) -> None:
        with store.transaction() as execute:
            execute("UPDATE branches SET requested = requested + 1")
            claiming = started(lambda: store.claim(repo_id=team.repo_id))
            store.wait_for_lock()
            [(now,)] = execute("SELECT clock_timestamp()")
        assert isinstance(claiming.result(PATIENCE), Claim)
        assert store.branch(repo_id=team.repo_id)["lease_until"] >= now + LEASE


def test_a_sync_that_finds_its_branch_busy_writes_nothing(team: Team, store: Store) -> None:
    team.git.commit({A: workflow(1)})
    seen: list[object] = []

    def meanwhile() -> None:
        seen.append(store.state())
        seen.append(reason(team.run()))
        seen.append(store.state())

    team.world.store.before["replace"].append(meanwhile)
    assert isinstance(team.sync(), Replaced)
    before, why, after = seen
    assert why is DeferReason.BUSY
    assert before == after
