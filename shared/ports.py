"""What the use cases need from the outside, one Protocol per role, split by who calls.

A method's docstring is its promise: what is true afterwards, what is atomic, which errors. Everything speaks the words
of `model`; no rows, no HTTP, no driver handles. Any method that reaches a database may raise `DatabaseUnavailable`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from shared.errors import SourceError
from shared.model import (
    BlobId,
    BranchName,
    BranchStatus,
    Change,
    Claim,
    CommitId,
    CommitStatus,
    Deadline,
    Deferred,
    Delivery,
    Failed,
    FilePath,
    Generation,
    Item,
    Judgement,
    Listing,
    Located,
    Names,
    Overview,
    RefUpdate,
    Registration,
    RepoId,
    Repository,
    Ruleset,
    Served,
    Settled,
    SourceName,
    StoredId,
    SweepSummary,
    SyncId,
    SyncRecord,
    Tree,
    TreeId,
    Trigger,
    Unposted,
    Vitals,
)


class GitSource(Protocol):
    """Reads Git. No call outlasts its deadline, nor the adapter's own time-out, which is below a lease.

    Every method raises `SourceFailed`, `SourceRefused` or `SourceThrottled`; absence is only ever told by a complete,
    successful answer.
    """

    def heads(self, repository: Repository, deadline: Deadline) -> Mapping[BranchName, CommitId]:
        """All branches of the repository and their heads now."""
        ...

    def head(self, repository: Repository, branch: BranchName, deadline: Deadline) -> CommitId:
        """The branch's head now; `ABSENT` only when the repository answered completely and does not have it."""
        ...

    def tree_id(self, repository: Repository, commit: CommitId, deadline: Deadline) -> TreeId:
        """The commit's root tree. Raises `CommitMissing` when the repository does not know the commit."""
        ...

    def tree(self, repository: Repository, commit: CommitId, deadline: Deadline) -> Tree:
        """Every file of the commit. Raises `CommitMissing`. Whoever deletes by it proves it first (`listing.prove`)."""
        ...

    def blobs(
        self, repository: Repository, commit: CommitId, blob_ids: Collection[BlobId], deadline: Deadline
    ) -> Iterator[tuple[BlobId, bytes | int]]:
        """The bytes of blobs of that commit, each once, in any order; of one that is larger than the source reads, its
        size. Bytes are not verified here; the sync does."""
        ...

    def is_ancestor(self, repository: Repository, ancestor: CommitId, descendant: CommitId, deadline: Deadline) -> bool:
        """Whether `ancestor` is `descendant` or in its history; False when either is unknown."""
        ...

    def push(self, repository: Repository, push_id: int, deadline: Deadline) -> Sequence[RefUpdate]:
        """The branches that a push moved; none where the source keeps no record of pushes."""
        ...


class Directory(Protocol):
    """Knows the repositories of a Git host that gives them ids."""

    def find(self, address: str, deadline: Deadline) -> Located | None:
        """The repository at a web address of this host; None when the address is not one of them.

        Raises `SourceError`; `RepositoryRefused` when the host has none there that we may see.
        """
        ...


class Registry(Protocol):
    """The registered repositories. Names are unique and set once, and no name looks like a GUID."""

    def get(self, repo_id: RepoId) -> Repository:
        """Raises `RepositoryNotFound`."""
        ...

    def find(self, alias: str) -> Repository | None:
        """By id or by name, the id wins; read from the database now."""
        ...

    def list(self) -> Sequence[Repository]:
        """All, by name."""
        ...

    def put(self, repo_id: RepoId, registration: Registration, *, expected: int | None) -> Repository:
        """Add it (`expected` None) or change it if its revision is still `expected`.

        One transaction: the row, a new revision, a request for every named branch, the claims of running syncs taken
        away and verdicts forgotten, so that everything is judged under the new registration; branches it does not name
        any more lose their configs. A put that changes nothing changes nothing. Raises `NameTaken` (name or id),
        `RepositoryNotFound`, `RevisionMoved`, and `InvalidRequest` for another name than the one it has.
        """
        ...

    def remove(self, repo_id: RepoId, *, expected: int) -> None:
        """The repository, its branches and its configs are gone together. Raises as `put`."""
        ...

    def names(self) -> Names:
        """All aliases and served branches, from one statement."""
        ...


