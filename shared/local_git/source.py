"""`GitSource` over any local repository or Git URL.

Invariant: there is no shared working copy. A path is read in place, through its object database; a URL is fetched into
a repository that lives as long as the call. Both are then read by the same plumbing commands.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple
from urllib.request import url2pathname

from shared.errors import CommitMissing, SourceFailed
from shared.local_git.failures import not_git, redacted
from shared.local_git.process import ONLINE, PROTOCOLS, Git
from shared.model import ABSENT, BlobId, BranchName, CommitId, Deadline, RefUpdate, Repository, Tree, TreeEntry, TreeId

_HEADS = "refs/heads/"
_OBJECT_ID = re.compile(r"[0-9a-f]{40}")
# As git tells them apart: `scheme://`, `command::` (which runs git-remote-command), and a colon before the first slash,
# which follows a host unless it follows the letter of a Windows drive.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(://|::)")
_HOST = re.compile(r"[^/\\:]{2,}:")
# Git hands a URL to its transports on their command lines, which every user of the machine can see. Over ssh a user
# name is no secret.
_CREDENTIALS = re.compile(r"(?!ssh:)[A-Za-z]+://[^/]*@|ssh://[^/@]*:[^/]*@")
# What `ls-tree -z` writes: mode, type, id, with `--long` the size (a submodule has none), then a tab and the path.
_RECORD = re.compile(r"([0-7]+) [a-z]+ ([0-9a-f]+)(?: +([0-9]+|-))?\t([^\0]*)\0")


LARGEST = 8 * 1024 * 1024
"""Bytes of a blob that is read. Far above what a runtime config may have: it protects this process's memory."""


class _Place(NamedTuple):
    """Where git reads: a repository of this machine, or an empty one to fetch into, whose remote is `source`."""

    git_dir: str
    is_remote: bool


