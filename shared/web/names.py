"""From the words in a URL to a repository, a branch and a path.

Names are cached and may be old; contents never are. So a wrong guess mostly shows as nothing being found, and then the
names are read again. It shows as nothing else when a removed repository's name went to another one and its id was
registered anew: for that names are kept for a short time only.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import NamedTuple

from shared.model import BranchName, FilePath, Names, RepoId

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

KEPT = timedelta(seconds=30)
"""For how long a repository may be read under a name that another one has by now."""


class Place(NamedTuple):
    repo_id: RepoId
    branch: BranchName
    path: FilePath
    """Empty for the branch itself."""


class NameCache:
    """The names that were read last, for as long as `KEPT`. A race between threads costs a second read at most."""

    def __init__(self, load: Callable[[], Names]) -> None:
        self._load = load
        self._kept: tuple[Names, float] | None = None

    def latest(self) -> Names:
        kept = self._kept
        return kept[0] if kept and monotonic() < kept[1] else self.reload()

    def reload(self) -> Names:
        # Their age counts from before they were read.
        until = monotonic() + KEPT.total_seconds()
        names = self._load()
        self._kept = names, until
        return names


def repository_of(names: Names, alias: str) -> RepoId | None:
    return names.repositories.get(alias) or names.repositories.get(canonical(alias))


def place_of(names: Names, alias: str, rest: str) -> Place | None:
    """Splits `release/1.0/etl/x.yaml` by the branches that are served, longest first. Git forbids `a` and `a/b` to
    exist together, so that only one can match, save for a moment in which the deletion of one is not yet synced."""
    repo_id = repository_of(names, alias)
    if repo_id is None:
        return None
    for branch in names.branches.get(repo_id, ()):
        if rest.startswith(branch) and (len(rest) == len(branch) or rest[len(branch)] == "/"):
            return Place(repo_id, branch, FilePath(rest[len(branch) + 1 :]))
    return None


def canonical(alias: str) -> str:
    """Azure DevOps' GUIDs are kept in lower case, and copied in either."""
    return alias.lower() if _GUID.fullmatch(alias) else alias
