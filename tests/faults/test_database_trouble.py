"""A database server that stops, freezes or has no room left, under syncs, deliveries, sweeps and readers."""

import logging
import random
import string
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support import postgres
from support.own_server import OwnServer, own_server
from support.processes import eventually
from support.stores import PATIENCE, Store, started
from support.web import GUID, HOOK_KEY, READER_KEY, Api
from support.world import MAIN, Team, World, workflow

from shared.errors import DatabaseUnavailable
from shared.model import Condition, Failed, Outcome
from shared.postgres import pool as pool_module
from shared.postgres.answering import AnsweringConnection, Silence
from shared.postgres.pool import Pool
from shared.rules import Rules
from shared.web.app import App

A, B = "a_runtime.yaml", "b_runtime.yaml"
OLD = {A: "workflow-1", B: "workflow-2"}
NEW = {A: "workflow-11", B: "workflow-12"}
RULES = Rules.shipped()
PUSH = {
    "eventType": "git.push",
    "resource": {"refUpdates": [{"name": "refs/heads/main"}], "repository": {"id": GUID, "name": "team"}},
}


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server() as server:
        yield server


@pytest.fixture
def pool(server: OwnServer) -> Iterator[Pool]:
    with postgres.Database(server.conninfo) as database:
        database.empty()
    with closing(Pool(server.conninfo)) as pool:
        yield pool


@pytest.fixture
def world(pool: Pool, tmp_path: Path) -> World:
    return World(pool, tmp_path, rules=RULES)


@pytest.fixture
def team(world: World) -> Team:
    """Serves `OLD`, and nothing is asked for."""
    team = world.repository(repo_id=GUID)
    team.git.commit({A: workflow(1), B: workflow(2)})
    team.sync()
    return team


@pytest.fixture
def app(world: World) -> App:
    return world.wsgi()


def read(app: App) -> int:
    return Api(app, READER_KEY).get("/runtimes/team/main").status_code


def deliver(app: App) -> int:
    response = Api(app, HOOK_KEY).post("/webhooks/azure-devops", json=PUSH)
    assert response.status_code in (200, 202, 503), response.text
    assert (response.status_code == 503) == ("Retry-After" in response.headers)
    return response.status_code


def pass_time(team: Team) -> None:
    """Leases and back-offs end."""
    team.world.execute("UPDATE branches SET lease_until = clock_timestamp() - interval '1 second'")
    team.world.execute("UPDATE sweeps SET lease_until = clock_timestamp() - interval '1 second'")
    team.world.let_back_off_pass()


def back(app: App) -> None:
    eventually(lambda: read(app) == 200, "an answer")


class TestStopped:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_a_replace_that_the_server_stopped_under_is_done_after_its_start(
        self, server: OwnServer, team: Team, app: App, mode: str
    ) -> None:
        team.git.commit({A: workflow(11), B: workflow(12)})
        team.ask()
        store = Store(team.world.pool, server.conninfo)
        try:
            # The person's transaction ends with the server.
            with suppress(psycopg.OperationalError), store.transaction() as person:
                person("SELECT FROM runtime_configs WHERE filepath = %s FOR UPDATE", B)
                syncing = started(team.run)
                store.wait_for_lock()
                server.stop(mode)
            outcome = syncing.result(PATIENCE)
            assert isinstance(outcome, Failed)
            assert outcome.error.message == "The database did not answer."
            assert read(app) == 503
            assert deliver(app) == 503
            with pytest.raises(DatabaseUnavailable):
                team.world.sweep()
        finally:
            server.start()
        back(app)
        assert team.numbers() == OLD
        pass_time(team)
        team.world.sweep()
        assert team.numbers() == NEW
        assert team.outcomes() == ["replaced", "replaced"]
        assert not team.status().is_waiting

    def test_what_was_replaced_stays_also_when_the_server_breaks_down(
        self, server: OwnServer, team: Team, app: App
    ) -> None:
        team.git.commit({A: workflow(11), B: workflow(12)})
        assert deliver(app) == 200
        server.stop("immediate")
        server.start()
        back(app)
        assert team.numbers() == NEW
        assert team.outcomes() == ["replaced", "replaced"]
        assert deliver(app) == 200
        assert team.outcomes() == ["replaced", "replaced", "unchanged"]


class TestFull:
    ROOM = 2_000_000
    """Above any file of an empty database, and below what is pushed."""

    def test_a_sync_without_room_says_so_and_is_done_when_there_is_some(
        self, server: OwnServer, team: Team, app: App
    ) -> None:
        # Such text cannot be compressed.
        text = "".join(random.Random(0).choices(string.ascii_letters, k=500_000))
        big = {f"{n}_runtime.yaml": workflow(n, description=text) for n in range(6)}
        head = team.git.commit(big)
        with server.full(self.ROOM):
            back(app)
            outcome = team.sync()
            assert isinstance(outcome, Failed)
            assert "could not extend file" in outcome.error.message
            assert outcome.error.hint == "Check free disk space."
            status = team.status()
            assert (status.condition, status.is_waiting) == (Condition.FETCH_FAILED, True)
            assert outcome.error.message in status.message
            assert team.world.journal.syncs(team.repo_id, MAIN, 1)[0].commit_id == head
            assert team.numbers() == OLD
            assert deliver(app) == 202
            assert read(app) == 200
        back(app)
        assert team.numbers() == OLD
        pass_time(team)
        team.world.sweep()
        assert team.numbers() == {**OLD, **{path: f"workflow-{n}" for n, path in enumerate(big)}}
        assert team.outcomes() == ["replaced", "failed", "failed", "replaced"]
        assert not team.status().is_waiting


