"""The nouns of Runtime Store: frozen, typed, and without behaviour beyond what follows from their own values.

What comes in tens of thousands is a named tuple, which is built three times faster than a frozen dataclass.
Times are aware UTC datetimes and end in `_at`. Tuples stand for ordered collections, so that everything here can be
shared between threads.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, NewType, TypeAlias
from uuid import UUID

from shared.errors import RuntimeStoreError

RepoId = NewType("RepoId", str)
"""The Azure DevOps GUID in lower case, or an id that was chosen at registration."""
BranchName = NewType("BranchName", str)
"""Without `refs/heads/`."""
CommitId = NewType("CommitId", str)
"""40 lower-case hex digits."""
TreeId = NewType("TreeId", str)
BlobId = NewType("BlobId", str)
FilePath = NewType("FilePath", str)
"""Path in the repository, `/` between folders, none in front."""
Ruleset = NewType("Ruleset", str)
Generation = NewType("Generation", int)
SyncId = NewType("SyncId", UUID)
"""Identifies one sync, and is the lease that every write of that sync must still find in place."""
SourceName = NewType("SourceName", str)
"""Where a repository is read from, as far as it is paused as a whole: an organisation, a Git URL or a path."""

JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"

ABSENT = CommitId("0" * 40)
"""The commit of a branch that Git proved not to have: what a deletion has as `newObjectId`."""


_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]$|(?:^|/)\.|\.lock(?:/|$)|^HEAD$|^refs/")


def is_branch_name(text: str) -> bool:
    """As `git help check-ref-format` says; a name that starts with `refs/` is allowed there, and here always a mistake."""
    return 0 < len(text) <= 250 and not _NO_BRANCH.search(text)


# -- What a team registers -----------------------------------------------------------------------------------------


class Validation(StrEnum):
    """What findings of the schema do. A file that is not YAML rejects the push in both."""

    ENFORCE = "enforce"
    """A finding of severity error rejects the push: the branch stays whole at its last good commit."""
    REPORT = "report"
    """Findings of the schema are kept and shown, and the set is served."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a person decides about a repository."""

    name: str
    source: SourceName
    branches: tuple[BranchName, ...]
    project: str | None = None
    root: str = ""
    """Folder to look in, without slashes at its ends; empty is the whole repository."""
    pattern: str = "*runtime*.yaml"
    """Matched, case-sensitively, against the file's name."""
    validation: Validation = Validation.ENFORCE
    suspended: str | None = None
    """Why nothing is synced at present; None when it is."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A registered Git repository."""

    repo_id: RepoId
    registration: Registration
    revision: int
    """Moves with every change of the registration: the guard of compare-and-set."""
    created_at: datetime
    updated_at: datetime
    heads_checked_at: datetime | None = None

    @property
    def name(self) -> str:
        return self.registration.name

    @property
    def source(self) -> SourceName:
        return self.registration.source


@dataclass(frozen=True, slots=True)
class Names:
    """Every way to say which repository and branch is meant, as of one moment."""

    repositories: Mapping[str, RepoId]
    """Id or name to id; where one repository's name is another's id, the id wins."""
    branches: Mapping[RepoId, tuple[BranchName, ...]]
    """The branches with a served commit, longest name first."""


# -- What Git says ---------------------------------------------------------------------------------------------------