class Queue(Protocol):
    """Who may sync what, and when. The database's clock decides about leases and due times."""

    def request(
        self, delivery: Delivery, repo_id: RepoId | None, branches: Collection[BranchName], *, all_heads: bool = False
    ) -> Delivery:
        """Record a delivery and what it asks for, in one transaction, and return it with its request numbers.

        Only after this returned may a webhook be answered with success. An unregistered repository and a branch that
        the registration does not name get no request;
        `all_heads` makes the head check of every repository due.
        """
        ...

    def ask(self, repo_id: RepoId, branches: Collection[BranchName], *, deep: bool = False) -> None:
        """Request syncs without a delivery; `deep` asks for a deep sync, which lets pushes go first."""
        ...

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
        """Take the lease of one branch, or say why not (busy, source paused, suspended, not requested ever).

        Counts the attempt and sets the next one by back-off before any work, so that a branch that kills its worker is
        not first in the queue for ever. With `request`, only while the request of that number is not answered: else
        another worker has been busy with it. `probe` claims also when the source is paused. Deferred wrote nothing.
        """
        ...

    def claim_due(self, sync_id: SyncId, *, busy: Collection[RepoId] = ()) -> Claim | None:
        """Take the lease of the branch that is due longest; None when none is. Skips leased branches, suspended
        repositories and paused sources; a source whose pause has ended lets one probe through. Those that share a
        source with one of `busy` come last."""
        ...

    def renew(self, claim: Claim) -> int:
        """Prolong the lease; returns the requests made until now. Raises `ClaimLost`."""
        ...

    def settle(
        self, claim: Claim, outcome: Deferred | Failed, *, head: CommitId | None = None, pause: timedelta | None = None
    ) -> Settled:
        """End the sync without a verdict; the request stays open. Deferred is due again now, Failed after a back-off,
        or after `pause` when given. Raises `ClaimLost`. Atomic with its journal row, which names the `head` that was
        looked at; None when it was not known yet."""
        ...

    def pause_source(
        self,
        source: SourceName,
        error: SourceError,
        pause: timedelta | None = None,
        *,
        until: datetime | None = None,
    ) -> None:
        """Leave the source alone as a whole: for `pause`, or for a time that doubles with each failure.

        A failure during a pause is a further one only from who knew that pause, which ends at `until`: the probe. What
        else was on its way when the pause began does not prolong it.
        """
        ...

    def resume_source(self, source: SourceName, until: datetime | None = None) -> None:
        """The source answered: forget its failures and make its waiting branches due, unless somebody asked for a pause
        that ends after `until` (without it: after now)."""
        ...

    def waited(self, claim: Claim) -> timedelta | None:
        """Time since the oldest delivery arrived that asked for what this claim answers; None when none did."""
        ...

    def status(self, repo_id: RepoId | None = None) -> Sequence[BranchStatus]:
        """Every branch that was ever requested, by repository and name: of one repository, or of all."""
        ...


class Sweeps(Protocol):
    """One sweep at a time, whoever starts it, and what a sweep looks for."""

    def begin(self, sweep_id: UUID, trigger: str, budget: timedelta) -> bool:
        """Take the sweep's claim for a little longer than `budget`; False when another holds it."""
        ...

    def end(self, sweep_id: UUID, summary: SweepSummary | None) -> None:
        """Give the claim back and keep the summary; without one the sweep broke, and does not count as ended. Does
        nothing when the claim is not ours any more."""
        ...

    def age(self) -> timedelta | None:
        """Time since a sweep last ended; None when none ever did."""
        ...

    def claim_head_checks(self, limit: int, *, busy: Collection[RepoId] = ()) -> Sequence[Repository]:
        """Repositories whose planned head check is due, oldest first, marked as checked. Skips suspended ones and
        paused sources. Those that share a source with one of `busy` come last."""
        ...

    def ask_due_deep_syncs(self) -> int:
        """Ask for a deep sync of every branch whose planned minute has passed since its last one; returns how many."""
        ...

    def judged(self, repo_id: RepoId) -> Mapping[BranchName, tuple[CommitId | None, Ruleset | None]]:
        """The judged commit and ruleset of every branch that no sync was requested for."""
        ...

    def moved(self, repo_id: RepoId, heads: Mapping[BranchName, CommitId]) -> None:
        """Request syncs of heads that moved without a sync; those without a delivery are noted as unannounced."""
        ...


