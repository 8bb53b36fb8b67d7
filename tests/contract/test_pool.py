"""Connections: what their failures mean, what is repeated, and what never relies on a session."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support import postgres
from support.stores import MAIN, PATIENCE, REPO, Store, at_once, delivery, started

from shared.errors import DatabaseUnavailable, DocumentRefused, SchemaOutdated
from shared.postgres import pool as pool_module
from shared.postgres.migrate import migrate
from shared.postgres.pool import ACQUIRE_SECONDS, Pool

OURS = "datname = current_database() AND application_name = 'runtime-store'"
FAILS_AT_FIRST = """
    CREATE SEQUENCE attempts;
    CREATE FUNCTION fail_until(attempt bigint, state text) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE this bigint := nextval('attempts');
    BEGIN
        IF this < attempt THEN RAISE EXCEPTION 'attempt %', this USING ERRCODE = state; END IF;
        RETURN this;
    END $$"""
FAIL_UNTIL = "SELECT fail_until(%(attempt)s, %(state)s)"


def kill_connections(store: Store) -> int:
    """Every connection of the app, as a failover does; how many there were."""
    killed = len(store.sql(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {OURS}"))
    assert killed
    return killed


def open_all(pool: Pool, size: int = 8) -> None:
    """Fill the pool: as many connections at once as it may have."""
    barrier = threading.Barrier(size)

    def hold() -> None:
        with pool.connection():
            barrier.wait(PATIENCE)

    assert at_once(*[hold] * size) == [None] * size


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds to wait for a connection: fewer than usual."""
    monkeypatch.setattr(pool_module, "ACQUIRE_SECONDS", 1.0)
    return 1.0


@pytest.fixture
def failing(own_store: Store) -> Store:
    """With a function that fails until its n-th call, and counts its calls whatever becomes of them."""
    own_store.sql(FAILS_AT_FIRST)
    return own_store


def attempts(store: Store) -> int:
    [(count,)] = store.sql("SELECT last_value FROM attempts")
    return int(count)


