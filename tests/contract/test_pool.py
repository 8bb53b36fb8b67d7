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
from support.stores import MAIN, PATIENCE, REPO, Store, at_once, delivery

from shared.errors import DatabaseUnavailable, DocumentRefused, SchemaOutdated
from shared.postgres import pool as pool_module
from shared.postgres.answering import ANSWER_SECONDS
from shared.postgres.migrate import TIMEOUTS, migrate
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

    def test_a_closed_pool_says_that_the_database_is_unavailable(self, own_store: Store) -> None:
        own_store.registry.list()
        own_store.pool.close()
        with pytest.raises(DatabaseUnavailable):
            own_store.registry.list()


class TestWithoutAServer:
    def test_it_is_told_quickly(self) -> None:
        assert ACQUIRE_SECONDS <= 5
        with closing(Pool("host=127.0.0.1 port=1 user=x dbname=x")) as pool:
            begun = time.monotonic()
            with pytest.raises(DatabaseUnavailable, match="did not answer") as caught:
                pool.rows("SELECT 1")
            assert time.monotonic() - begun < PATIENCE / 2
        assert caught.value.hint is not None
        assert "DATABASE_URL" in caught.value.hint

    def test_many_callers_do_not_wait_for_each_other(self) -> None:
        with closing(Pool("host=127.0.0.1 port=1 user=x dbname=x")) as pool:
            begun = time.monotonic()
            told = at_once(*[lambda: pool.write("SELECT 1", {})] * 12)
            assert time.monotonic() - begun < PATIENCE / 2
        assert all(isinstance(error, DatabaseUnavailable) for error in told)

    def test_once_it_is_back_the_same_pool_works(self, quick: float, own_database: str) -> None:
        with closing(Pool(own_database)) as pool:
            store = Store(pool, own_database)
            store.register()
            allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
            database = sql.Identifier(str(conninfo_to_dict(own_database)["dbname"]))
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

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ("53100", "The disk of the database is full: attempt 1"),
            ("55P03", "The database is busy: attempt 1"),
            ("57014", "The database took too long: attempt 1"),
            ("XX000", "The database failed: attempt 1"),
            # Of a server that goes or comes, the statement is not the cause.
            ("57P01", "The database did not answer."),
            ("08006", "The database did not answer."),
        ],
    )
    def test_what_the_server_says_is_told(self, failing: Store, state: str, message: str) -> None:
        with pytest.raises(DatabaseUnavailable) as caught:
            failing.pool.write(FAIL_UNTIL, {"attempt": 2, "state": state})
        assert caught.value.message == message
        assert caught.value.hint

    def test_nobody_waits_longer_than_the_server_works_on_a_statement(self, own_store: Store) -> None:
        [(milliseconds,)] = own_store.sql(
            "SELECT extract(epoch FROM %s::interval) * 1000", TIMEOUTS["statement_timeout"]
        )
        assert milliseconds / 1000 < ANSWER_SECONDS < 2 * milliseconds / 1000
        with own_store.pool.connection() as connection:
            assert connection.patience == ANSWER_SECONDS  # type: ignore[attr-defined]

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


class TestLostConnections:
    def test_a_write_is_never_repeated_blindly(self, failing: Store) -> None:
        suicide = "SELECT fail_until(0, ''), pg_terminate_backend(pg_backend_pid())"
        with pytest.raises(DatabaseUnavailable):
            failing.pool.write(suicide, {})
        assert attempts(failing) == 1
        with pytest.raises(DatabaseUnavailable):
            failing.pool.rows(suicide)
        assert attempts(failing) == 3, "a read is, once"


class TestNoSession:
    """What a transaction-mode pooler takes away."""

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
