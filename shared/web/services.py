"""What the HTTP interface is wired to, and its limits. Plain values: settings are read elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.model import (
    BranchName,
    Budget,
    CommitId,
    Deadline,
    Event,
    Outcome,
    Receipt,
    Registration,
    RepoId,
    Repository,
    SweepSummary,
)
from shared.ports import ConfigReader, Journal, Queue, Registry


class Syncing(Protocol):
    """Does what a person asks of branches."""

    def sync(
        self,
        repo_id: RepoId,
        branches: Sequence[BranchName],
        budget: Budget,
        *,
        commit: CommitId | None = None,
        deep: bool = False,
    ) -> Iterator[tuple[BranchName, Outcome]]:
        """Sync for a person who waits, branch by branch."""
        ...

    def judge(self, repo_id: RepoId, branch: BranchName, deadline: Deadline) -> Outcome:
        """What a sync would end with now; changes nothing."""
        ...


class Registering(Protocol):
    """Adds, changes and removes repositories."""

    def put(self, repo_id: RepoId, registration: Registration, *, expected: int | None) -> Repository: ...

    def remove(self, repo_id: RepoId, *, expected: int) -> None: ...


class Receiving(Protocol):
    """Records an authentic delivery, and syncs what fits the budget."""

    def receive(self, event: Event, budget: Budget) -> Receipt: ...


class Sweeping(Protocol):
    """Syncs what is due."""

    def sweep(self, trigger: str, duration: timedelta) -> SweepSummary: ...

    def take_along(self, deadline: Deadline) -> None:
        """Some of it, when the timer has not been seen for long."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    configs: ConfigReader
    registry: Registry
    queue: Queue
    journal: Journal
    by_hand: Syncing
    registrar: Registering
    intake: Receiving
    reconcile: Sweeping
    decode: Callable[[bytes], Event]
    """Reads a service hook's body; never raises for what it contains."""


@dataclass(frozen=True, slots=True)
class Limits:
    webhook_duration: timedelta = timedelta(seconds=10)
    """How long a delivery may sync before what is left goes to the timer."""
    webhook_files: int | None = 500
    """How many files a delivery may fetch before what is left goes to the timer."""
    webhook_body: int = 4 * 1024 * 1024
    """Bytes. Azure DevOps sends 2 MB at most (docs/service-hooks/troubleshoot.md)."""
    sync_duration: timedelta = timedelta(seconds=120)
    """How long a sync by hand may take; the front end of Azure Functions ends a request after 230 seconds."""
    request_body: int = 64 * 1024
    """Bytes of any other body."""
    cached_lists: int = 64 * 1024 * 1024
    """Bytes of list bodies that are kept, plain and compressed together."""
