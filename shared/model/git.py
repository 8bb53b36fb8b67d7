"""What Git says. What comes in tens of thousands is a named tuple: built three times faster than a frozen dataclass."""

from dataclasses import dataclass
from typing import NamedTuple

from shared.model.ids import BlobId, BranchName, CommitId, FilePath, TreeId


class TreeEntry(NamedTuple):
    """One file of a commit. `mode` is Git's: 100644 and 100755 files, 120000 symbolic link, 160000 submodule."""

    path: FilePath
    """Bytes that are not UTF-8 are kept as lone surrogates (`surrogateescape`)."""
    mode: str
    object_id: BlobId
    size: int | None = None
    """Bytes; None where the source cannot tell without a download."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Every file of one commit, folders flattened, in any order."""

    tree_id: TreeId
    entries: tuple[TreeEntry, ...]


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One branch of one push: `old` is ABSENT for a new branch, `new` for a deleted one; empty when not said."""

    branch: BranchName
    old: CommitId
    new: CommitId
