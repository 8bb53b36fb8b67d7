"""What arrives, and what was decided about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shared.model.git import RefUpdate
from shared.model.ids import BranchName, RepoId
from shared.model.syncs import Outcome


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
