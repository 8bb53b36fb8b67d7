"""One order of locks for everybody: repositories, then branches in the order of their names, then rows."""

from concurrent.futures import Future
from contextlib import closing
from typing import TypeVar

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from support.processes import eventually
from support.stores import PATIENCE, REPO, Store, commit, config, delivery, judgement, started

from shared.model import BranchName, Change, Delivery, FilePath
from shared.postgres.pool import Pool

_T = TypeVar("_T")
NAMES = [BranchName(name) for name in ("c", "a", "b")]
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def unhindered(store: Store, work: Future[_T]) -> _T:
    """Its result; fails when it waits for a lock."""
    eventually(lambda: work.done() or store.sql(WAITING), "an end or a wait")
    assert work.done(), "it waits for a lock"
    return work.result()


def locked(store: Store) -> set[str]:
    """The branches whose row somebody has locked."""
    free = {name for (name,) in store.sql("SELECT branch FROM branches FOR UPDATE SKIP LOCKED")}
    return {name for (name,) in store.sql("SELECT branch FROM branches")} - free


ASK = {
    "request": lambda store: store.queue.request(delivery(), REPO, NAMES),
    "ask": lambda store: store.queue.ask(REPO, NAMES),
    "moved": lambda store: store.sweeps.moved(REPO, dict.fromkeys(NAMES, commit(1))),
    "change": lambda store: store.suspend(),
}


@pytest.mark.parametrize("what", ASK)
def test_branches_are_locked_in_the_order_of_their_names(store: Store, what: str) -> None:
    store.register(REPO, *NAMES)
    with store.transaction() as execute:
        execute("SELECT FROM branches WHERE branch = 'b' FOR UPDATE")
        asking = started(lambda: ASK[what](store))
        store.wait_for_lock()
        assert locked(store) == {"a", "b"}
    asking.result(PATIENCE)
    assert locked(store) == set()


def test_a_sync_ends_while_its_repository_is_locked_so_that_a_removal_can_wait_for_it(store: Store) -> None:
    store.register()
    store.sync({"a.yaml": 1, "b.yaml": 2})
    with store.transaction() as execute:
        execute("SELECT FROM repositories FOR UPDATE")
        claim = unhindered(store, started(store.claim))
        change = Change((config("c.yaml", 3),), (FilePath("a.yaml"),))
        ending = started(lambda: store.configs.replace(claim, judgement(2), change, serve=commit(2)))
        assert unhindered(store, ending).changed


def test_a_sync_locks_its_branch_before_any_row(store: Store) -> None:
    store.register()
    store.sync({"a.yaml": 1, "b.yaml": 2})
    claim = store.claim()
    change = Change((config("a.yaml", 3), config("c.yaml", 3)), (FilePath("b.yaml"),))
    with store.transaction() as execute:
        execute("SELECT FROM branches FOR UPDATE")
        ending = started(lambda: store.configs.replace(claim, judgement(2), change, serve=commit(2)))
        store.wait_for_lock()
        assert len(execute("SELECT 1 FROM runtime_configs FOR UPDATE NOWAIT")) == 2
    assert ending.result(PATIENCE).changed


def test_a_push_to_old_and_new_branches_waits_for_a_removal_before_it_locks_a_branch(store: Store) -> None:
    store.register(REPO, *NAMES)
    store.sql("DELETE FROM branches WHERE branch = 'a'")
    asked = delivery()
    with store.transaction() as execute:
        execute("SELECT FROM repositories FOR UPDATE")
        pushing = started(lambda: store.queue.request(asked, REPO, NAMES))
        store.wait_for_lock()
        assert len(execute("SELECT 1 FROM branches FOR UPDATE NOWAIT")) == 2
        execute("DELETE FROM repositories")
    recorded = pushing.result(PATIENCE)
    assert isinstance(recorded, Delivery)
    assert recorded.requests == {}
    assert store.state("branches") == {"branches": []}
    assert store.sql("SELECT delivery_id FROM deliveries") == [(asked.delivery_id,)]


def test_a_request_survives_the_serialization_failure_of_a_stricter_default(own_database: str) -> None:
    with closing(psycopg.connect(own_database, autocommit=True)) as admin:
        database = sql.Identifier(str(conninfo_to_dict(own_database)["dbname"]))
        strict = sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'")
        admin.execute(strict.format(database))
    with closing(Pool(own_database)) as pool:
        store = Store(pool, own_database)
        store.register()
        with store.transaction() as execute:
            execute("UPDATE branches SET requested = requested + 1")
            waiting = started(lambda: store.queue.request(delivery(), REPO, [BranchName("main")]))
            store.wait_for_lock()
        assert waiting.result(PATIENCE).requests == {"main": 3}
