"""From the words in a URL to a repository, a branch and a path.

Names are cached and may be old; contents never are. So a wrong guess shows as nothing being found, and only then are
the names read again.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from shared.model import BranchName, FilePath, Names, RepoId

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Place(NamedTuple):
    repo_id: RepoId
    branch: BranchName
    path: FilePath
    """Empty for the branch itself."""


class NameCache:
    """The latest names that were read. A race between threads costs a second read at most."""

    def __init__(self, load: Callable[[], Names]) -> None:
        self._load = load
        self._names: Names | None = None

    def latest(self) -> Names:
        return self._names or self.reload()

    def reload(self) -> Names:
        self._names = names = self._load()
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