class TestFrozen:
    """It takes connections and data, acknowledges them, and never answers."""

    @pytest.fixture(autouse=True)
    def impatient(self, team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(AnsweringConnection, "patience", 0.5)
        monkeypatch.setattr(pool_module, "ACQUIRE_SECONDS", 0.5)

    def test_everybody_is_told_in_the_end(self, server: OwnServer, team: Team, app: App) -> None:
        def swept() -> str:
            with pytest.raises(DatabaseUnavailable) as caught:
                team.world.sweep()
            return caught.value.message

        def ended(*work: Callable[[], object]) -> list[object]:
            running: list[Future[object]] = [started(one) for one in work]
            return [one.result(PATIENCE) for one in running]

        def registered() -> str:
            with pytest.raises(DatabaseUnavailable) as caught:
                team.change(root="etl")
            return caught.value.message

        message = "The database did not answer."
        told = [503, 503, message, message]
        with server.frozen():
            assert ended(lambda: read(app), lambda: deliver(app), swept, registered) == told
            # And again, when there is no connection any more.
            assert ended(lambda: read(app), lambda: deliver(app), swept, registered) == told
        back(app)
        assert deliver(app) == 200

    def test_so_is_who_connects(self, server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool_module, "ACQUIRE_SECONDS", 2.0)
        with closing(Pool(server.conninfo)) as pool, server.frozen():
            asked = started(lambda: pool.rows("SELECT 1"))
            assert isinstance(asked.exception(PATIENCE), DatabaseUnavailable)

    def test_one_caller_waits_once_and_the_others_need_not(
        self, server: OwnServer, pool: Pool, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        with pool.connection(), pool.connection():
            pass
        with server.frozen():
            with pytest.raises(DatabaseUnavailable):
                started(lambda: pool.rows("SELECT 1")).result(PATIENCE)
            assert pool._pool.get_stats()["pool_available"] == 0, "all lead to the same server"
        assert "statement repeated" not in caplog.text
        assert eventually(lambda: alive(pool), "an answer")

    def test_a_silent_connection_is_not_used_for_anything_more(self, server: OwnServer, pool: Pool) -> None:
        with suppress(DatabaseUnavailable), pool.connection() as connection, server.frozen():
            with pytest.raises(Silence):
                connection.execute("SELECT 1")
            assert connection.closed

    @pytest.mark.parametrize("step", ["renew", "stored", "replace"])
    def test_a_sync_fails_and_what_the_server_does_later_counts_once(
        self, server: OwnServer, team: Team, app: App, step: str
    ) -> None:
        team.git.commit({A: workflow(11), B: workflow(12)})
        team.ask()
        frozen = server.frozen()
        where: Any = team.world.queue if step == "renew" else team.world.store
        where.before[step].append(frozen.__enter__)
        try:
            outcome: Outcome = started(team.run).result(PATIENCE)
        finally:
            frozen.__exit__(None, None, None)
        assert isinstance(outcome, Failed)
        assert outcome.error.message == "The database did not answer."
        back(app)
        if step == "replace":
            # It had been sent: the server does it when it wakes up, and the claim was still good.
            eventually(lambda: team.numbers() == NEW, "the replace")
        else:
            assert team.numbers() == OLD
        pass_time(team)
        team.world.sweep()
        assert team.numbers() == NEW
        assert team.outcomes() == ["replaced", "replaced"]
        assert not team.status().is_waiting

    def test_a_statement_that_nobody_takes_in_ends_too(self, server: OwnServer, pool: Pool) -> None:
        assert alive(pool)
        with server.frozen(), pytest.raises(DatabaseUnavailable):
            started(lambda: pool.write("SELECT %(value)s::text", {"value": "x" * 50_000_000})).result(PATIENCE)

    def test_sorting_out_dead_connections_ends_too(
        self, server: OwnServer, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shared.postgres.answering.SIGN_OF_LIFE_SECONDS", 0.5)
        monkeypatch.setattr(AnsweringConnection, "patience", 4 * PATIENCE)
        with pool.connection(), pool.connection(), pool.connection():
            pass
        with server.frozen():
            started(pool._pool.check).result(PATIENCE)
        assert eventually(lambda: alive(pool), "an answer")


def alive(pool: Pool) -> bool:
    try:
        return pool.rows("SELECT 1") == [(1,)]
    except DatabaseUnavailable:
        return False
