"""What is known of a branch, and what is served."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.model.ids import BlobId, BranchName, CommitId, FilePath, Generation, RepoId
from shared.model.judgement import Report


class Condition(StrEnum):
    READY = "Ready"
    SYNCING = "Syncing"
    INVALID = "Invalid"
    FETCH_FAILED = "FetchFailed"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    THROTTLED = "Throttled"
    SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True)
class BranchStatus:
    """All that an owner may ask about one branch."""

    repo_id: RepoId
    branch: BranchName
    condition: Condition
    reason: str
    message: str
    since: datetime
    generation: Generation
    commit_id: CommitId | None
    synced_at: datetime | None
    judged_commit: CommitId | None
    report: Report
    requested: int
    finished: int
    syncing: bool
    attempts: int
    next_attempt_at: datetime | None
    deep_synced_at: datetime | None
    configs: int

    @property
    def is_waiting(self) -> bool:
        return self.requested > self.finished


@dataclass(frozen=True, slots=True)
class Served:
    """The set a branch serves: all of a response that is not a config."""

    generation: Generation
    commit_id: CommitId
    synced_at: datetime


@dataclass(frozen=True, slots=True)
class Item:
    """One runtime config as it is served. `config` is PostgreSQL's JSON text in UTF-8."""

    filepath: FilePath
    config: bytes
    blob_id: BlobId
    generation: Generation
    """The branch's generation when this content came: the item's ETag."""
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """Items of one branch in the order of their paths' bytes, and the set they belong to: read by one statement."""

    served: Served
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything is, in numbers."""

    conditions: Mapping[Condition, int]
    waiting: int
    """Branches with a request that no sync has answered yet."""
    missed: int
    """Heads that moved more than an hour ago and were never announced by a delivery."""
    sweep_age: timedelta | None
    """Time since a sweep last ended; None when none ever did."""


@dataclass(frozen=True, slots=True)
class Laggard:
    """A branch that is not Ready, and not for want of a person's decision."""

    repository: str
    """Its name."""
    branch: BranchName
    condition: Condition
    age: timedelta
    """Time since it was, whatever its condition was meanwhile."""
    served_age: timedelta | None
    """Time since what it serves was accepted; None when it serves nothing."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is measured at each sweep."""

    conditions: Mapping[Condition, int]
    """Every condition, also those of no branch."""
    waiting: int
    """Branches with a request that no sync has answered yet."""
    missed: int
    """Heads of the last day that had moved for an hour and were not announced by a delivery."""
    laggards: tuple[Laggard, ...]
    """The longest first."""
