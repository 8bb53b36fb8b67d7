"""`GitSource` over the REST API of Azure DevOps, by the repository's GUID: a rename changes nothing.

Calls: one for heads or a head (and one more per thousand branches), three for a head that is not there; one for a root
tree, one for a tree whose root was asked for before, else two; one for every 200 blobs.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any, Final
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

from shared.azure_devops.client import Organisation
from shared.azure_devops.trouble import NotFound
from shared.errors import CommitMissing, SourceFailed
from shared.listing import prove
from shared.model import (
    ABSENT,
    BlobId,
    BranchName,
    CommitId,
    Deadline,
    RefUpdate,
    RepoId,
    Repository,
    Tree,
    TreeEntry,
    TreeId,
)

LARGEST: Final = 8 * 1024 * 1024
"""Bytes of a blob that is read. Far above what a runtime config may have: it protects this process's memory."""
BLOBS_AT_ONCE: Final = 200
"""How many the service takes is not documented; this many it does."""
_BRANCHES_AT_ONCE: Final = 1000
_ROOTS: Final = 1000
"""Root trees that are kept: some hundred bytes each."""
_HEADS: Final = "refs/heads/"
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{40}")
_EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_BROKEN_ZIP: Final = (BadZipFile, ZlibError, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


class AzureDevOpsSource:
    """Fulfils `ports.GitSource` for the repositories of one organisation. May be shared between threads."""

    def __init__(self, organisation: Organisation, *, largest: int = LARGEST) -> None:
        self._organisation = organisation
        self._largest = largest
        self._roots: dict[tuple[RepoId, CommitId], TreeId] = {}

    def heads(self, repository: Repository, deadline: Deadline) -> Mapping[BranchName, CommitId]:
        with self._organisation.git(deadline) as git:
            return dict(_heads(git, repository, ""))

    def head(self, repository: Repository, branch: BranchName, deadline: Deadline) -> CommitId:
        # The service looks for what begins so, and cannot be asked for everything that Python can write.
        beginning = branch if branch.isprintable() else ""
        with self._organisation.git(deadline) as git:
            head = dict(_heads(git, repository, beginning)).get(branch)
            return head or self._absent(git, repository, branch)

    def _absent(self, git: Any, repository: Repository, branch: BranchName) -> CommitId:
        """Everything of a branch goes by its absence, and one answer that lacks it has no proof. So it is what the
        repository says of itself, and all of its branches, that have to agree."""
        told = git.get_repository(repository.repo_id)
        if told.get("isDisabled") or told.get("isInMaintenance"):
            raise SourceFailed("The repository is disabled or in maintenance: what it answers is no proof of anything")
        head = dict(_heads(git, repository, "")).get(branch)
        if head is None and told.get("defaultBranch") == f"{_HEADS}{branch}":
            hint = "If it was deleted, choose another default branch in the settings of the repository"
            raise SourceFailed(f"The listing of branches lacks the default branch, {branch!r}", hint=hint)
        return head or ABSENT

    def tree_id(self, repository: Repository, commit: CommitId, deadline: Deadline) -> TreeId:
        with self._organisation.git(deadline) as git, _known(commit):
            root = _root(git, repository, commit)
        if len(self._roots) >= _ROOTS:
            self._roots.clear()
        self._roots[repository.repo_id, commit] = root
        return root

    def tree(self, repository: Repository, commit: CommitId, deadline: Deadline) -> Tree:
        with self._organisation.git(deadline) as git, _known(commit):
            # A sync has just asked for it, as a rule, and a commit never gets another tree.
            tree_id = self._roots.get((repository.repo_id, commit)) or _root(git, repository, commit)
            if tree_id == _EMPTY_TREE:  # Which Git knows without keeping it.
                return Tree(tree_id, ())
            listed = git.get_tree(repository.repo_id, tree_id, recursive=True)["treeEntries"]
            return _readable(Tree(tree_id, tuple([_entry(one) for one in listed if one["gitObjectType"] != "tree"])))

    def blobs(
        self, repository: Repository, commit: CommitId, blob_ids: Collection[BlobId], deadline: Deadline
    ) -> Iterator[tuple[BlobId, bytes | int]]:
        for blob_id in blob_ids:
            if not _OBJECT_ID.fullmatch(blob_id):
                raise SourceFailed(f"{blob_id[:60]!r} is not the id of a blob")
        remaining = iter(dict.fromkeys(blob_ids))
        while chunk := list(islice(remaining, BLOBS_AT_ONCE)):
            with self._organisation.git(deadline) as git:
                archive = git.get_blobs_zip(chunk, repository.repo_id)
            with archive:
                yield from self._unpacked(archive, chunk)

    def is_ancestor(self, repository: Repository, ancestor: CommitId, descendant: CommitId, deadline: Deadline) -> bool:
        try:
            with self._organisation.git(deadline) as git, _known(ancestor), _known(descendant):
                if ancestor == descendant:
                    return bool(_root(git, repository, ancestor))
                # Theirs, when one is in the other's history, is that one.
                bases = git.get_merge_bases(repository.repo_id, descendant, ancestor)
                return any(base["commitId"] == ancestor for base in bases)
        except CommitMissing:
            return False

    def push(self, repository: Repository, push_id: int, deadline: Deadline) -> Sequence[RefUpdate]:
        with self._organisation.git(deadline) as git:
            updates = git.get_push(repository.repo_id, push_id, include_commits=0, include_ref_updates=True)[
                "refUpdates"
            ]
            return [
                RefUpdate(
                    BranchName(update["name"].removeprefix(_HEADS)),
                    CommitId(update["oldObjectId"]),
                    CommitId(update["newObjectId"]),
                )
                for update in updates
                if update["name"].startswith(_HEADS)
            ]

    def _unpacked(self, archive: IO[bytes], wanted: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes | int]]:
        try:
            with ZipFile(archive) as opened:
                # Named by their ids; an ending has not been seen, and would change nothing.
                found = {info.filename.rpartition("/")[2].partition(".")[0]: info for info in opened.infolist()}
                for blob_id in wanted:
                    info = found.get(blob_id)
                    if info is None:
                        raise SourceFailed(f"The repository did not give blob {blob_id}")
                    # Not more is unpacked than the size that is told here.
                    yield blob_id, info.file_size if info.file_size > self._largest else opened.read(info)
        except _BROKEN_ZIP as error:
            raise SourceFailed(f"The archive of blobs is damaged: {type(error).__name__}") from error


