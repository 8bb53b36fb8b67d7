"""All database adapters over one pool, and short words for what tests of them do again and again."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
from psycopg.rows import TupleRow, dict_row

from shared.errors import SourceFailed
from shared.model import (
    BlobId,
    BranchName,
    BranchStatus,
    Change,
    Claim,
    CommitId,
    Decision,
    DeferReason,
    Deferred,
    Delivery,
    Event,
    Failed,
    FilePath,
    Finding,
    JsonValue,
    Judgement,
    RefUpdate,
    Registration,
    RepoId,
    Report,
    Repository,
    Ruleset,
    RuntimeConfig,
    Settled,
    Severity,
    SourceName,
    SweepSummary,
    SyncId,
    TreeId,
    Trigger,
)
from shared.postgres.configs import PostgresConfigReader, PostgresConfigStore
from shared.postgres.journal import PostgresJournal
from shared.postgres.outbox import PostgresOutbox
from shared.postgres.pool import Pool
from shared.postgres.queue import PostgresQueue
from shared.postgres.registry import PostgresRegistry
from shared.postgres.sweeps import PostgresSweeps

_T = TypeVar("_T")
PATIENCE = 20.0
"""Seconds after which what should have happened by now will not."""
REPO = RepoId("orders")
MAIN = BranchName("main")
SOURCE = SourceName("https://git.example/orders")
RULES = Ruleset("rules-1")
BROKEN = Finding(FilePath("a.yaml"), "syntax", Severity.ERROR, "not YAML", line=3, column=7)


def commit(number: int) -> CommitId:
    return CommitId(f"{number:040x}")


def config(path: str, value: JsonValue, *findings: Finding, blob: str | None = None) -> RuntimeConfig:
    """A runtime config whose blob id follows from its value, unless given."""
    text = json.dumps(value)
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return RuntimeConfig(FilePath(path), BlobId(blob or digest), text, findings)


def judgement(number: int, *, ruleset: str = RULES, report: Report | None = None) -> Judgement:
    return Judgement(commit(number), TreeId(f"{number:040x}"), Ruleset(ruleset), report or Report())


TWO = Change((config("a.yaml", {"n": 1}), config("b.yaml", {"n": 2})))


def delivery(*updates: RefUpdate, **event: Any) -> Delivery:
    return Delivery(uuid4(), Decision.REQUESTED, Event("git.push", updates=updates, **event))


def started(work: Callable[[], _T]) -> Future[_T]:
    """What it will return or raise; it runs already, in a thread of its own."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def at_once(*work: Callable[[], _T]) -> list[_T | BaseException]:
    """What each returned or raised, all started at the same moment."""
    barrier = threading.Barrier(len(work))

    def after_the_others(one: Callable[[], _T]) -> _T:
        barrier.wait()
        return one()

    futures = [started(lambda one=one: after_the_others(one)) for one in work]  # type: ignore[misc]
    return [future.exception(PATIENCE) or future.result() for future in futures]


