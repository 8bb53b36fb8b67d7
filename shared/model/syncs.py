"""A sync: what starts it, the claim it holds, and how it ends."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from shared.errors import RuntimeStoreError
from shared.model.ids import BranchName, CommitId, Generation, RepoId, Ruleset, SyncId, TreeId
from shared.model.judgement import Report


class Trigger(StrEnum):
    WEBHOOK = "webhook"
    MANUAL = "manual"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on this process's monotonic clock, in seconds; no step may begin after it."""

    at: float

    @classmethod
    def after(cls, duration: timedelta) -> "Deadline":
        return cls(time.monotonic() + duration.total_seconds())

    def within(self, duration: timedelta) -> "Deadline":
        """This one, or the end of `duration` from now if that comes first."""
        return min(self, Deadline.after(duration), key=lambda deadline: deadline.at)

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - time.monotonic())

    @property
    def is_over(self) -> bool:
        return self.remaining == 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one sync may take: until when, and how many files it may fetch (None: as many as there are)."""

    deadline: Deadline
    files: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to end the current sync of a branch, and what the branch was when it was taken."""

    sync_id: SyncId
    repo_id: RepoId
    branch: BranchName
    trigger: Trigger
    seen: int
    """Requests made until now: what a finished sync will have answered."""
    finished: int
    deep: bool
    """Somebody asked for a deep sync, and no push is waiting in front of it."""
    generation: Generation
    commit_id: CommitId | None
    judged_commit: CommitId | None
    judged_tree: TreeId | None
    judged_ruleset: Ruleset | None
    report: Report
    started_at: datetime
    """By the database's clock."""
    paused_until: datetime | None = None
    """The source was in trouble: this sync is the probe, and that is the end of the pause that it knows of."""
    left_behind: tuple[CommitId, ...] = ()
    """Heads that announced pushes moved away from, a short while ago: a source that answers one lags behind."""
    announced: CommitId | None = None
    """Where the newest push led to, if that was announced a short while ago."""

    @property
    def judged_and_accepted(self) -> bool:
        """Whether the standing verdict let the judged commit be served (or found the branch to be gone). Under newer
        rules a commit may be rejected that is served: comparing the two commits would not tell."""
        return self.judged_commit is not None and not self.report.rejects


@dataclass(frozen=True, slots=True)
class Replaced:
    """The served set became the head's, and its content changed."""

    commit_id: CommitId
    generation: Generation
    written: int
    removed: int
    report: Report = field(default_factory=Report)


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The head is served, and no content had to change for it."""

    commit_id: CommitId
    generation: Generation
    report: Report = field(default_factory=Report)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The head is not served: its findings say why. What was served before still is."""

    commit_id: CommitId
    report: Report


class DeferReason(StrEnum):
    BUSY = "busy"
    """Another worker is syncing this branch, and will look again before it ends; or it has just done so."""
    SOURCE_PAUSED = "source-paused"
    SUSPENDED = "suspended"
    NOT_NAMED = "not-named"
    """The registration does not name this branch any more."""
    BUDGET = "budget"
    """Out of time, or more files than this trigger may fetch: the timer goes on with it."""
    CLAIM_LOST = "claim-lost"
    """Another worker took over, or the registration changed meanwhile."""
    PUSH_FIRST = "push-first"
    """A deep sync made way for a push."""
    LAGGING = "lagging"
    """The source still answers the head from before a push that was announced."""
    REPOSITORY_GONE = "repository-gone"


@dataclass(frozen=True, slots=True)
class Deferred:
    """Nothing was decided now; what was requested stays requested."""

    reason: DeferReason
    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt broke. What was requested stays requested and is tried again after a back-off."""

    error: RuntimeStoreError


Outcome: TypeAlias = Replaced | Unchanged | Rejected | Deferred | Failed


@dataclass(frozen=True, slots=True)
class Settled:
    """How a pass ended in the database: whether a request came in since the claim, and the generation served now."""

    generation: Generation
    more: bool
    changed: bool = False
    written: int = 0
    removed: int = 0
    deep_waits: bool = False
    """Somebody still waits for a deep sync."""


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """One ended sync, as the journal keeps it."""

    sync_id: SyncId
    repo_id: RepoId
    branch: BranchName
    trigger: Trigger
    outcome: str
    started_at: datetime
    ended_at: datetime
    from_request: int
    to_request: int
    commit_id: CommitId | None
    """The head that the sync was about; None when it ended before that was known."""
    generation: Generation
    written: int
    removed: int
    reason: str
    message: str
    report: Report


@dataclass(frozen=True, slots=True)
class SweepSummary:
    """What one sweep did; `outcomes` counts by outcome name."""

    started: bool
    """False when another sweep was running: nothing was done."""
    heads_checked: int = 0
    heads_failed: int = 0
    moved: int = 0
    """Branches whose head had moved without a delivery."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    is_complete: bool = True
    """False when the time budget ended before everything due was done."""