class TestOpening:
    def test_nothing_is_connected_before_the_first_use(self, own_store: Store) -> None:
        connected = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
        assert own_store.sql(connected) == [(0,)]
        own_store.registry.list()
        assert own_store.sql(connected) == [(1,)]

    def test_there_are_never_more_connections_than_its_size(self, own_database: str) -> None:
        with closing(Pool(own_database, size=3)) as pool:
            seen = at_once(*[lambda: pool.rows(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}")] * 12)
        assert {rows[0][0] for rows in seen if isinstance(rows, list)} <= {1, 2, 3}
        assert all(isinstance(rows, list) for rows in seen)

    def test_a_database_that_was_never_migrated_is_told_until_it_is(self, postgres_server: postgres.Server) -> None:
        with postgres_server.clone("template0") as conninfo, closing(Pool(conninfo)) as pool:
            store = Store(pool, conninfo)
            for _ in range(2):
                with pytest.raises(SchemaOutdated) as caught:
                    store.queue.request(delivery(), REPO, [MAIN])
                assert caught.value.hint == "Run `runtime-store migrate`."
            migrate(conninfo)
            store.use_everything()

    def test_an_older_schema_is_refused_and_a_newer_one_accepted(self, own_store: Store) -> None:
        version = "UPDATE schema_migrations SET version = version + %s"
        own_store.sql(version, -9)
        with pytest.raises(SchemaOutdated):
            own_store.registry.list()
        own_store.sql(version, 9999)
        own_store.use_everything()

    def test_a_closed_pool_says_that_the_database_is_unavailable(self, own_store: Store) -> None:
        own_store.registry.list()
        own_store.pool.close()
        with pytest.raises(DatabaseUnavailable):
            own_store.registry.list()


class TestWithoutAServer:
    def test_it_is_told_quickly(self, quick: float) -> None:
        assert ACQUIRE_SECONDS <= 5
        with closing(Pool("host=127.0.0.1 port=1 user=x dbname=x")) as pool:
            begun = time.monotonic()
            with pytest.raises(DatabaseUnavailable, match="did not answer") as caught:
                pool.rows("SELECT 1")
            assert time.monotonic() - begun < 2 * quick
        assert caught.value.hint is not None
        assert "DATABASE_URL" in caught.value.hint

    def test_many_callers_do_not_wait_for_each_other(self, quick: float) -> None:
        with closing(Pool("host=127.0.0.1 port=1 user=x dbname=x")) as pool:
            begun = time.monotonic()
            told = at_once(*[lambda: pool.write("SELECT 1", {})] * 12)
            assert time.monotonic() - begun < 3 * quick
        assert all(isinstance(error, DatabaseUnavailable) for error in told)

    def test_once_it_is_back_the_same_pool_works(self, quick: float, own_database: str) -> None:
        with closing(Pool(own_database)) as pool:
            store = Store(pool, own_database)
            store.register()
            allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
            database = sql.Identifier(conninfo_to_dict(own_database)["dbname"])
            admin = psycopg.connect(own_database, dbname="postgres", autocommit=True)
            with closing(admin):
                kill_connections(store)
                admin.execute(allow.format(database, sql.SQL("false")))
                for _ in range(2):
                    with pytest.raises(DatabaseUnavailable):
                        store.registry.list()
                    with pytest.raises(DatabaseUnavailable):
                        store.queue.request(delivery(), REPO, [MAIN])
                admin.execute(allow.format(database, sql.SQL("true")))
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                try:
                    assert store.queue.request(delivery(), REPO, [MAIN]).requests == {"main": 2}
                    break
                except DatabaseUnavailable:
                    continue
            assert [repository.repo_id for repository in store.registry.list()] == [REPO]


class TestWhatFailuresMean:
    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT '\"\\u0000\"'::jsonb",
            "SELECT 1 / 0",
            "SELECT 'x'::int",
            "SELECT repeat('[', 99999)::jsonb",
            "SELECT (SELECT 1 UNION SELECT 2)",
        ],
    )
    def test_a_value_that_is_refused_for_ever(self, pool: Pool, statement: str) -> None:
        for run in (pool.rows, lambda statement: pool.write(statement, {})):
            with pytest.raises(DocumentRefused) as caught:
                run(statement)
            assert isinstance(caught.value.__cause__, psycopg.Error)

    @pytest.mark.parametrize("value", ["\0", "\udcff", "a\ud800"])
    def test_text_that_cannot_even_be_sent(self, pool: Pool, value: str) -> None:
        with pytest.raises(DocumentRefused):
            pool.rows("SELECT %(value)s::text", {"value": value})
        assert pool.rows("SELECT 1") == [(1,)]

    def test_anything_else_is_no_verdict(self, pool: Pool) -> None:
        with pytest.raises(DatabaseUnavailable) as caught:
            pool.write("INSERT INTO branches (repo_id, branch) VALUES ('nobody', 'x') RETURNING 1", {})
        assert isinstance(caught.value.__cause__, psycopg.errors.ForeignKeyViolation)

    def test_a_missing_table_or_column_wants_a_migration(self, pool: Pool) -> None:
        for statement in ("SELECT 1 FROM nothing", "SELECT nothing FROM branches", "SELECT nothing()"):
            with pytest.raises(SchemaOutdated):
                pool.rows(statement)

    def test_what_the_caller_raises_passes_and_undoes_the_transaction(self, store: Store) -> None:
        store.register()

        def work(connection: psycopg.Connection[tuple[object, ...]]) -> None:
            connection.execute("DELETE FROM repositories")
            raise LookupError

        with pytest.raises(LookupError):
            store.pool.in_transaction(work)
        assert len(store.registry.list()) == 1