class Store:
    """`sql` looks behind the adapters and moves what only time would move."""

    def __init__(self, pool: Pool, conninfo: str) -> None:
        self.pool = pool
        self.conninfo = conninfo
        self.registry = PostgresRegistry(pool)
        self.queue = PostgresQueue(pool)
        self.sweeps = PostgresSweeps(pool)
        self.configs = PostgresConfigStore(pool)
        self.reader = PostgresConfigReader(pool)
        self.journal = PostgresJournal(pool)
        self.outbox = PostgresOutbox(pool)
        self._commits = 0

    def sql(self, statement: str, *parameters: object) -> list[TupleRow]:
        with closing(psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None)) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def use_everything(self) -> None:
        """Every method of every adapter, in the order of a day."""
        self.register(REPO, "main", "release")
        self.registry.put(REPO, replace(self.registry.get(REPO).registration, root="etl"), expected=1)
        assert self.registry.find(REPO) in self.registry.list()
        self.queue.request(delivery(RefUpdate(MAIN, commit(0), commit(1))), REPO, [MAIN], all_heads=True)
        self.sync({"a.yaml": 1, "b.yaml": 2})
        self.queue.ask(REPO, [MAIN])
        self.sync({"a.yaml": 1.0})
        claim = self.claim("release")
        self.queue.renew(claim)
        self.queue.settle(claim, Failed(SourceFailed("broken")))
        assert self.configs.ended(claim.sync_id)
        self.queue.pause_source(SOURCE, SourceFailed("broken"))
        self.end_pauses()
        self.queue.resume_source(SOURCE)
        assert self.due()
        assert self.reader.item(REPO, MAIN, FilePath("a.yaml"))
        assert self.reader.generation(REPO, MAIN)
        assert self.reader.listing(REPO, MAIN)
        assert self.reader.page(REPO, MAIN, "", None, 9)
        assert self.configs.stored(REPO, MAIN, verify=True)
        assert self.registry.names().branches
        sweep = uuid4()
        assert self.sweeps.begin(sweep, "timer", timedelta(seconds=9))
        assert self.sweeps.claim_head_checks(9)
        self.sweeps.moved(REPO, {name: commit(9) for name in self.sweeps.judged(REPO)})
        self.sweeps.ask_due_deep_syncs()
        self.sweeps.end(sweep, SweepSummary(started=True))
        assert self.sweeps.age() is not None
        assert self.queue.status(REPO)
        assert self.journal.deliveries(REPO, 9)
        assert self.journal.syncs(REPO, None, 9)
        assert self.journal.overview().waiting
        unposted = self.outbox.claim(SOURCE)
        assert unposted
        self.outbox.posted(unposted, "succeeded: 2 configs served")
        assert self.journal.prune(timedelta()) > 0
        self.registry.remove(REPO, expected=2)

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., list[TupleRow]]]:
        """A person's open transaction: what it locks, others wait for until the block ends."""
        with psycopg.connect(self.conninfo, prepare_threshold=None) as connection:

            def execute(statement: str, *parameters: object) -> list[TupleRow]:
                cursor = connection.execute(statement.encode(), parameters or None)
                return cursor.fetchall() if cursor.description else []

            yield execute

    def wait_for_lock(self, waiting: int = 1) -> None:
        """Until that many statements of the app wait for a lock."""
        statement = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND application_name = 'runtime-store'"
        )
        until = time.monotonic() + PATIENCE
        while self.sql(statement)[0][0] < waiting:
            assert time.monotonic() < until, "nobody waits for a lock"

    def state(self, *tables: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Every row of the tables with its physical place, so that also a row rewritten with equal values shows."""
        with closing(psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None)) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return {
                table: cursor.execute(f"SELECT ctid, xmin, * FROM {table} ORDER BY 1".encode()).fetchall()
                for table in tables or ("repositories", "branches", "runtime_configs", "syncs", "deliveries", "sources")
            }

    def register(self, repo_id: str = REPO, *branches: str, name: str | None = None, **more: Any) -> Repository:
        """Registered, with the requests that this makes."""
        names = tuple(map(BranchName, branches or (MAIN,)))
        values = {"name": name or repo_id, "source": SOURCE, "branches": names, **more}
        return self.registry.put(RepoId(repo_id), Registration(**values), expected=None)

    def claim(self, branch: str = MAIN, repo_id: str = REPO, **more: Any) -> Claim:
        """Claimed; a refusal fails the test."""
        claim = self.queue.claim(RepoId(repo_id), BranchName(branch), SyncId(uuid4()), Trigger.WEBHOOK, **more)
        assert isinstance(claim, Claim), claim
        return claim

    def due(self) -> Claim | None:
        return self.queue.claim_due(SyncId(uuid4()))

    def sync(
        self,
        files: Mapping[str, JsonValue] | None = None,
        *,
        branch: str = MAIN,
        repo_id: str = REPO,
        ruleset: str = RULES,
    ) -> Settled:
        """Claim the branch, and make it serve exactly `files` at a new commit."""
        claim = self.claim(branch, repo_id)
        wanted = [config(path, value) for path, value in (files or {}).items()]
        stored = self.configs.stored(claim.repo_id, claim.branch)
        gone = tuple(path for path in stored if path not in (files or {}))
        self._commits += 1
        verdict = judgement(self._commits, ruleset=ruleset)
        return self.configs.replace(claim, verdict, Change(tuple(wanted), gone), serve=verdict.commit_id)

    def refusal(self, branch: str = MAIN, repo_id: str = REPO, **more: Any) -> DeferReason:
        """Why it cannot be claimed; a claim fails the test."""
        refused = self.queue.claim(RepoId(repo_id), BranchName(branch), SyncId(uuid4()), Trigger.WEBHOOK, **more)
        assert isinstance(refused, Deferred), refused
        return refused.reason

    def suspend(self, reason: str | None = "moving house") -> None:
        current = self.registry.get(REPO)
        self.registry.put(REPO, replace(current.registration, suspended=reason), expected=current.revision)

    def change(
        self, *configs: RuntimeConfig, gone: tuple[str, ...] = (), number: int = 7, ruleset: str = RULES
    ) -> Settled:
        """Claim `main` and end the sync with exactly this change, accepted."""
        paths = tuple(map(FilePath, gone))
        verdict = judgement(number, ruleset=ruleset)
        return self.configs.replace(self.claim(), verdict, Change(configs, paths), serve=commit(number))

    def finish(self, *branches: str, repo_id: str = REPO) -> None:
        """Let nothing be asked for any more: each branch serves a.yaml."""
        for branch in branches or (MAIN,):
            self.sync({"a.yaml": 1}, branch=branch, repo_id=repo_id)

    def expire_leases(self) -> None:
        self.sql("UPDATE branches SET lease_until = clock_timestamp() - interval '1 second' WHERE lease_id IS NOT NULL")

    def end_pauses(self) -> None:
        self.sql("UPDATE sources SET paused_until = clock_timestamp() - interval '1 second'")

    def status(self, branch: str = MAIN, repo_id: str = REPO) -> BranchStatus:
        return next(status for status in self.queue.status(RepoId(repo_id)) if status.branch == branch)

    def branch(self, branch: str = MAIN, repo_id: str = REPO) -> Mapping[str, Any]:
        """The branch's row."""
        rows = [
            row for row in self.state("branches")["branches"] if (row["repo_id"], row["branch"]) == (repo_id, branch)
        ]
        assert rows, f"no branch {branch}"
        return rows[0]

    def rows(self, branch: str = MAIN, repo_id: str = REPO) -> Mapping[str, Mapping[str, Any]]:
        """The branch's configs by path, as they are in the table."""
        rows = self.state("runtime_configs")["runtime_configs"]
        return {row["filepath"]: row for row in rows if (row["repo_id"], row["branch"]) == (repo_id, branch)}

    def served(self, branch: str = MAIN, repo_id: str = REPO) -> Mapping[str, JsonValue] | None:
        """What readers get, parsed."""
        listing = self.reader.listing(RepoId(repo_id), BranchName(branch))
        return None if listing is None else {item.filepath: json.loads(item.config) for item in listing.items}
