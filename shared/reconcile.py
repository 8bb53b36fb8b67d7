"""Every branch that is due, isolated from each other, inside a time budget.

Deliveries get lost: a sweep looks at every head now and then, so that what is served is the head whatever became of the
webhook. One broken repository costs its own attempts and nobody else's.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from uuid import uuid4

from shared import telemetry
from shared.errors import RuntimeStoreError, SourceError
from shared.examination import Examiner
from shared.model import (
    ABSENT,
    BranchName,
    Budget,
    CommitId,
    Deadline,
    RepoId,
    Repository,
    Ruleset,
    SourceName,
    SweepSummary,
    Vitals,
)
from shared.ports import GitSource, Journal, Queue, Sweeps
from shared.sync import Sync
from shared.telemetry import metrics
from shared.workers import Workers

_log = logging.getLogger(__name__)

OVERDUE = timedelta(minutes=3)
"""Three periods of the timer: then a webhook does some of its work."""
_HELP = timedelta(seconds=5)


class Reconcile:
    """`announce` tells commits what became of them until its deadline, and does not raise."""

    def __init__(
        self,
        sweeps: Sweeps,
        queue: Queue,
        journal: Journal,
        git: GitSource,
        examiner: Examiner,
        sync: Sync,
        announce: Callable[[Deadline], object],
        *,
        workers: int,
        retention: timedelta,
    ) -> None:
        self._sweeps = sweeps
        self._queue = queue
        self._journal = journal
        self._git = git
        self._examiner = examiner
        self._sync = sync
        self._announce = announce
        self._workers = workers
        self._retention = retention

    @telemetry.traced("sweep")
    def sweep(self, trigger: str, duration: timedelta) -> SweepSummary:
        """Check the heads that are due, sync what is due, drop what is old; no step begins after `duration`.

        Does nothing while another sweep runs. Raises `DatabaseUnavailable`.
        """
        sweep_id, started = uuid4(), time.monotonic()
        telemetry.current().set({"runtime_store.trigger": trigger})
        if telemetry.is_on():
            _tell_age(self._sweeps.age())
        if not self._sweeps.begin(sweep_id, trigger, duration):
            return SweepSummary(started=False)
        summary = None
        try:
            summary = self._swept(Deadline.after(duration))
        finally:
            self._sweeps.end(sweep_id, summary)
        _log.info("A sweep ended", extra={"trigger": trigger, "summary": str(summary)})
        if telemetry.is_on():
            self._measure(trigger, summary, time.monotonic() - started)
        return summary

    def _measure(self, trigger: str, summary: SweepSummary, seconds: float) -> None:
        telemetry.current().set({"runtime_store.complete": summary.is_complete})
        metrics.SWEEP_DURATION.record(seconds, trigger, summary.is_complete)
        metrics.HEAD_CHECKS.add(summary.heads_checked, "checked")
        metrics.HEAD_CHECKS.add(summary.heads_failed, "failed")
        metrics.HEADS_UNANNOUNCED.add(summary.moved)
        with suppress(RuntimeStoreError):
            _tell(self._journal.vitals(metrics.LAGGARDS))

    def _swept(self, deadline: Deadline) -> SweepSummary:
        # What was asked for goes first: hosts that hang while their heads are looked at must not delay a push.
        outcomes = self._in_parallel(lambda workers: self._sync_due(deadline, workers))
        self._sweeps.ask_due_deep_syncs()
        heads = self._in_parallel(lambda workers: self._check_heads(deadline, workers))
        outcomes += self._in_parallel(lambda workers: self._sync_due(deadline, workers))
        is_complete = not deadline.is_over
        # Last, since no sync may wait for it.
        self._announce(deadline)
        self._journal.prune(self._retention)
        return SweepSummary(
            started=True,
            heads_checked=heads["checked"],
            heads_failed=heads["failed"],
            moved=heads["moved"],
            outcomes=dict(outcomes),
            is_complete=is_complete,
        )

    def take_along(self, deadline: Deadline) -> None:
        """Do some of the timer's work when it has not been seen for `OVERDUE`: timers have been known to stop."""
        left = timedelta(seconds=deadline.remaining)
        if not left:
            return
        try:
            age = self._sweeps.age()
            _tell_age(age)
            if age is None or age > OVERDUE:
                self.sweep("take-along", min(left, _HELP))
        except Exception:
            # The delivery is recorded and answered for; this was a favour to the timer.
            _log.exception("A sweep was not taken along")

    def _in_parallel(self, work: "Callable[[Workers], Counter[str]]") -> "Counter[str]":
        """Each worker counts for itself; the sum of their counts."""
        side_by_side = Workers()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="sweep") as workers:
            running = [workers.submit(copy_context().run, work, side_by_side) for _ in range(self._workers)]
            return sum((done.result() for done in running), Counter())

    def _check_heads(self, deadline: Deadline, workers: Workers) -> "Counter[str]":
        counts: Counter[str] = Counter()
        answered: set[SourceName] = set()
        while not deadline.is_over:
            with workers.at(self._next_head_check) as repository:
                if repository is None:
                    break
                try:
                    counts["moved"] += self._check(repository, deadline)
                    counts["checked"] += 1
                    answered.add(repository.source)
                except SourceError as error:
                    counts["failed"] += 1
                    self._leave_alone(repository, error)
                except Exception:
                    counts["failed"] += 1
                    _log.exception("A head check broke", extra={"repo_id": repository.repo_id})
        for source in answered:
            self._queue.resume_source(source)
        return counts

    def _next_head_check(self, busy: Collection[RepoId]) -> Repository | None:
        return next(iter(self._sweeps.claim_head_checks(1, busy=busy)), None)

    def _check(self, repository: Repository, deadline: Deadline) -> int:
        """Compare heads with verdicts and request what differs; returns how many heads had moved."""
        known = self._named(repository)
        heads = self._git.heads(repository, deadline)
        ruleset = self._examiner.ruleset(repository)
        found = {branch: heads.get(branch, ABSENT) for branch in known}
        moved = {branch: head for branch, head in found.items() if head != known[branch][0]}
        if moved:
            self._sweeps.moved(repository.repo_id, moved)
        outdated = [branch for branch in known if branch not in moved and known[branch][1] != ruleset]
        if outdated:
            self._queue.ask(repository.repo_id, outdated)
        return len(moved)

    def _leave_alone(self, repository: Repository, error: SourceError) -> None:
        """Pause the source where it refuses or throttles us; else let the branches' syncs say what is wrong."""
        _log.warning("Heads cannot be read", extra={"repo_id": repository.repo_id, "error": error.message})
        if error.concerns_source:
            self._queue.pause_source(repository.source, error, error.retry_after)
        self._queue.ask(repository.repo_id, self._named(repository))

    def _named(self, repository: Repository) -> Mapping[BranchName, tuple[CommitId | None, Ruleset | None]]:
        """The branches that the registration names and no sync was requested for, with their verdicts."""
        known = self._sweeps.judged(repository.repo_id)
        return {branch: known[branch] for branch in repository.registration.branches if branch in known}

    def _sync_due(self, deadline: Deadline, workers: Workers) -> "Counter[str]":
        outcomes: Counter[str] = Counter()
        while not deadline.is_over:
            done = self._sync.run_due(Budget(deadline), workers)
            if done is None:
                break
            outcomes[type(done[1]).__name__] += 1
        return outcomes


def _tell_age(age: timedelta | None) -> None:
    if age is not None:
        metrics.SWEEP_AGE.set(age.total_seconds())


def _tell(vitals: Vitals) -> None:
    metrics.BRANCHES.replace((count, (condition,)) for condition, count in vitals.conditions.items())
    metrics.BRANCHES_WAITING.set(vitals.waiting)
    metrics.DELIVERIES_MISSED.set(vitals.missed)
    late = [(one, (one.repository, one.branch)) for one in vitals.laggards]
    metrics.BRANCH_NOT_READY.replace((one.age.total_seconds(), (*which, one.condition)) for one, which in late)
    metrics.BRANCH_SERVED.replace((one.served_age.total_seconds(), which) for one, which in late if one.served_age)
