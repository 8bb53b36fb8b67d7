"""Connections die, lead to another server, are shared by a pooler, or meet a schema that is ahead: nothing is lost."""

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from support.stores import MAIN, PATIENCE, REPO, Store, at_once, delivery

from shared.errors import DatabaseUnavailable, SchemaOutdated
from shared.postgres.pool import Pool

SIZE = 8


@pytest.fixture
def own_store(own_database: str) -> Iterator[Store]:
    """Over a database that no other test sees: its connections are ended, its settings and its schema changed."""
    with closing(Pool(own_database, size=SIZE)) as pool:
        yield Store(pool, own_database)


def fail_over(store: Store) -> None:
    """Every connection of a full pool is dead."""
    barrier = threading.Barrier(SIZE)

    def hold() -> None:
        with store.pool.connection():
            barrier.wait(PATIENCE)

    assert at_once(*[hold] * SIZE) == [None] * SIZE
    ended = store.sql(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'runtime-store'"
    )
    assert len(ended) == SIZE


def test_every_read_survives_a_failover(own_store: Store) -> None:
    own_store.register()
    fail_over(own_store)
    read = at_once(*[own_store.registry.list] * 12)
    assert [len(one) if isinstance(one, list) else one for one in read] == [1] * 12
    fail_over(own_store)
    for _ in range(SIZE + 2):
        assert own_store.queue.status(REPO)


def test_one_write_at_most_fails_for_a_failover(own_store: Store) -> None:
    own_store.register()
    fail_over(own_store)
    with pytest.raises(DatabaseUnavailable):
        own_store.queue.ask(REPO, [MAIN])
    for _ in range(SIZE + 2):
        own_store.queue.ask(REPO, [MAIN])
    assert own_store.status().requested == 1 + SIZE + 2


def test_a_connection_to_what_became_a_standby_is_dropped(own_database: str) -> None:
    database = sql.Identifier(str(conninfo_to_dict(own_database)["dbname"]))
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


class TestAPoolerThatGivesEachTransactionAnotherConnection:
    @pytest.mark.parametrize("is_pooled", [False, True])
    def test_statements_are_prepared_unless_it_forbids_that(self, own_database: str, is_pooled: bool) -> None:
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


def test_an_older_schema_is_refused_and_a_newer_one_served_between_migrate_and_deploy(own_store: Store) -> None:
    version = "UPDATE schema_migrations SET version = version + %s"
    own_store.sql(version, -9)
    with pytest.raises(SchemaOutdated):
        own_store.registry.list()
    own_store.sql(version, 9999)
    own_store.use_everything()
