"""What a team registers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.model.ids import BranchName, RepoId, SourceName


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
class Located:
    """Where a Git host keeps a repository: an id that survives renames, and what it is called at present."""

    repo_id: RepoId
    source: SourceName
    project: str
    repository: str


@dataclass(frozen=True, slots=True)
class Names:
    """Every way to say which repository and branch is meant, as of one moment."""

    repositories: Mapping[str, RepoId]
    """Id or name to id; where one repository's name is another's id, the id wins."""
    branches: Mapping[RepoId, tuple[BranchName, ...]]
    """The branches with a served commit, longest name first."""
