"""Requests, claims and outcomes without a verdict. Leases and due times are the database's clock."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from shared.errors import ClaimLost, SourceError, SourceRefused, SourceThrottled
from shared.model import (
    BranchName,
    BranchStatus,
    Claim,
    CommitId,
    Condition,
    DeferReason,
    Deferred,
    Delivery,
    Event,
    Failed,
    Generation,
    RepoId,
    Ruleset,
    Settled,
    SourceName,
    SyncId,
    TreeId,
    Trigger,
)
from shared.postgres.pool import Pool
from shared.postgres.rows import report_from_json, storable
from shared.postgres.statements import Statements
from shared.telemetry import metrics

LEASE = timedelta(seconds=90)
"""Above the time-out of any single Git call; renewed before every step."""
BACK_OFF = timedelta(seconds=5)
"""Before the second attempt; doubles with each, with jitter, up to the cap."""
BACK_OFF_CAP = timedelta(minutes=15)
LAG_LIMIT = timedelta(minutes=2)
"""After a push was announced: how long a head that it left behind is not believed."""
SOURCE_PAUSE = timedelta(seconds=30)
"""After a source's first failure; doubles with each."""


class PostgresQueue:
    def __init__(self, pool: Pool, *, lease: timedelta = LEASE, back_off: timedelta = BACK_OFF) -> None:
        self._pool = pool
        self._sql = Statements("queue.sql")
        self._times = {"lease": lease, "base": back_off, "cap": BACK_OFF_CAP, "patience": LAG_LIMIT}

    def request(
        self, delivery: Delivery, repo_id: RepoId | None, branches: Collection[BranchName], *, all_heads: bool = False
    ) -> Delivery:
        wanted = sorted(set(branches))
        updates = {update.branch: update for update in delivery.event.updates or ()}
        rows = self._pool.write(
            self._sql["request"],
            {
                "repo_id": repo_id,
                "branches": wanted,
                "olds": [updates[branch].old or None if branch in updates else None for branch in wanted],
                "news": [updates[branch].new or None if branch in updates else None for branch in wanted],
                "push_id": delivery.event.push_id,
                "commits": [update.new for update in updates.values()],
                "all_heads": all_heads,
                "delivery_id": delivery.delivery_id,
                "decision": delivery.decision,
                "event": Jsonb(storable(_event_to_json(delivery.event))),
            },
        )
        received_at, requests = rows[0]
        return replace(delivery, received_at=received_at, requests=requests)

    def ask(self, repo_id: RepoId, branches: Collection[BranchName], *, deep: bool = False) -> None:
        self._pool.write(self._sql["ask"], {"repo_id": repo_id, "branches": sorted(set(branches)), "deep": deep})

    def claim(
        self,
        repo_id: RepoId,
        branch: BranchName,
        sync_id: SyncId,
        trigger: Trigger,
        *,
        request: int | None = None,
        probe: bool = False,
    ) -> Claim | Deferred:
        which = {"repo_id": repo_id, "branch": branch}
        how = {"sync_id": sync_id, "request": request, "probe": probe}
        rows = self._pool.write(self._sql["claim"], {**self._times, **which, **how})
        if rows:
            return _claim(rows[0], sync_id, trigger)
        return _why_not(self._pool.rows(self._sql["why_not"], which), probe)

    def claim_due(self, sync_id: SyncId, *, busy: Collection[RepoId] = ()) -> Claim | None:
        parameters = {**self._times, "sync_id": sync_id, "busy": list(busy)}
        while rows := self._pool.write(self._sql["claim_due"], parameters):
            if rows[0][0] is not None:
                return _claim(rows[0], sync_id, Trigger.SWEEP)
            # Another became the probe of this branch's source meanwhile, so that it is skipped from now on.
        return self.claim_due(sync_id) if busy else None

    def renew(self, claim: Claim) -> int:
        rows = self._pool.write(self._sql["renew"], {**self._times, **fence(claim)})
        if not rows:
            raise ClaimLost("Another worker owns this sync now.")
        return int(rows[0][0])

    def settle(
        self, claim: Claim, outcome: Deferred | Failed, *, head: CommitId | None = None, pause: timedelta | None = None
    ) -> Settled:
        failed = isinstance(outcome, Failed)
        rows = self._pool.write(
            self._sql["settle"],
            {
                **self._times,
                **fence(claim),
                "failed": failed,
                "head": head,
                "pause": pause,
                "outcome": "failed" if failed else "deferred",
                **_told(outcome),
            },
        )
        if not rows:
            raise ClaimLost("Another worker owns this sync now.")
        generation, more, deep_waits = rows[0]
        return Settled(Generation(generation), more, deep_waits=deep_waits)

    def pause_source(
        self,
        source: SourceName,
        error: SourceError,
        pause: timedelta | None = None,
        *,
        until: datetime | None = None,
    ) -> None:
        metrics.SOURCE_PAUSES.add(1, type(error).__name__)
        times = {**self._times, "base": SOURCE_PAUSE, "pause": pause, "until": until}
        self._pool.write(self._sql["pause_source"], {**times, "source": source, **_told(Failed(error))})

    def resume_source(self, source: SourceName, until: datetime | None = None) -> None:
        self._pool.write(self._sql["resume_source"], {"source": source, "until": until})

    def waited(self, claim: Claim) -> timedelta | None:
        waited: timedelta | None = self._pool.rows(self._sql["waited"], fence(claim))[0][0]
        return waited

    def status(self, repo_id: RepoId | None = None) -> Sequence[BranchStatus]:
        return [_status(row) for row in self._pool.rows(self._sql["status"], {"repo_id": repo_id})]


