"""Reads bare Git repositories: refs from their files, objects through one process per question."""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.git import environment

ZEROS = "0" * 40
OBJECT_ID = re.compile("[0-9a-f]{40}")


def refs(git_dir: Path) -> dict[str, str]:
    """Every ref and its object, by name.

    Loose refs are read before packed ones: Git packs a ref before it deletes its file, so that none is missed.
    """
    found = dict(_loose(git_dir / "refs", "refs/"))
    try:
        packed = (git_dir / "packed-refs").read_bytes()
    except FileNotFoundError:
        packed = b""
    for line in packed.splitlines():
        if line[:1] not in (b"#", b"^"):
            object_id, _, name = line.partition(b" ")
            found.setdefault(os.fsdecode(name), object_id.decode())
    return dict(sorted(found.items()))


def _loose(folder: Path, prefix: str) -> Iterator[tuple[str, str]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _loose(Path(entry.path), f"{prefix}{entry.name}/")
        elif not entry.name.endswith(".lock"):
            try:
                content = Path(entry.path).read_text().strip()
            except FileNotFoundError:
                continue
            if OBJECT_ID.fullmatch(content):
                yield prefix + entry.name, content


def default_branch(git_dir: Path, known: Iterable[str]) -> str | None:
    """What HEAD points to, or the first branch; None for an empty repository."""
    head = (git_dir / "HEAD").read_text().strip().removeprefix("ref: ")
    branches = [name for name in known if name.startswith("refs/heads/")]
    return head if head in branches else next(iter(branches), None)


@dataclass(frozen=True)
class GitObject:
    object_id: str
    kind: str
    content: bytes


def run(git_dir: Path, *arguments: str, stdin: bytes = b"") -> bytes | None:
    """What git writes; None when it refuses, which it does for objects it does not have."""
    command = ["git", f"--git-dir={git_dir}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment(), check=False)
    return done.stdout if done.returncode == 0 else None


def read(git_dir: Path, object_ids: Sequence[str]) -> list[GitObject | None]:
    """The objects in the order asked for; None in the place of one that is not there."""
    asked = "".join(f"{object_id}\n" for object_id in object_ids).encode()
    stream = run(git_dir, "cat-file", "--batch", stdin=asked) or b""
    found: list[GitObject | None] = []
    place = 0
    for object_id in object_ids:
        end = stream.index(b"\n", place)
        fields = stream[place:end].split(b" ")
        place = end + 1
        if len(fields) != 3:
            found.append(None)
            continue
        size = int(fields[2])
        found.append(GitObject(object_id, fields[1].decode(), stream[place : place + size]))
        place += size + 1
    return found


def sizes(git_dir: Path, object_ids: Sequence[str]) -> dict[str, int]:
    asked = "".join(f"{object_id}\n" for object_id in object_ids).encode()
    stream = run(git_dir, "cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=asked) or b""
    rows = (line.split(" ") for line in stream.decode().splitlines())
    return {row[0]: int(row[1]) for row in rows if row[1].isdigit()}


@dataclass(frozen=True)
class Entry:
    """One line of a tree. The mode of a folder has five digits, as in Git's own trees."""

    path: str
    mode: str
    kind: str
    object_id: str
    size: int


def entries(git_dir: Path, treeish: str, *, is_recursive: bool) -> list[Entry]:
    """A folder comes before what is in it. What is not UTF-8 in a path is lost, as it is in .NET."""
    how = ["-r", "-t"] if is_recursive else []
    listed = (run(git_dir, "ls-tree", *how, "-l", "-z", treeish) or b"").split(b"\0")
    rows = [(line.split(b"\t", 1)[0].decode().split(), line.split(b"\t", 1)[1]) for line in listed if line]
    folders = sizes(git_dir, sorted({row[2] for row, _ in rows if row[1] == "tree"}))
    return [
        Entry(
            path.decode("utf-8", "replace"),
            mode.lstrip("0"),
            kind,
            object_id,
            folders[object_id] if kind == "tree" else int(size) if size.isdigit() else 0,
        )
        for (mode, kind, object_id, size), path in rows
    ]


@dataclass(frozen=True)
class Signature:
    name: str
    email: str
    at: datetime


@dataclass(frozen=True)
class Commit:
    commit_id: str
    tree_id: str
    parents: tuple[str, ...]
    author: Signature
    committer: Signature
    message: str


_SIGNATURE = re.compile(r"(.*?) ?<(.*)> (\d+) [+-]\d{4}")


def commits(git_dir: Path, commit_ids: Sequence[str]) -> list[Commit | None]:
    """The commits in the order asked for; None for what is not there, or no commit."""
    return [
        _commit(found) if found is not None and found.kind == "commit" else None for found in read(git_dir, commit_ids)
    ]


def _commit(found: GitObject) -> Commit:
    head, _, message = found.content.decode("utf-8", "replace").partition("\n\n")
    lines = [line.split(" ", 1) for line in head.split("\n") if not line.startswith(" ")]
    fields = dict(lines)
    parents = tuple(line[1] for line in lines if line[0] == "parent")
    author, committer = (_signature(fields[who]) for who in ("author", "committer"))
    return Commit(found.object_id, fields["tree"], parents, author, committer, message)


def _signature(line: str) -> Signature:
    match = _SIGNATURE.fullmatch(line)
    if match is None:
        raise ValueError(f"no signature: {line}")
    return Signature(match[1], match[2], datetime.fromtimestamp(int(match[3]), UTC))


def history(git_dir: Path, *arguments: str) -> list[str]:
    """Ids of commits as `git rev-list` names them, the newest first."""
    return (run(git_dir, "rev-list", *arguments, "--") or b"").decode().split()


def merge_bases(git_dir: Path, one: str, other: str) -> list[str]:
    return (run(git_dir, "merge-base", "--all", one, other) or b"").decode().split()
