"""What a commit is told about itself, where its people already look."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from shared.model.ids import CommitId
from shared.model.repositories import Repository
from shared.model.syncs import SyncRecord


class CommitState(StrEnum):
    """The states of Azure DevOps that we use, and its words for them."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NOT_APPLICABLE = "notApplicable"


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """What is shown at a commit. `link` leads to more, where this app knows its own address."""

    commit_id: CommitId
    state: CommitState
    description: str
    link: str | None = None

    @property
    def told(self) -> str:
        """What people are told by it: two statuses that say the same are one."""
        return f"{self.state}: {self.description}"


@dataclass(frozen=True, slots=True)
class Unposted:
    """The latest ended sync of one commit that its commit was not told about yet."""

    lease_id: UUID
    """The right to post for the branch of this sync."""
    repository: Repository
    sync: SyncRecord
    told: str | None
    """What the commit was told last, as `CommitStatus.told`; None when it was told nothing yet."""
    configs: int | None
    """How many configs the commit has, while it is what the branch serves."""
    is_judged: bool
    """The branch's standing verdict is about this commit, or this commit is what it serves."""
    is_passed_over: bool
    """A later sync of the branch found another head."""