def fence(claim: Claim) -> dict[str, Any]:
    """The parameters that every write of a sync is fenced and journalled by."""
    return {
        "repo_id": claim.repo_id,
        "branch": claim.branch,
        "sync_id": claim.sync_id,
        "seen": claim.seen,
        "finished": claim.finished,
        "trigger": claim.trigger,
        "started_at": claim.started_at,
    }


def _event_to_json(event: Event) -> dict[str, Any]:
    return {name: value for name, value in asdict(event).items() if value is not None}


def _claim(row: Sequence[Any], sync_id: SyncId, trigger: Trigger) -> Claim:
    (
        repo_id,
        branch,
        requested,
        finished,
        deep,
        generation,
        commit,
        judged,
        tree,
        ruleset,
        report,
        paused,
        at,
        left,
        announced,
    ) = row
    return Claim(
        sync_id=sync_id,
        repo_id=RepoId(repo_id),
        branch=BranchName(branch),
        trigger=trigger,
        seen=requested,
        finished=finished,
        # A push goes first: the deep sync stays asked for, and is the next one.
        deep=deep and requested == finished,
        generation=Generation(generation),
        commit_id=commit and CommitId(commit),
        judged_commit=judged and CommitId(judged),
        judged_tree=tree and TreeId(tree),
        judged_ruleset=ruleset and Ruleset(ruleset),
        report=report_from_json(report),
        started_at=at,
        paused_until=paused,
        left_behind=tuple(map(CommitId, left)),
        announced=announced and CommitId(announced),
    )


def _why_not(rows: Sequence[Sequence[Any]], probe: bool) -> Deferred:
    if not rows:
        return Deferred(DeferReason.REPOSITORY_GONE, "The repository is not registered any more.")
    suspended, is_paused, reason, is_known = rows[0]
    if not is_known:
        return Deferred(DeferReason.NOT_NAMED, "Nobody asked for this branch.")
    if suspended is not None:
        return Deferred(DeferReason.SUSPENDED, f"The repository is suspended: {suspended}")
    if is_paused and not probe:
        return Deferred(DeferReason.SOURCE_PAUSED, f"The source is left alone for a while: {reason}")
    # Also when that other one has just ended: this claim came too late by then.
    return Deferred(DeferReason.BUSY, "Another worker is syncing this branch, or has just done so.")


def _told(outcome: Deferred | Failed) -> Mapping[str, str | None]:
    """Condition, reason and message that people are told; a deferred sync leaves the condition as it was."""
    if isinstance(outcome, Deferred):
        return {"condition": None, "reason": outcome.reason, "message": outcome.message}
    error = outcome.error
    if isinstance(error, SourceRefused):
        condition = Condition.AUTHENTICATION_FAILED
    elif isinstance(error, SourceThrottled):
        condition = Condition.THROTTLED
    else:
        condition = Condition.FETCH_FAILED
    message = f"{error.message.rstrip('.')}. {error.hint.rstrip('.')}." if error.hint else error.message
    return {"condition": condition, "reason": type(error).__name__, "message": storable(message)}


def _status(row: Sequence[Any]) -> BranchStatus:
    """The statement names its columns in the order of the status's fields."""
    values = dict(zip((field.name for field in fields(BranchStatus)), row, strict=True))
    values |= {"condition": Condition(values["condition"]), "report": report_from_json(values["report"])}
    return BranchStatus(**values)
