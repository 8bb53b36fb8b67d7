"""How a sync ends: once, in one statement, with everything that was asked for meanwhile still asked for."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import TupleRow
from support.stores import Store, started
from support.world import MAIN, Team, World, workflow

from shared.errors import DatabaseUnavailable
from shared.model import Condition, DeferReason, Deferred, Failed, Outcome, Replaced, Unchanged
from shared.postgres.pool import Pool

A = "a_runtime.yaml"


class Killed(BaseException):
    """No outcome, no clean-up: as if the process was killed."""


def die() -> None:
    raise Killed


def lose_the_connection() -> None:
    raise DatabaseUnavailable("The connection is gone.")


class TestRequestsMeanwhile:
    def test_one_that_comes_in_during_a_sync_is_answered_by_the_same_run(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        busy: list[Outcome] = []

        def push() -> None:
            team.git.commit({A: workflow(2)})
            busy.append(team.sync())

        team.world.store.before["replace"].append(push)
        team.sync()
        [other] = busy
        assert isinstance(other, Deferred)
        assert other.reason is DeferReason.BUSY
        assert team.numbers() == {A: "workflow-2"}
        assert not team.status().is_waiting
        assert team.outcomes() == ["replaced", "replaced"]

    def test_one_that_is_committed_while_the_sync_is_ending_is_not_lost(self, team: Team, store: Store) -> None:
        team.git.commit({A: workflow(1)})

        def push() -> None:
            connection = psycopg.connect(store.conninfo)
            connection.execute("UPDATE branches SET requested = requested + 1")

            def commit() -> None:
                with closing(connection):
                    store.wait_for_lock()
                    team.git.commit({A: workflow(2)})
                    connection.commit()

            started(commit)

        team.world.store.before["replace"].append(push)
        team.sync()
        assert team.numbers() == {A: "workflow-2"}
        assert not team.status().is_waiting

    def test_one_that_comes_in_during_a_failing_sync_is_not_made_to_wait(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.drop()

        def push() -> None:
            team.restore()
            team.ask()

        team.world.queue.before["settle"].append(push)
        assert isinstance(team.sync(), Failed)
        assert team.world.sweep().outcomes == {"Replaced": 1}

    def test_a_branch_that_is_pushed_to_without_end_does_not_keep_its_worker_for_ever(self, team: Team) -> None:
        pushes = iter(range(100))

        def push() -> None:
            team.git.commit({A: workflow(next(pushes))})
            team.ask()
            team.world.store.before["replace"].append(push)

        push()
        team.run()
        assert len(team.outcomes()) == 3
        assert team.status().is_waiting


def test_a_worker_that_dies_once_its_set_is_live_leaves_nothing_to_be_recorded(team: Team) -> None:
    commit = team.git.commit({A: workflow(1)})
    team.world.store.after["replace"].append(die)
    with pytest.raises(Killed):
        team.sync()
    status = team.status()
    assert (status.commit_id, status.condition, status.is_waiting) == (commit, Condition.READY, False)
    [record] = team.world.journal.syncs(team.repo_id, MAIN, 9)
    assert (record.outcome, record.commit_id, record.generation) == ("replaced", commit, status.generation)
    assert isinstance(team.sync(), Unchanged)


class Cut(Pool):
    """Loses its connection just after the server committed what ends the next sync, once asked to."""

    is_due = False

    def _run(
        self, statement: LiteralString, parameters: Mapping[str, Any] | None, **how: bool | None
    ) -> list[TupleRow]:
        rows = super()._run(statement, parameters, **how)  # type: ignore[arg-type]
        if self.is_due and "DELETE FROM runtime_configs" in statement:
            self.is_due = False
            raise DatabaseUnavailable("The connection is gone.") from psycopg.OperationalError("no answer came")
        return rows


class TestALostConnection:
    def test_after_the_commit_the_sync_ends_with_its_true_outcome(self, team: Team) -> None:
        commit = team.git.commit({A: workflow(1)})
        team.world.store.after["replace"].append(lose_the_connection)
        assert team.sync() == Replaced(commit, team.status().generation, 1, 0)
        assert team.outcomes() == ["replaced"]

    def test_before_the_commit_the_request_stays_open(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.world.store.before["replace"].append(lose_the_connection)
        assert isinstance(team.sync(), Failed)
        assert (team.served(), team.status().is_waiting, team.outcomes()) == (None, True, ["failed"])

    def test_nobody_repeats_the_write_and_takes_its_own_success_for_a_lost_claim(
        self, database: str, tmp_path: Path
    ) -> None:
        with closing(Cut(database)) as pool:
            team = World(pool, tmp_path).repository()
            commit = team.git.commit({A: workflow(1)})
            pool.is_due = True
            assert team.sync() == Replaced(commit, team.status().generation, 1, 0)


def test_each_pass_of_a_run_is_one_record_with_its_own_outcome(team: Team) -> None:
    commit = team.git.commit({A: workflow(1)})

    def push() -> None:
        team.ask()
        team.world.queue.after["claim"].append(team.drop)

    team.world.store.before["replace"].append(push)
    assert isinstance(team.sync(), Failed)
    failed, replaced = team.world.journal.syncs(team.repo_id, MAIN, 9)
    assert (replaced.outcome, replaced.commit_id) == ("replaced", commit)
    assert (failed.outcome, failed.from_request) == ("failed", replaced.to_request)
    assert failed.to_request == replaced.to_request + 1
    assert team.numbers() == {A: "workflow-1"}
