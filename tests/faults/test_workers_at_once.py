"""Workers in processes of their own, at full speed on the same branches: one change at a time, and nothing half."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psycopg
from support.git import GitRepository
from support.processes import eventually
from support.stores import PATIENCE, started
from support.workers import REPO, SHARED, Seen, Worker, files, prepared, team

from shared.model import BranchName, CommitId, Registration, RepoId, SourceName
from shared.postgres.pool import Pool
from shared.postgres.registry import PostgresRegistry

SYNCING = 3
BRANCHES = (SHARED, *(f"own-{who}" for who in range(SYNCING)))
PUSHES = 20
"""Of each worker, while the others push too."""
ROUNDS = 5
"""In which each worker pushes once, and then nobody pushes any more."""

_SYNCS = """
    SELECT branch, outcome, generation, commit_id, written, removed,
           coalesce(started_at < lag(ended_at) OVER (PARTITION BY branch ORDER BY ended_at), false)
    FROM syncs ORDER BY branch, ended_at
"""
_BRANCHES = "SELECT branch, requested, finished, commit_id FROM branches ORDER BY branch"
_LOCK = f"SELECT FROM branches WHERE branch = '{SHARED}' FOR UPDATE".encode()
_TAKE = f"""
    UPDATE branches SET lease_id = gen_random_uuid(), lease_until = clock_timestamp() WHERE branch = '{SHARED}'
""".encode()
_WAITING = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
_TROUBLES = "SELECT deadlocks, xact_rollback FROM pg_stat_database WHERE datname = current_database()"


class Sync(NamedTuple):
    """A row of the journal."""

    branch: str
    outcome: str
    generation: int
    commit: CommitId
    written: int
    removed: int
    overlaps: bool
    """Another sync of its branch ended between its beginning and its end."""


def rows(conninfo: str, statement: str) -> list[Any]:
    with closing(psycopg.connect(conninfo, autocommit=True)) as connection:
        return connection.execute(statement.encode()).fetchall()


def register(conninfo: str, git: GitRepository, commit: CommitId) -> None:
    """With all branches at one commit."""
    for branch in BRANCHES:
        git.set_head(branch, commit)
    with closing(Pool(conninfo, size=1)) as pool:
        branches = tuple(map(BranchName, BRANCHES))
        PostgresRegistry(pool).put(
            RepoId(REPO), Registration("orders", SourceName(str(git.path)), branches), expected=None
        )


@contextmanager
def overtaking(conninfo: str) -> Iterator[None]:
    """Now and then somebody else has the claim on the shared branch, just when its holder's last statement needs it."""
    over, random = threading.Event(), Random(1)

    def overtake() -> None:
        while not over.wait(random.uniform(0, 0.02)):
            with closing(psycopg.connect(conninfo)) as connection:
                connection.execute(_LOCK)
                until = time.monotonic() + 0.1
                while not (waiting := rows(conninfo, _WAITING)) and time.monotonic() < until:
                    pass
                if any("WITH incoming" in statement for (statement,) in waiting):
                    connection.execute(_TAKE)
                connection.commit()

    running = started(overtake)
    yield
    over.set()
    running.result(PATIENCE)


def check_that_all_is_done(conninfo: str, git: GitRepository) -> None:
    """Whoever came too late left his request to the one at work, who has looked again."""
    found = rows(conninfo, _BRANCHES)
    assert [(branch, requested, commit) for branch, requested, _, commit in found] == [
        (branch, finished, git.head(branch)) for branch, _, finished, _ in found
    ]


def check_changes(syncs: Sequence[Sync], commits: Mapping[CommitId, int]) -> None:
    """Each sync began with what the one before it left, and each change has a generation of its own."""
    before: dict[str, Sync] = {}
    for sync in syncs:
        old, before[sync.branch] = before.get(sync.branch), sync
        assert not sync.overlaps, sync
        if old is not None and old.commit == sync.commit:
            assert sync[1:6] == ("unchanged", old.generation, sync.commit, 0, 0), (old, sync)
            continue
        paths = files(commits[sync.commit]).keys()
        gone = files(commits[old.commit]).keys() - paths if old else ()
        assert (sync.outcome, sync.written, sync.removed) == ("replaced", len(paths), len(gone)), (old, sync)
        assert old is None or sync.generation > old.generation, (old, sync)


def check_readers(readers: Sequence[Seen], syncs: Sequence[Sync]) -> None:
    """No set that is not whole, and none under another generation than its own."""
    made = {(sync.branch, sync.generation): sync.commit for sync in syncs if sync.outcome == "replaced"}
    for seen in readers:
        assert seen.wrong == []
        assert seen.commits.items() <= made.items()
    lists, walks = (seen.answers for seen in readers)
    assert lists.keys() == {"lists"}
    assert {"walks"} <= walks.keys() <= {"walks", "broken off"}


def check_troubles(conninfo: str) -> None:
    """No deadlock, and no transaction that was undone, for whatever reason."""
    eventually(lambda: rows(conninfo, _CONNECTIONS) == [(1,)], "the end of all connections, which counts them")
    assert rows(conninfo, _TROUBLES) == [(0, 0)]


def test_workers_change_a_branch_one_after_the_other_and_readers_see_whole_sets(
    own_database: str, tmp_path: Path
) -> None:
    commits = prepared(tmp_path / "orders")
    git = GitRepository(tmp_path / "orders")
    register(own_database, git, next(iter(commits)))

    everybody = range(SYNCING)
    with team(SYNCING + 2, own_database, git.path, commits) as processes:
        answers = processes.start(Worker.sweep).result()
        readers = [processes.start(Worker.read, SHARED), processes.start(Worker.walk, SHARED)]
        with overtaking(own_database):
            answers += sum(processes.at_once(Worker.sync, *((who, PUSHES) for who in everybody)), Counter())
        for turn in range(ROUNDS):
            answers += sum(processes.at_once(Worker.push_once, *((who, turn) for who in everybody)), Counter())
            check_that_all_is_done(own_database, git)
        processes.stop_reading()
        seen = [reader.result() for reader in readers]

    assert answers.keys() <= {"Replaced", "Unchanged", "Deferred", "Deferred busy", "Deferred claim-lost"}
    syncs = [Sync(*row) for row in rows(own_database, _SYNCS)]
    check_changes(syncs, commits)
    check_readers(seen, syncs)
    check_troubles(own_database)
