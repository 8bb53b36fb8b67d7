"""Which Git source reads a repository: its registration says so by `source`."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from shared.model import (
    BlobId,
    BranchName,
    CommitId,
    Deadline,
    RefUpdate,
    Repository,
    SourceName,
    Tree,
    TreeId,
)
from shared.ports import GitSource


class GitSources:
    """Fulfils `ports.GitSource` by asking the one in `hosts` that has the repository's source, else `otherwise`."""

    def __init__(self, hosts: Mapping[SourceName, GitSource], *, otherwise: GitSource) -> None:
        self._hosts = hosts
        self._otherwise = otherwise

    def heads(self, repository: Repository, deadline: Deadline) -> Mapping[BranchName, CommitId]:
        return self._of(repository).heads(repository, deadline)

    def head(self, repository: Repository, branch: BranchName, deadline: Deadline) -> CommitId:
        return self._of(repository).head(repository, branch, deadline)

    def tree_id(self, repository: Repository, commit: CommitId, deadline: Deadline) -> TreeId:
        return self._of(repository).tree_id(repository, commit, deadline)

    def tree(self, repository: Repository, commit: CommitId, deadline: Deadline) -> Tree:
        return self._of(repository).tree(repository, commit, deadline)

    def blobs(
        self, repository: Repository, commit: CommitId, blob_ids: Collection[BlobId], deadline: Deadline
    ) -> Iterator[tuple[BlobId, bytes | int]]:
        return self._of(repository).blobs(repository, commit, blob_ids, deadline)

    def is_ancestor(self, repository: Repository, ancestor: CommitId, descendant: CommitId, deadline: Deadline) -> bool:
        return self._of(repository).is_ancestor(repository, ancestor, descendant, deadline)

    def push(self, repository: Repository, push_id: int, deadline: Deadline) -> Sequence[RefUpdate]:
        return self._of(repository).push(repository, push_id, deadline)

    def _of(self, repository: Repository) -> GitSource:
        return self._hosts.get(repository.source, self._otherwise)
