"""Real Git repositories for tests: fast, and the same each time, whatever the user's own Git configuration says."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from shared.model import ABSENT, BlobId, CommitId, TreeId

_PERSON = b"Grace Hopper <grace@example.com>"
_FIRST_SECOND = 1_767_225_600  # 2026-01-01T00:00:00Z


class File(NamedTuple):
    """What a path of a commit holds. `mode` is Git's; a submodule's content is the hex id of its commit."""

    content: bytes
    mode: str = "100644"


def executable(content: bytes) -> File:
    return File(content, "100755")


def symlink(target: str) -> File:
    return File(os.fsencode(target), "120000")


def submodule(commit: str) -> File:
    return File(commit.encode(), "160000")


def environment() -> dict[str, str]:
    """An environment in which Git reads no configuration of the user or the machine."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "SYSTEMROOT": os.environ.get("SYSTEMROOT", ""),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C",
    }


def git(*arguments: str | os.PathLike[str], stdin: bytes = b"") -> str:
    """Run git; returns what it wrote, without the line's end. A failure shows what git said."""
    command = ["git", *(os.fspath(one) for one in arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.decode(errors='replace')}")
    return os.fsdecode(done.stdout).removesuffix("\n")


class GitRepository:
    """One repository and how to change it. Every change is one `git` process, also for ten thousand files."""

    def __init__(self, path: Path, *, bare: bool = True) -> None:
        self.path = path
        self._git_dir = path if bare else path / ".git"
        self._commits = 0
        # Several processes may come to one that is there, and `git init` would write to it.
        if not (self._git_dir / "HEAD").exists():
            git("init", "--quiet", "--initial-branch=main", *(["--bare"] if bare else []), path)
            # What a Git host allows: fetching a commit without its files.
            self.git("config", "uploadpack.allowFilter", "true")

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        return git(f"--git-dir={self._git_dir}", *arguments, stdin=stdin)

    def commit(
        self,
        files: Mapping[str, bytes | str | File | None],
        *,
        branch: str = "main",
        message: str = "Change",
        onto: str | None = None,
    ) -> CommitId:
        """Commit to a branch and return the commit's id. `files` are the changed ones, None removes one (or a folder).

        `onto` is the parent: the branch's head unless said otherwise; `""` starts a new history without files.
        """
        ref = f"refs/heads/{branch}"
        parent = self.head(branch) if onto is None else onto
        self._commits += 1
        person = b"%s %d +0000" % (_PERSON, _FIRST_SECOND + self._commits)
        stream = [b"commit ", os.fsencode(ref), b"\ncommitter ", person, b"\n", _data(message.encode())]
        if parent and parent != ABSENT:
            stream.append(f"from {parent}\n".encode())
        for path, what in files.items():
            stream.append(_change(path, what))
        if onto == "":
            self.git("update-ref", "-d", ref)
        self.git("fast-import", "--quiet", "--force", "--done", stdin=b"".join([*stream, b"done\n"]))
        return self.head(branch)

    def head(self, branch: str) -> CommitId:
        """The branch's commit; `ABSENT` when there is no such branch."""
        ref = f"refs/heads/{branch}"
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", ref).split("\n")
        heads = dict(line.rsplit(" ", 1) for line in lines if line)
        return CommitId(heads.get(ref, ABSENT))

    def set_head(self, branch: str, commit: str) -> None:
        """Create the branch, or move it, as a force push does."""
        self.git("update-ref", f"refs/heads/{branch}", commit)

    def delete(self, branch: str) -> None:
        self.git("update-ref", "-d", f"refs/heads/{branch}")

    def tag(self, name: str, commit: str, *, annotated: bool = False) -> None:
        how = ["-c", "user.name=Grace Hopper", "-c", "user.email=grace@example.com"]
        self.git(*how, "tag", *(["--annotate", "--message=A tag"] if annotated else []), name, commit)

    def collect(self) -> None:
        """Forget every commit that no branch and no tag has in its history."""
        self.git("reflog", "expire", "--expire=now", "--all")
        self.git("gc", "--quiet", "--prune=now")

    def tree_id(self, commit: str) -> TreeId:
        return TreeId(self.git("rev-parse", f"{commit}^{{tree}}"))

    def blob_id(self, commit: str, path: str) -> BlobId:
        return BlobId(self.git("rev-parse", f"{commit}:{path}"))


def many_files(count: int, folders: int = 100) -> dict[str, bytes | str | File | None]:
    """Small runtime configs, each with a content of its own, spread over folders."""
    return {
        f"team-{number % folders:03}/job-{number:05}-runtime.yaml": f"name: job-{number}\nworkers: {number}\n"
        for number in range(count)
    }


def _change(path: str, what: bytes | str | File | None) -> bytes:
    name = os.fsencode(path)
    quoted = b'"%s"' % name.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    if what is None:
        return b"D %s\n" % quoted
    if not isinstance(what, File):
        what = File(what.encode() if isinstance(what, str) else what)
    mode = what.mode.encode()
    if what.mode == "160000":
        return b"M %s %s %s\n" % (mode, what.content, quoted)
    return b"M %s inline %s\n%s" % (mode, quoted, _data(what.content))


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