def _heads(git: Any, repository: Repository, beginning: str) -> Iterator[tuple[BranchName, CommitId]]:
    """The branches whose names begin so, from all pages."""
    page: str | None = None
    while True:
        refs = git.get_refs(
            repository.repo_id, filter=f"heads/{beginning}", top=_BRANCHES_AT_ONCE, continuation_token=page
        )
        for ref in refs:
            name, head = ref["name"], ref["objectId"]
            if not _OBJECT_ID.fullmatch(head):
                raise SourceFailed(f"{head[:80]!r} is not a commit id: repositories with SHA-256 ids are not supported")
            if name.startswith(_HEADS):
                yield BranchName(name.removeprefix(_HEADS)), CommitId(head)
        last, page = page, git.continuation
        if page is None:
            return
        if page == last:
            raise SourceFailed("The listing of branches does not get on: a page leads to itself")


def _root(git: Any, repository: Repository, commit: CommitId) -> TreeId:
    return TreeId(git.get_commit(commit, repository.repo_id, change_count=0)["treeId"])


def _entry(listed: Mapping[str, Any]) -> TreeEntry:
    size = None if listed["gitObjectType"] == "commit" else listed.get("size")
    return TreeEntry(listed["relativePath"], listed["mode"], listed["objectId"], size)


def _readable(tree: Tree) -> Tree:
    """The tree, unless the service lost bytes of a path that are not UTF-8: then no listing of it can be proven."""
    doubtful = next((entry.path for entry in tree.entries if "\N{REPLACEMENT CHARACTER}" in entry.path), None)
    if doubtful is not None:
        try:
            prove(tree)
        except SourceFailed as error:
            message = f"The commit cannot be read: the path of a file, {doubtful!r}, is not UTF-8"
            raise SourceFailed(message, hint="Rename the file, wherever it is in the repository, and push") from error
    return tree


@contextmanager
def _known(commit: CommitId) -> Iterator[None]:
    """What is not found in there is the commit."""
    if not _OBJECT_ID.fullmatch(commit) or commit == ABSENT:
        raise CommitMissing(f"{commit[:60]!r} is not the id of a commit")
    try:
        yield
    except NotFound as error:
        raise CommitMissing(f"The repository has no commit {commit}: {error.message}") from error
