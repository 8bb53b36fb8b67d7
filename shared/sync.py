"""Make one branch's stored set equal to its head. The only code that changes configs.

The invariant: claim, then registry row, then head, then stored ids, each asked after the one before was answered, and
no write that the claim's lease does not let through. Bending any of it serves something wrong sooner or later, however
unlikely each step looks.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import uuid4

from shared import telemetry
from shared.errors import (
    ClaimLost,
    CommitMissing,
    DatabaseUnavailable,
    DocumentRefused,
    RepositoryNotFound,
    RepositoryRefused,
    RuntimeStoreError,
    SourceError,
)
from shared.examination import Examiner, TooManyFiles
from shared.model import (
    ABSENT,
    BranchName,
    Budget,
    Change,
    Claim,
    CommitId,
    DeferReason,
    Deferred,
    Failed,
    FilePath,
    Finding,
    Judgement,
    Outcome,
    Rejected,
    Replaced,
    RepoId,
    Report,
    Repository,
    Settled,
    Severity,
    SyncId,
    TreeId,
    Trigger,
    Unchanged,
)
from shared.ports import ConfigStore, GitSource, Queue, Registry
from shared.telemetry import metrics
from shared.workers import Workers

_log = logging.getLogger(__name__)

PASSES = 3
"""How often one run looks again for requests that came in meanwhile; what is left stays requested."""
_NOT_NOW = timedelta(minutes=15)
"""When to look again at a branch that may not be synced at all."""
_CATCHING_UP = timedelta(seconds=1)
"""How long a source that lags behind is left alone."""
_OUT_OF_TIME = Deferred(DeferReason.BUDGET, "The time for this attempt is over; the timer goes on with it.")


class _Stop(Exception):
    """Ends a pass without a verdict."""

    def __init__(self, outcome: Deferred, pause: timedelta | None = None) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome
        self.pause = pause


@dataclass(slots=True)
class _Attempt:
    """One pass, and the head that it looked at as soon as that is known: what the journal says it was about."""

    claim: Claim
    budget: Budget
    head: CommitId | None = None


class Sync:
    def __init__(
        self, registry: Registry, queue: Queue, configs: ConfigStore, git: GitSource, examiner: Examiner
    ) -> None:
        self._registry = registry
        self._queue = queue
        self._configs = configs
        self._git = git
        self._examiner = examiner

    def run(
        self,
        repo_id: RepoId,
        branch: BranchName,
        budget: Budget,
        trigger: Trigger,
        *,
        request: int | None = None,
        probe: bool = False,
        deep: bool = False,
    ) -> Outcome:
        """Sync the branch until no request is open; the outcome of the last pass. Never raises for Git or the database.

        With `request` it does nothing when another worker has answered the request of that number meanwhile: of many
        deliveries that arrive during a sync one goes on, and not each of them. `probe` also goes where the source is
        paused: a person wants to know now. With `deep` it goes on until the deep sync that was asked for has ended.
        """
        for passes_left in reversed(range(PASSES)):
            try:
                claim = self._queue.claim(repo_id, branch, SyncId(uuid4()), trigger, request=request, probe=probe)
            except DatabaseUnavailable as error:
                return Failed(error)
            if isinstance(claim, Deferred):
                return claim
            outcome, settled = self._pass(claim, budget)
            if isinstance(outcome, Deferred) and outcome.reason is DeferReason.LAGGING:
                if not passes_left or budget.deadline.remaining <= _CATCHING_UP.total_seconds():
                    break
                time.sleep(_CATCHING_UP.total_seconds())
                request = claim.seen
            elif settled is None or budget.deadline.is_over or not (settled.more or (deep and settled.deep_waits)):
                break
            else:
                request = None if deep else claim.seen + 1
        return outcome

    def run_due(self, budget: Budget, workers: Workers | None = None) -> tuple[Claim, Outcome] | None:
        """One pass over the branch that is due longest; None when no branch is. `workers` run side by side."""
        with (workers or Workers()).at(lambda busy: self._queue.claim_due(SyncId(uuid4()), busy=busy)) as claim:
            return None if claim is None else (claim, self._pass(claim, budget)[0])

    # -- One pass: one claim, one outcome, one row in the journal ------------------------------------------------------

    @telemetry.traced("sync")
    def _pass(self, claim: Claim, budget: Budget) -> tuple[Outcome, Settled | None]:
        """The outcome, and how it was settled; None when it is not to be looked at again now.

        A defect of ours is an outcome too: it must neither fail the delivery that asked, nor stop the other branches.
        """
        attempt = _Attempt(claim, budget)
        started = time.monotonic()
        telemetry.current().set({f"runtime_store.{name}": value for name, value in _about(claim).items()})
        outcome: Outcome
        settled: Settled | None = None
        try:
            outcome, settled = self._settled(attempt)
        except (ClaimLost, RepositoryNotFound):
            outcome = Deferred(DeferReason.CLAIM_LOST, "Another worker took over, or the registration changed.")
        except DatabaseUnavailable as error:
            _log.warning("A sync failed", extra={**_about(claim), "error": error.message})
            outcome = self._broken(attempt, error)
        except Exception:
            _log.exception("A sync broke", extra=_about(claim))
            hint = f"The log names it: {claim.sync_id}."
            outcome = self._broken(attempt, RuntimeStoreError("The sync ended by a defect of this app.", hint=hint))
        why = {"reason": outcome.message} if isinstance(outcome, Deferred) else {}
        _log.info("A sync ended", extra={**_about(claim), "outcome": type(outcome).__name__, **why})
        if telemetry.is_on():
            self._measure(attempt, outcome, time.monotonic() - started)
        return outcome, settled

    def _settled(self, attempt: _Attempt) -> tuple[Outcome, Settled | None]:
        try:
            repository = self._repository(attempt.claim)
            telemetry.current().set({"runtime_store.repository": repository.name})
            try:
                outcome, settled = self._look(attempt, repository)
            except SourceError as error:
                return self._failed(attempt, repository, error), None
        except _Stop as stop:
            settled = self._settle(attempt, stop.outcome, stop.pause)
            return stop.outcome, settled if stop.outcome.reason is DeferReason.PUSH_FIRST else None
        self._resume(attempt.claim, repository)
        return outcome, settled

    def _resume(self, claim: Claim, repository: Repository) -> None:
        """The source answered; if this was the probe, its pause is over."""
        if claim.paused_until is None:
            return
        try:
            self._queue.resume_source(repository.source, claim.paused_until)
        except DatabaseUnavailable as error:
            # The sync has ended well; the next one of this source is its probe again.
            _log.warning("A source stays paused", extra={**_about(claim), "error": error.message})

    def _broken(self, attempt: _Attempt, error: RuntimeStoreError) -> Outcome:
        """Failed, and written down as that if it can be: a database that refuses one statement may take another."""
        outcome = Failed(error)
        try:
            self._settle(attempt, outcome)
        except (ClaimLost, DatabaseUnavailable):
            _log.warning("A broken sync keeps its lease until it ends", extra=_about(attempt.claim))
        return outcome

    def _repository(self, claim: Claim) -> Repository:
        """The registry row, read after the claim: a change before is seen, a change after takes the claim away."""
        repository = self._registry.get(claim.repo_id)
        registration = repository.registration
        if registration.suspended is not None:
            message = f"The repository is suspended: {registration.suspended}"
            raise _Stop(Deferred(DeferReason.SUSPENDED, message), _NOT_NOW)
        if claim.branch not in registration.branches:
            message = f"The registration does not name the branch {claim.branch!r}."
            raise _Stop(Deferred(DeferReason.NOT_NAMED, message), _NOT_NOW)
        return repository

    def _look(self, attempt: _Attempt, repository: Repository) -> tuple[Outcome, Settled]:
        claim, budget = attempt.claim, attempt.budget
        ruleset = self._examiner.ruleset(repository)
        if claim.deep and claim.judged_commit is not None and claim.judged_ruleset == ruleset:
            return self._heal(claim, claim.judged_commit, repository, budget)
        # Under new rules everything is judged anyway; the deep sync stays asked for, and comes next.
        claim = replace(claim, deep=False)

        checkpoint = self._checkpoint(claim, budget)
        checkpoint()
        head = attempt.head = self._git.head(repository, claim.branch, budget.deadline)
        is_gone_too_soon = head == ABSENT and claim.announced not in (None, ABSENT)
        if head in claim.left_behind or is_gone_too_soon:
            answer = "that the branch does not exist" if head == ABSENT else f"{head[:8]}, the head from before it"
            message = f"The push of {(claim.announced or '')[:8]} was announced, and the source still answers {answer}."
            raise _Stop(Deferred(DeferReason.LAGGING, message), _CATCHING_UP)
        if head == claim.judged_commit and self._verdict_stands(claim, ruleset):
            return self._stand(claim, head, claim.judged_tree)
        if head != ABSENT and claim.judged_ruleset == ruleset and claim.judged_tree is not None:
            checkpoint()
            if self._git.tree_id(repository, head, budget.deadline) == claim.judged_tree:
                return self._stand(claim, head, claim.judged_tree)

        stored = self._configs.stored(claim.repo_id, claim.branch)
        try:
            with telemetry.span("sync.examine"):
                found = self._examiner.at_head(repository, head, stored, budget.deadline, checkpoint, budget.files)
        except TooManyFiles:
            message = "More files changed than a webhook may fetch; the timer goes on with it."
            raise _Stop(Deferred(DeferReason.BUDGET, message)) from None
        checkpoint()
        return self._end(claim, found.judgement, found.change)

    def _verdict_stands(self, claim: Claim, ruleset: str) -> bool:
        """Of a new ruleset alone only the timer makes a new verdict: while two versions of the app run side by side,
        their webhooks would judge back and forth. A change of the registration forgets the ruleset: all judge."""
        if claim.judged_ruleset is None:
            return False
        return claim.judged_ruleset == ruleset or claim.trigger is Trigger.WEBHOOK

    def _checkpoint(self, claim: Claim, budget: Budget) -> Callable[[], None]:
        def checkpoint() -> None:
            if budget.deadline.is_over:
                raise _Stop(_OUT_OF_TIME)
            requested = self._queue.renew(claim)
            if claim.deep and requested > claim.seen:
                raise _Stop(Deferred(DeferReason.PUSH_FIRST, "A deep sync made way for a push."))

        return checkpoint

    @telemetry.traced("sync.heal")
    def _heal(self, claim: Claim, judged: CommitId, repository: Repository, budget: Budget) -> tuple[Outcome, Settled]:
        """The deep sync: what is served is compared with its commit, and neither commit nor verdict moves."""
        checkpoint = self._checkpoint(claim, budget)
        checkpoint()
        stored = self._configs.stored(claim.repo_id, claim.branch, verify=True)
        # A commit that newer rules rejected was chosen by others: by these it may hold other files.
        whole = claim.judged_and_accepted or {row.ruleset for row in stored.values()} == {claim.judged_ruleset}
        change, skipped = Change(), ""
        try:
            change = self._examiner.damage(
                repository, claim.commit_id, stored, budget.deadline, checkpoint, whole=whole
            )
        except CommitMissing as error:
            skipped = error.message
        checkpoint()
        judgement = Judgement(judged, claim.judged_tree, claim.judged_ruleset, _noted(claim.report, skipped))
        return self._write(claim, judgement, change, claim.commit_id, claim.judged_and_accepted)

    # -- Endings -----------------------------------------------------------------------------------------------------

    def _stand(self, claim: Claim, head: CommitId, tree: TreeId | None) -> tuple[Outcome, Settled]:
        """The verdict that stands, at this head: nothing that decides about it has changed."""
        judgement = Judgement(head, tree, claim.judged_ruleset, claim.report)
        serve = _served(head) if claim.judged_and_accepted else claim.commit_id
        return self._write(claim, judgement, Change(), serve, claim.judged_and_accepted)

    def _end(self, claim: Claim, judgement: Judgement, change: Change) -> tuple[Outcome, Settled]:
        if judgement.report.rejects:
            return self._write(claim, judgement, Change(), claim.commit_id, accepted=False)
        try:
            return self._write(claim, judgement, change, _served(judgement.commit_id), accepted=True)
        except DocumentRefused as error:
            # It would be refused again: a verdict that names the document, not a failure to repeat for ever.
            finding = Finding(FilePath(error.path or ""), "database", Severity.ERROR, error.message)
            report = replace(judgement.report, findings=(finding, *judgement.report.findings))
            return self._write(claim, replace(judgement, report=report), Change(), claim.commit_id, accepted=False)

    @telemetry.traced("sync.write")
    def _write(
        self, claim: Claim, judgement: Judgement, change: Change, serve: CommitId | None, accepted: bool
    ) -> tuple[Outcome, Settled]:
        try:
            settled = self._configs.replace(claim, judgement, change, serve=serve, accepted=accepted)
        except DatabaseUnavailable:
            # Whether it was committed is not known, and a repeat would look like a lost claim. The journal knows.
            ended = self._configs.ended(claim.sync_id)
            if ended is None:
                raise
            settled = ended
        if not accepted:
            return Rejected(judgement.commit_id, judgement.report), settled
        about = judgement.commit_id, settled.generation
        if settled.changed:
            return Replaced(*about, settled.written, settled.removed, judgement.report), settled
        return Unchanged(*about, judgement.report), settled

    def _failed(self, attempt: _Attempt, repository: Repository, error: SourceError) -> Outcome:
        if attempt.budget.deadline.is_over:
            # Cut off by our own budget: that says nothing about the source.
            self._settle(attempt, _OUT_OF_TIME)
            return _OUT_OF_TIME
        if error.concerns_source:
            until = attempt.claim.paused_until
            self._queue.pause_source(repository.source, error, error.retry_after, until=until)
        elif isinstance(error, RepositoryRefused | CommitMissing):
            # Whoever tells that knows who we are: the probe of the source has succeeded, if not that of this branch.
            self._resume(attempt.claim, repository)
        self._settle(attempt, Failed(error), error.retry_after)
        _log.warning("A sync failed", extra={**_about(attempt.claim), "error": error.message})
        return Failed(error)

    def _measure(self, attempt: _Attempt, outcome: Outcome, seconds: float) -> None:
        claim, name, waited = attempt.claim, type(outcome).__name__, None
        reason = outcome.reason if isinstance(outcome, Deferred) else None
        error = type(outcome.error).__name__ if isinstance(outcome, Failed) else None
        if isinstance(outcome, Replaced | Unchanged):
            with suppress(RuntimeStoreError):
                waited = self._queue.waited(claim)
        metrics.SYNCS.add(1, name, claim.trigger, reason, error)
        metrics.SYNC_DURATION.record(seconds, name, claim.trigger)
        told: dict[str, str | float | None] = {"outcome": name, "reason": reason, "commit": attempt.head}
        if waited is not None:
            metrics.PUSH_SERVED.record(waited.total_seconds(), claim.trigger)
            told["served_after"] = waited.total_seconds()
        span = telemetry.current()
        span.set({f"runtime_store.{name}": value for name, value in told.items()})
        if error is not None:
            span.fail(error)

    def _settle(self, attempt: _Attempt, outcome: Deferred | Failed, pause: timedelta | None = None) -> Settled:
        try:
            return self._queue.settle(attempt.claim, outcome, head=attempt.head, pause=pause)
        except DatabaseUnavailable:
            ended = self._configs.ended(attempt.claim.sync_id)
            if ended is None:
                raise
            return ended


def _about(claim: Claim) -> dict[str, str]:
    sync_id = str(claim.sync_id)
    return {"repo_id": claim.repo_id, "branch": claim.branch, "trigger": claim.trigger, "sync_id": sync_id}


def _served(head: CommitId) -> CommitId | None:
    return None if head == ABSENT else head


def _noted(report: Report, message: str) -> Report:
    """With the note why the latest deep sync compared nothing, or without one when it did."""
    note = Finding(FilePath(""), "deep-sync-skipped", Severity.NOTE, message)
    others = tuple(finding for finding in report.findings if finding.rule != note.rule)
    return replace(report, findings=(*others, note) if message else others)