class LocalGitSource:
    """Fulfils `ports.GitSource`. Has no state, so that one can be shared between threads.

    `timeout` bounds each call, with what the caller does between two blobs; `environment` is the process's own, of
    which git gets what it needs to reach servers. A server without protocol v2 and filters sends whole commits.
    """

    def __init__(
        self, *, timeout: timedelta, environment: Mapping[str, str], largest: int = LARGEST, git: str = "git"
    ) -> None:
        self._timeout = timeout
        self._largest = largest
        self._git = Git(git, environment)

    def heads(self, repository: Repository, deadline: Deadline) -> Mapping[BranchName, CommitId]:
        return self._heads(repository, _HEADS, self._limit(deadline))

    def head(self, repository: Repository, branch: BranchName, deadline: Deadline) -> CommitId:
        # A name that is not printable does not go on a command line: the answer is looked for among all heads.
        pattern = _HEADS + branch if branch.isprintable() else _HEADS
        return self._heads(repository, pattern, self._limit(deadline)).get(branch, ABSENT)

    def tree_id(self, repository: Repository, commit: CommitId, deadline: Deadline) -> TreeId:
        limit = self._limit(deadline)
        with self._commit(repository, commit, limit, "--depth=1", "--filter=tree:0") as place:
            return self._root(place.git_dir, commit, limit)

    def tree(self, repository: Repository, commit: CommitId, deadline: Deadline) -> Tree:
        limit = self._limit(deadline)
        with self._commit(repository, commit, limit, "--depth=1", "--filter=blob:none") as place:
            tree_id = self._root(place.git_dir, commit, limit)
            # What was fetched is without blobs, and so without their sizes.
            long = [] if place.is_remote else ["--long"]
            output = self._git.run(place.git_dir, ["ls-tree", "-r", "-z", "--full-tree", *long, tree_id], limit)
        return Tree(tree_id, _entries(output))

    def blobs(
        self, repository: Repository, commit: CommitId, blob_ids: Collection[BlobId], deadline: Deadline
    ) -> Iterator[tuple[BlobId, bytes | int]]:
        wanted = tuple(dict.fromkeys(blob_ids))
        if not wanted:
            return
        for blob_id in wanted:
            if not _OBJECT_ID.fullmatch(blob_id):
                raise SourceFailed(f"{blob_id[:60]!r} is not the id of a blob")
        limit = self._limit(deadline)
        with self._place(repository) as place:
            if place.is_remote:
                self._fetch_blobs(place.git_dir, commit, wanted, limit)
            yield from self._read_blobs(place.git_dir, wanted, limit)

    def is_ancestor(self, repository: Repository, ancestor: CommitId, descendant: CommitId, deadline: Deadline) -> bool:
        limit = self._limit(deadline)
        try:
            _checked(ancestor)
            with self._commit(repository, descendant, limit, "--filter=tree:0") as place:
                command = ["rev-list", "--max-count=1", ancestor, f"^{descendant}", "--"]
                beyond = self._git.run(place.git_dir, command, limit)
        except CommitMissing:
            return False
        return not beyond

    def push(self, repository: Repository, push_id: int, deadline: Deadline) -> Sequence[RefUpdate]:
        # Git itself keeps no record of pushes.
        return ()

    def _limit(self, deadline: Deadline) -> Deadline:
        return deadline.within(self._timeout)

    # -- Where the objects are ---------------------------------------------------------------------------------------

    @contextmanager
    def _place(self, repository: Repository) -> Iterator[_Place]:
        if _is_path(repository.source):
            yield _Place(_git_dir(repository.source), is_remote=False)
            return
        with TemporaryDirectory(prefix="runtime-store-", ignore_cleanup_errors=True) as folder:
            # By hand: `git init` is a process more, and a URL on its command line would show in the list of processes.
            root = Path(folder)
            for name in ("objects", "refs"):
                (root / name).mkdir()
            (root / "HEAD").write_text(f"ref: {_HEADS}main\n")
            url = repository.source.replace("\\", "\\\\").replace('"', '\\"')
            config = f'[core]\n\trepositoryformatversion = 0\n\tbare = true\n[remote "source"]\n\turl = "{url}"\n'
            (root / "config").write_text(config, encoding="utf-8")
            yield _Place(folder, is_remote=True)

    @contextmanager
    def _commit(self, repository: Repository, commit: CommitId, limit: Deadline, *depth: str) -> Iterator[_Place]:
        """A place that has the commit, as much of it as `depth` says where it has to be fetched."""
        _checked(commit)
        with self._place(repository) as place:
            if place.is_remote:
                self._fetch(place.git_dir, [commit], limit, *depth)
            yield place

    def _fetch(self, git_dir: str, wanted: Collection[str], limit: Deadline, *depth: str) -> None:
        command = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", *depth]
        stdin = "\n".join((*wanted, "")).encode()
        self._git.run(git_dir, [*command, "--stdin", "source"], limit, stdin=stdin, variables=ONLINE)

    def _fetch_blobs(self, git_dir: str, commit: CommitId, wanted: Collection[BlobId], limit: Deadline) -> None:
        try:
            self._fetch(git_dir, wanted, limit)
        except CommitMissing:
            # The server gives away only what a ref names (protocol v0), or lacks one of them.
            self._fetch(git_dir, [_checked(commit)], limit, "--depth=1")

    # -- Reading them ------------------------------------------------------------------------------------------------

    def _heads(self, repository: Repository, pattern: str, limit: Deadline) -> dict[BranchName, CommitId]:
        with self._place(repository) as place:
            if place.is_remote:
                return _branches(self._list(place.git_dir, repository.source, limit))
            command = ["for-each-ref", "--format=%(objectname)%09%(refname)", pattern]
            return _branches(self._git.run(place.git_dir, command, limit))

    def _list(self, git_dir: str, url: str, limit: Deadline) -> bytes:
        # From a web page in one line, such as a sign-in page with status 200, git reads an empty list of branches in
        # the old protocol of static files, and ends well. Only packets prove that it was Git that answered.
        packets = os.path.join(git_dir, "packets")
        command = ["ls-remote", "--quiet", "--heads", "source"]
        output = self._git.run(git_dir, command, limit, variables={**ONLINE, "GIT_TRACE_PACKET": packets})
        if not os.path.exists(packets):
            raise not_git(f"No Git server answers at {redacted(url)}")
        return output

    def _root(self, git_dir: str, commit: CommitId, limit: Deadline) -> TreeId:
        # Not `rev-parse`: it wants the tree itself, which may not be here, and tells only in words what is missing.
        answer = self._git.run(git_dir, ["cat-file", "--batch"], limit, stdin=f"{commit}\n".encode())
        found = re.match(rb"[0-9a-f]{40} commit \d+\ntree ([0-9a-f]{40})\n", answer)
        if found is None:
            raise CommitMissing(f"The repository has no commit {commit}")
        return TreeId(found[1].decode())

    def _read_blobs(
        self, git_dir: str, wanted: Sequence[BlobId], limit: Deadline
    ) -> Iterator[tuple[BlobId, bytes | int]]:
        command = ["cat-file", "--batch", "--buffer"]
        read = 0
        with self._git.reading(git_dir, command, limit, stdin="\n".join((*wanted, "")).encode()) as answer:
            for header in answer:
                if not header.endswith(b"\n"):
                    break
                blob_id, kind, *size = header.decode().split()
                if kind != "blob":
                    raise SourceFailed(f"The repository has no blob {blob_id}")
                length = int(size[0])
                if length > self._largest:
                    if _skipped(answer, length + 1) <= length:
                        break
                    yield BlobId(blob_id), length
                else:
                    content = answer.read(length + 1)
                    if len(content) <= length:
                        break
                    yield BlobId(blob_id), content[:-1]
                read += 1
        if read < len(wanted):
            raise SourceFailed(f"Git answered {read} of {len(wanted)} blobs")