class TreeEntry(NamedTuple):
    """One file of a commit. `mode` is Git's: 100644 and 100755 files, 120000 symbolic link, 160000 submodule."""

    path: FilePath
    """Bytes that are not UTF-8 are kept as lone surrogates (`surrogateescape`)."""
    mode: str
    object_id: BlobId
    size: int | None = None
    """Bytes; None where the source cannot tell without a download."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Every file of one commit, folders flattened, in any order."""

    tree_id: TreeId
    entries: tuple[TreeEntry, ...]


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One branch of one push: `old` is ABSENT for a new branch, `new` for a deleted one."""

    branch: BranchName
    old: CommitId
    new: CommitId


# -- What is judged --------------------------------------------------------------------------------------------------


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know about one file; `line` and `column` count from 1, `pointer` is a JSON pointer (RFC 6901)."""

    path: FilePath
    rule: str
    severity: Severity
    message: str
    line: int | None = None
    column: int | None = None
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of one judged commit, errors first; `omitted` counts those beyond the number that is kept."""

    findings: tuple[Finding, ...] = ()
    omitted: int = 0

    @property
    def rejects(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Document:
    """One file, read: `value` holds nothing that JSON cannot say."""

    path: FilePath
    blob_id: BlobId
    value: JsonValue


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """One runtime config, judged and ready to be stored. `text` is its JSON; `findings` are those it is stored with."""

    path: FilePath
    blob_id: BlobId
    text: str
    findings: tuple[Finding, ...] = ()


class StoredId(NamedTuple):
    """What decides whether a stored file must be fetched again, and what was found in it."""

    blob_id: BlobId
    ruleset: Ruleset
    findings: tuple[Finding, ...] = ()
    is_intact: bool = True
    """False when the row's digest does not hold any more: somebody edited it by hand."""


# -- The sync --------------------------------------------------------------------------------------------------------


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
    source_paused: bool = False
    """The source was in trouble: this sync is the probe."""

    @property
    def judged_and_accepted(self) -> bool:
        """Whether the standing verdict let the judged commit be served (or found the branch to be gone)."""
        return self.judged_commit is not None and self.judged_commit == (self.commit_id or ABSENT)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one sync found out about one commit."""

    commit_id: CommitId
    tree_id: TreeId | None
    ruleset: Ruleset | None
    report: Report


@dataclass(frozen=True, slots=True)
class Change:
    """What to make of a stored set: `configs` are written, `gone` are removed, all else stays as it is."""

    configs: tuple[RuntimeConfig, ...] = ()
    gone: tuple[FilePath, ...] = ()


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
    """Another worker is syncing this branch, and will look again before it ends."""
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


# -- What is known of a branch ---------------------------------------------------------------------------------------


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


# -- What is read ------------------------------------------------------------------------------------------------------


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


# -- What arrives --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """A service hook's payload, read leniently: what it does not say is None, and nothing in it is believed.

    `updates` is None when the payload does not list refs at all (Minimal, None), and empty when it lists no branch.
    """

    event_type: str | None
    event_id: str | None = None
    subscription_id: str | None = None
    is_test: bool = False
    repo_id: RepoId | None = None
    repository: str | None = None
    project: str | None = None
    organisation: str | None = None
    """URL of the Azure DevOps organisation the payload says it comes from, without a slash at its end."""
    push_id: int | None = None
    pushed_by: str | None = None
    updates: tuple[RefUpdate, ...] | None = None
    problem: str | None = None
    """Why the payload could not be read as a push; None when it could."""


class Decision(StrEnum):
    """What was decided about a delivery."""

    REQUESTED = "requested"
    """Syncs of the named branches were requested."""
    BRANCHES_CHECKED = "all-branches"
    """The payload does not say which branches: every branch of the repository was requested."""
    HEADS_CHECKED = "all-heads"
    """The payload does not say which repository: the next sweep looks at every head."""
    IGNORED_EVENT = "ignored-event"
    IGNORED_BRANCH = "ignored-branch"
    """No branch of this push is one that this environment ingests."""
    UNKNOWN_REPOSITORY = "unknown-repository"
    """Not registered, and not to be registered automatically."""
    TEST = "test"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook call that arrived, and what was decided about it."""

    delivery_id: UUID
    decision: Decision
    event: Event
    requests: Mapping[BranchName, int] = field(default_factory=dict)
    """The request number that each branch got; its sync is the first whose `to_request` reaches it."""
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a webhook call is told."""

    delivery: Delivery
    outcomes: Mapping[BranchName, Outcome]


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
