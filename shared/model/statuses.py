"""What a commit is told about itself, where its people already look."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.model.ids import CommitId
from shared.model.repositories import Repository
from shared.model.syncs import SyncRecord


class CommitState(StrEnum):
    """The states that Azure DevOps shows with a sign of their own."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """What is shown at a commit. `link` leads to more, where this app knows its own address."""

    commit_id: CommitId
    state: CommitState
    description: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Unposted:
    """The latest ended sync of one commit that its commit was not told about yet."""

    repository: Repository
    sync: SyncRecord
    posted: SyncRecord | None
    """The sync that the commit was told about last."""
    configs: int | None
    """How many configs the commit has, while it is what is served."""
    until: datetime
    """When the right to post for this branch ends, by the database's clock."""