def _skipped(answer: IO[bytes], length: int) -> int:
    """How many of the next `length` bytes there were; none of them is kept."""
    left = length
    while left and (piece := answer.read(min(left, 1 << 16))):
        left -= len(piece)
    return length - left


def _is_path(source: str) -> bool:
    """Whether the source is on this machine. Raises `SourceFailed` where git would see an option or a command."""
    address = _ADDRESS.match(source)
    is_foreign = address is not None and (address[2] == "::" or address[1] not in ("file", *PROTOCOLS))
    if is_foreign or source.startswith("-") or not source.isprintable() or not source:
        hint = f"Use a path, `user@host:path`, or a URL of one of file, {', '.join(PROTOCOLS)}"
        raise SourceFailed(f"{redacted(source)!r} is not a Git source", hint=hint)
    if _CREDENTIALS.match(source):
        hint = "Register it without them, and give them to Git's credential helper"
        raise SourceFailed("The source has credentials in it, which would show in the list of processes", hint=hint)
    return address[1] == "file" if address else not _HOST.match(source)


def _git_dir(source: str) -> str:
    """Where the repository at a path, or at a `file://` URL, keeps its objects; found without looking into parents."""
    path = url2pathname(source.removeprefix("file://")) if source.startswith("file://") else source
    if not os.path.isdir(path):
        hint = "Check the source of the repository, and that this process may look into that folder"
        raise SourceFailed(f"There is no folder {path}", hint=hint)
    inside = os.path.join(path, ".git")
    return os.path.abspath(inside if os.path.exists(inside) else path)


def _checked(commit: CommitId) -> CommitId:
    if not _OBJECT_ID.fullmatch(commit):
        raise CommitMissing(f"{commit[:60]!r} is not the id of a commit")
    return commit


def _branches(output: bytes) -> dict[BranchName, CommitId]:
    """The lines of `ls-remote`: an id, a tab and the full name of the ref."""
    branches = {}
    for line in output.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        object_id, _, name = line.partition("\t")
        if not _OBJECT_ID.fullmatch(object_id):
            raise SourceFailed(f"{object_id!r} is not a commit id: repositories with SHA-256 ids are not supported")
        branches[BranchName(name.removeprefix(_HEADS))] = CommitId(object_id)
    return branches


def _entries(output: bytes) -> tuple[TreeEntry, ...]:
    found = _RECORD.findall(output.decode("utf-8", "surrogateescape"))
    # What is no record is left out here, and missed by the proof of the listing.
    return tuple(
        [TreeEntry(path, mode, blob, int(size) if size.isdigit() else None) for mode, blob, size, path in found]
    )
