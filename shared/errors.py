"""The closed vocabulary of failure.

Findings about a team's files are data (`model.Finding`), never exceptions. What is raised here ends the work at hand:

    RuntimeStoreError
    ├── InvalidRequest            the caller's words are off: says which field
    ├── Unauthenticated           no credential, or one we do not know
    ├── Forbidden                 a known caller without this right
    ├── RepositoryNotFound, BranchNotFound, ConfigNotFound
    ├── NameTaken                 another repository has this name or id
    ├── SetChanged                the set moved between two pages
    ├── RevisionMoved             compare-and-set: somebody else changed it first
    ├── RevisionRequired          compare-and-set: the caller named no revision
    ├── TooLarge                  the request's body is over its limit
    ├── SourceError               Git did not give what was asked for
    │   ├── SourceFailed          broken or unreachable now: try again
    │   │   └── CommitMissing     the repository does not know this commit any more
    │   ├── SourceRefused         our credentials or rights: somebody must act
    │   │   └── RepositoryRefused     on one repository, which is missing, disabled or forbidden to us
    │   └── SourceThrottled       asked too often: try again after `retry_after`
    ├── Unavailable               a part of ours is down: try again after `retry_after`
    │   ├── DatabaseUnavailable
    │   ├── SchemaOutdated        the database wants `runtime-store migrate`
    │   └── SecretUnavailable     Key Vault gave no value, and none is cached
    ├── ClaimLost                 another worker owns this sync now: stop, write nothing
    ├── DocumentRefused           the database refuses a sync's data, now and later: a verdict
    └── SettingsInvalid           every problem of the settings at once
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """What went wrong, in one word: the slug in a problem document, and the key of statuses and exit codes."""

    INVALID_REQUEST = "invalid-request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    REPOSITORY_NOT_FOUND = "repository-not-found"
    BRANCH_NOT_FOUND = "branch-not-found"
    CONFIG_NOT_FOUND = "config-not-found"
    NAME_TAKEN = "name-taken"
    SET_CHANGED = "set-changed"
    REVISION_MOVED = "revision-moved"
    REVISION_REQUIRED = "revision-required"
    TOO_LARGE = "too-large"
    SOURCE_FAILED = "source-failed"
    SOURCE_REFUSED = "source-refused"
    SOURCE_THROTTLED = "source-throttled"
    UNAVAILABLE = "unavailable"
    REJECTED = "rejected"
    INTERNAL = "internal"


class RuntimeStoreError(Exception):
    """A failure with a sentence for the person who can act, and a hint of what to do."""

    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidRequest(RuntimeStoreError):
    """A caller's value cannot be used. `field` names it: a parameter, a header or a place in the body."""

    kind = Kind.INVALID_REQUEST

    def __init__(self, message: str, *, field: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class Unauthenticated(RuntimeStoreError):
    kind = Kind.UNAUTHENTICATED


class Forbidden(RuntimeStoreError):
    kind = Kind.FORBIDDEN


class RepositoryNotFound(RuntimeStoreError):
    kind = Kind.REPOSITORY_NOT_FOUND


class BranchNotFound(RuntimeStoreError):
    kind = Kind.BRANCH_NOT_FOUND


class ConfigNotFound(RuntimeStoreError):
    kind = Kind.CONFIG_NOT_FOUND


class NameTaken(RuntimeStoreError):
    kind = Kind.NAME_TAKEN


class SetChanged(RuntimeStoreError):
    kind = Kind.SET_CHANGED


class RevisionMoved(RuntimeStoreError):
    kind = Kind.REVISION_MOVED


class RevisionRequired(RuntimeStoreError):
    kind = Kind.REVISION_REQUIRED


class TooLarge(RuntimeStoreError):
    kind = Kind.TOO_LARGE


class SourceError(RuntimeStoreError):
    """Git did not give what was asked for. Nothing may be concluded about what the repository holds."""

    concerns_source: ClassVar[bool] = False
    """Whether the source's other repositories would be told the same, so that it is left alone as a whole."""
    retry_after: timedelta | None = None
    """How long the source wants to be left alone, where it says so."""


class SourceFailed(SourceError):
    kind = Kind.SOURCE_FAILED


class CommitMissing(SourceFailed):
    """The repository answers, and does not know the commit: it was rewritten and collected."""


class SourceRefused(SourceError):
    kind = Kind.SOURCE_REFUSED
    concerns_source = True


class RepositoryRefused(SourceRefused):
    """The repository is missing, disabled or forbidden to us: hosts answer these alike, so that nobody can look around.
    Others of the same source are not concerned."""

    concerns_source = False


class SourceThrottled(SourceError):
    kind = Kind.SOURCE_THROTTLED
    concerns_source = True

    retry_after: timedelta

    def __init__(self, message: str, *, retry_after: timedelta, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unavailable(RuntimeStoreError):
    kind = Kind.UNAVAILABLE
    retry_after: ClassVar[timedelta] = timedelta(seconds=5)


class DatabaseUnavailable(Unavailable):
    pass


class SchemaOutdated(Unavailable):
    pass


class SecretUnavailable(Unavailable):
    pass


class ClaimLost(RuntimeStoreError):
    pass


class DocumentRefused(RuntimeStoreError):
    """The database refuses a value, and would refuse it again (SQLSTATE classes 21, 22 and 54). `path` names the
    document where it is known."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class SettingsInvalid(RuntimeStoreError):
    """The settings cannot be used. `problems` holds one sentence for each, and each names its setting."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("The settings cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))
        self.problems = tuple(problems)