class TestRepeating:
    """One repeat, of what the server undid itself; of reads also after a lost connection; never of anything else."""

    @pytest.fixture(params=["write", "in_transaction"])
    def run(self, failing: Store, request: pytest.FixtureRequest) -> Callable[[int, str], list[tuple[int]]]:
        def run(attempt: int, state: str) -> list[tuple[int]]:
            values = {"attempt": attempt, "state": state}
            if request.param == "write":
                return failing.pool.write(FAIL_UNTIL, values)
            return failing.pool.in_transaction(lambda connection: connection.execute(FAIL_UNTIL, values).fetchall())

        return run

    @pytest.mark.parametrize("state", ["40001", "40P01"])
    def test_what_the_server_undid_is_repeated_once(
        self, failing: Store, run: Callable[[int, str], list[tuple[int]]], state: str
    ) -> None:
        assert run(2, state) == [(2,)]
        with pytest.raises(DatabaseUnavailable):
            run(9, state)
        assert attempts(failing) == 4

    @pytest.mark.parametrize("state", ["57014", "55P03", "23505", "53300", "XX000"])
    def test_nothing_else_is(self, failing: Store, run: Callable[[int, str], list[tuple[int]]], state: str) -> None:
        with pytest.raises(DatabaseUnavailable):
            run(2, state)
        assert attempts(failing) == 1

    @pytest.mark.parametrize(("state", "count"), [("40001", 2), ("57014", 1), ("57P01", 2), ("08006", 2)])
    def test_reads_too_are_repeated_once_at_most(self, failing: Store, state: str, count: int) -> None:
        with pytest.raises(DatabaseUnavailable):
            failing.pool.rows(FAIL_UNTIL, {"attempt": 9, "state": state})
        assert attempts(failing) == count

    def test_a_repeat_in_a_transaction_starts_from_nothing(self, failing: Store) -> None:
        def work(connection: psycopg.Connection[tuple[object, ...]]) -> int:
            connection.execute("INSERT INTO sources (source, paused_until, reason) VALUES ('x', now(), '')")
            connection.execute(FAIL_UNTIL, {"attempt": 2, "state": "40001"})
            return len(connection.execute("SELECT FROM sources").fetchall())

        assert failing.pool.in_transaction(work) == 1

    def test_a_request_survives_the_serialization_failure_of_a_stricter_default(self, own_database: str) -> None:
        with closing(psycopg.connect(own_database, autocommit=True)) as admin:
            database = sql.Identifier(conninfo_to_dict(own_database)["dbname"])
            strict = sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'")
            admin.execute(strict.format(database))
        with closing(Pool(own_database)) as pool:
            store = Store(pool, own_database)
            store.register()
            with store.transaction() as execute:
                execute("UPDATE branches SET requested = requested + 1")
                waiting = started(lambda: store.queue.request(delivery(), REPO, [MAIN]))
                store.wait_for_lock()
            assert waiting.result(PATIENCE).requests == {"main": 3}


class TestLostConnections:
    def test_every_read_survives_that_all_connections_died(self, own_store: Store) -> None:
        own_store.register()
        for _ in range(2):
            open_all(own_store.pool)
            assert kill_connections(own_store) == 8
            read = at_once(*[own_store.registry.list] * 12)
            assert [len(one) if isinstance(one, list) else one for one in read] == [1] * 12

    def test_so_do_reads_one_after_another(self, own_store: Store) -> None:
        own_store.register()
        open_all(own_store.pool)
        kill_connections(own_store)
        for _ in range(10):
            assert own_store.queue.status(REPO)

    def test_a_write_is_never_repeated_blindly(self, failing: Store) -> None:
        suicide = "SELECT fail_until(0, ''), pg_terminate_backend(pg_backend_pid())"
        with pytest.raises(DatabaseUnavailable):
            failing.pool.write(suicide, {})
        assert attempts(failing) == 1
        with pytest.raises(DatabaseUnavailable):
            failing.pool.rows(suicide)
        assert attempts(failing) == 3, "a read is, once"

    def test_one_write_fails_and_sorts_out_the_other_dead_connections(self, own_store: Store) -> None:
        own_store.register()
        open_all(own_store.pool)
        kill_connections(own_store)
        with pytest.raises(DatabaseUnavailable):
            own_store.queue.ask(REPO, [MAIN])
        for _ in range(10):
            own_store.queue.ask(REPO, [MAIN])
        assert own_store.queue.status(REPO)[0].requested == 11

    def test_a_connection_to_what_became_a_standby_is_dropped(self, own_database: str) -> None:
        database = sql.Identifier(conninfo_to_dict(own_database)["dbname"])
        setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
        with (
            closing(psycopg.connect(own_database, autocommit=True)) as admin,
            closing(Pool(own_database, size=1)) as pool,
        ):
            store = Store(pool, own_database)
            admin.execute(setting.format(database, sql.SQL("on")))
            assert store.registry.list() == []
            admin.execute(setting.format(database, sql.SQL("off")))
            with pytest.raises(DatabaseUnavailable):
                store.queue.request(delivery(), None, [])
            store.queue.request(delivery(), None, [])