class ConfigStore(Protocol):
    """The only way to change configs, called by `sync` alone."""

    def stored(self, repo_id: RepoId, branch: BranchName, *, verify: bool = False) -> Mapping[FilePath, StoredId]:
        """What the branch holds now, in a statement of its own. With `verify`, each row's
        digest is computed again and `is_intact` tells whether it held."""
        ...

    def replace(
        self, claim: Claim, judgement: Judgement, change: Change, *, serve: CommitId | None, accepted: bool = True
    ) -> Settled:
        """End the sync with a verdict, atomically: rows, branch, request numbers, condition and journal row together.

        `serve` is the commit the branch serves from now on (None: it serves nothing). With `accepted` False the verdict
        is Rejected and `serve` is what was served before. A new generation is taken only when some content differs;
        rows that do not differ are not written. Readers see all of it or nothing. Raises `ClaimLost` when the lease is
        not ours any more (then nothing was written), `DocumentRefused` when the database will never take the data.
        """
        ...

    def ended(self, sync_id: SyncId) -> Settled | None:
        """How a sync ended, if it did: asked after a connection was lost while it was ending."""
        ...


class ConfigReader(Protocol):
    """Reads what is served. Each method is one statement, so that generation, commit and rows belong together."""

    def item(
        self, repo_id: RepoId, branch: BranchName, path: FilePath, *, known: Collection[Generation] = ()
    ) -> tuple[Served, Item | None] | None:
        """One config; the item is None when the served set has no such path, all is None when the branch serves
        nothing. `config` is empty when the item's generation is one of `known`."""
        ...

    def generation(self, repo_id: RepoId, branch: BranchName) -> Served | None:
        """What the branch serves, without its items; None when it serves nothing."""
        ...

    def listing(self, repo_id: RepoId, branch: BranchName, prefix: str = "") -> Listing | None:
        """All items below `prefix`."""
        ...

    def page(
        self, repo_id: RepoId, branch: BranchName, prefix: str, after: FilePath | None, limit: int
    ) -> Listing | None:
        """At most `limit` items below `prefix` whose path comes after `after`."""
        ...


class Journal(Protocol):
    """What happened, for people. Append-only; rows end with their retention."""

    def deliveries(self, repo_id: RepoId, limit: int) -> Sequence[Delivery]:
        """The newest first."""
        ...

    def syncs(self, repo_id: RepoId, branch: BranchName | None, limit: int) -> Sequence[SyncRecord]:
        """The newest first."""
        ...

    def overview(self) -> Overview:
        """How everything is, from one statement."""
        ...

    def vitals(self, laggards: int) -> Vitals:
        """What is measured at each sweep, from one statement, with so many branches by name."""
        ...

    def prune(self, retention: timedelta) -> int:
        """Drop a bounded number of rows older than `retention`; returns how many."""
        ...


class Outbox(Protocol):
    """Ended syncs that their commits were not told about yet: the `posted_at` of the journal."""

    def claim(self, source: SourceName) -> Unposted | None:
        """A sync of this source to tell its commit about, and the right to post for its branch; None when none waits.

        Always the latest of its commit, and one at a time per branch, so that what was posted last is what happened
        last. Branches that were tried in vain come last, and not before their lease ended. Skips paused sources, the
        commit `ABSENT`, and what is older than a day.
        """
        ...

    def posted(self, unposted: Unposted, told: str | None) -> None:
        """The commit shows `told` now: this sync and those of the same commit before it are done with, and the right
        is given back. Commits that still show that something is waited for, while the branch has gone on to this one,
        come up again. Changes nothing when the right is not ours any more: whoever has it posts again."""
        ...


class StatusBoard(Protocol):
    """Shows what became of a commit where its people look."""

    def post(self, repository: Repository, status: CommitStatus, deadline: Deadline) -> None:
        """Afterwards the commit shows it, instead of what this environment posted before.

        Raises `SourceError`: `CommitMissing` when there is no such commit any more, `SourceRefused` with a hint of
        what to grant.
        """
        ...


class Secrets(Protocol):
    """Named secrets with a cache in front."""

    def get(self, name: str) -> str | None:
        """The value, from the cache while it is fresh; None when there is no such secret. A stale value is kept while
        the vault is down. Raises `SecretUnavailable` when there is none to keep."""
        ...

    def refresh(self, name: str) -> str | None:
        """The value, asked for again because somebody refused the cached one; bounded in frequency."""
        ...
