"""What identifies things, and the values that JSON has: plain strings and numbers, told apart by the type checker."""

import re
from typing import NewType, TypeAlias
from uuid import UUID

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

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

ABSENT = CommitId("0" * 40)
"""The commit of a branch that Git proved not to have: what a deletion has as `newObjectId`."""


_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]$|(?:^|/)\.|\.lock(?:/|$)|^HEAD$|^refs/")


def is_branch_name(text: str) -> bool:
    """As `git help check-ref-format` says; a name like `refs/...` is allowed there, and here always a mistake."""
    return 0 < len(text) <= 250 and not _NO_BRANCH.search(text)