class TestNoSession:
    """What a transaction-mode pooler takes away."""

    @pytest.mark.parametrize("is_pooled", [False, True])
    def test_statements_are_prepared_unless_a_pooler_forbids_it(self, own_database: str, is_pooled: bool) -> None:
        with closing(Pool(own_database, size=1, transaction_pooler=is_pooled)) as pool:
            store = Store(pool, own_database)
            for _ in range(4):
                store.use_everything()
            [(prepared,)] = pool.rows("SELECT count(*) FROM pg_prepared_statements")
        assert (prepared == 0) if is_pooled else (prepared > 5)

    def test_nothing_of_us_stays_on_a_connection(self, own_database: str) -> None:
        with closing(Pool(own_database, size=1, transaction_pooler=True)) as pool:
            Store(pool, own_database).use_everything()
            assert pool.rows("SELECT name FROM pg_settings WHERE source = 'session'") == []
            assert pool.rows("SELECT pg_listening_channels()") == []
            assert pool.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []
            assert pool.rows("SELECT 1 FROM pg_cursors") in ([], [(1,)])
            assert pool.rows("SELECT 1 FROM pg_class WHERE relpersistence = 't'") == []

    def test_no_transaction_stays_open(self, own_store: Store) -> None:
        own_store.use_everything()
        states = own_store.sql(f"SELECT DISTINCT state FROM pg_stat_activity WHERE {OURS}")
        assert states == [("idle",)]


class TestPasswords:
    @pytest.fixture
    def asked(self, own_database: str) -> Iterator[str]:
        """The conninfo, without a password, of a role that has one: `first-password`."""
        with closing(psycopg.connect(own_database, autocommit=True)) as admin:
            admin.execute("CREATE ROLE rotating LOGIN PASSWORD 'first-password'")
            admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO rotating")
            yield make_conninfo(own_database, user="rotating", password=None)
            admin.execute("DROP OWNED BY rotating")
            admin.execute("DROP ROLE rotating")

    def rotate(self, own_database: str, password: str) -> None:
        with closing(psycopg.connect(own_database, autocommit=True)) as admin:
            admin.execute(sql.SQL("ALTER ROLE rotating PASSWORD {}").format(sql.Literal(password)))
            admin.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'rotating'")

    def test_the_password_is_asked_for_every_new_connection(self, asked: str) -> None:
        calls: list[str] = []

        def password() -> str:
            calls.append("first-password")
            return calls[-1]

        with closing(Pool(asked, size=3, password=password)) as pool:
            open_all(pool, 3)
            open_all(pool, 3)
        assert len(calls) == 3

    def test_after_a_rotation_the_newer_one_is_asked_for(self, asked: str, own_database: str) -> None:
        secrets = {"cached": "first-password", "vault": "first-password"}

        def refresh() -> str:
            secrets["cached"] = secrets["vault"]
            return secrets["cached"]

        with closing(Pool(asked, password=lambda: secrets["cached"], refused=refresh)) as pool:
            assert pool.rows("SELECT current_user::text") == [("rotating",)]
            secrets["vault"] = "second-password"
            self.rotate(own_database, "second-password")
            assert pool.rows("SELECT current_user::text") == [("rotating",)]
        assert secrets["cached"] == "second-password"

    def test_a_wrong_password_is_unavailable_and_told_to_nobody(
        self, asked: str, quick: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with (
            closing(Pool(asked, password=lambda: "wrong-password", refused=lambda: "wrong-password")) as pool,
            pytest.raises(DatabaseUnavailable) as caught,
        ):
            pool.rows("SELECT 1")
        assert "password authentication failed" in caplog.text, "an operator finds the reason in the log"
        assert "wrong-password" not in caplog.text
        assert "wrong-password" not in repr((caught.value, caught.value.__cause__, caught.value.hint))
