"""Every file of one commit -> the proof that it is all of them, and the runtime configs among them.

Files are deleted because a listing does not have them. So a listing is only believed when Git's own hash of the root
tree, computed again from the entries, is the one that was asked for.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from hashlib import sha1
from typing import Final, NamedTuple

from shared.errors import SourceFailed
from shared.model import FilePath, Finding, Severity, Tree, TreeEntry

_SYMLINK: Final = "120000"
_SUBMODULE: Final = "160000"
_FOLDER: Final = b"40000 "
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_UTF_8: Final = re.compile(r"[\ud800-\udfff]")
_UNPRINTABLE: Final = re.compile(f"{_CONTROL.pattern}|{_NOT_UTF_8.pattern}")
_ESCAPED_BYTES: Final = range(0xDC80, 0xDD00)
"""How `surrogateescape` writes the bytes 0x80 to 0xFF."""


@dataclass(frozen=True, slots=True)
class ListingLimits:
    """How much one branch may hold, and how long a path may be (an index row of PostgreSQL ends near 2,700 bytes)."""

    max_files: int = 20_000
    max_total_bytes: int = 64 * 1024 * 1024
    """Counts the files whose size is known before they are downloaded."""
    max_path_bytes: int = 1024


class Selection(NamedTuple):
    """The runtime configs that can be fetched, and what is to be said about other files."""

    entries: dict[FilePath, TreeEntry]
    findings: tuple[Finding, ...]


# -- The proof -------------------------------------------------------------------------------------------------------


def prove(tree: Tree) -> None:
    """Returns when the entries are all of the tree's, and unaltered. Raises `SourceFailed` when they are not.

    A tree object is `mode name NUL id` of each entry in the order of the names, where a folder's name ends with /
    (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects). A folder that holds nothing, which Git itself never
    writes, is not in a listing of files and cannot be proven.
    """
    try:
        computed = _tree_id(tree.entries)
    except ValueError as error:  # An id that is no hex, a name that no tree can hold.
        raise SourceFailed(f"The listing of tree {tree.tree_id} is damaged: {error}.") from error
    if computed != tree.tree_id:
        raise SourceFailed(
            f"The listing of tree {tree.tree_id} is not complete: its {len(tree.entries):,} files hash to {computed}.",
            hint="Nothing was changed; it is listed again at the next try. If this stays, the commit may hold a folder "
            "that Git writes no more (an empty one, or file modes of its first years): commit those files anew.",
        )


def _tree_id(entries: tuple[TreeEntry, ...]) -> str:
    # All paths are encoded in one go, and folders are taken apart once each: the hot path of a listing of 10,000 files.
    paths = "\0".join([entry.path for entry in entries]).encode("utf-8", "surrogateescape").split(b"\0")
    folders: dict[bytes, list[tuple[bytes, bytes]]] = {b"": []}
    modes: dict[str, bytes] = {}
    for path, entry in zip(paths, entries, strict=True) if entries else ():
        folder, slash, name = path.rpartition(b"/")
        if slash and not folder:
            raise ValueError("a path begins with /")  # Else it would count as the path without it.
        mode = modes.get(entry.mode) or modes.setdefault(entry.mode, entry.mode.encode() + b" ")
        content = folders.get(folder)
        if content is None:
            content = _add_folder(folders, folder)
        content.append((name, mode + name + b"\0" + bytes.fromhex(entry.object_id)))
    return _hash_folders(folders)


def _add_folder(folders: dict[bytes, list[tuple[bytes, bytes]]], folder: bytes) -> list[tuple[bytes, bytes]]:
    """This folder, and those above it that are not known yet."""
    above = folder
    while above not in folders:
        folders[above] = []
        above = above.rpartition(b"/")[0]
    return folders[folder]


def _hash_folders(folders: dict[bytes, list[tuple[bytes, bytes]]]) -> str:
    # The longest path first: what is inside a folder is hashed before the folder is. The root comes last.
    digest = b""
    for folder in sorted(folders, key=len, reverse=True):
        content = b"".join([line for _, line in sorted(folders[folder])])
        digest = sha1(b"tree %d\0" % len(content) + content, usedforsecurity=False).digest()
        if folder:
            above, _, name = folder.rpartition(b"/")
            folders[above].append((name + b"/", _FOLDER + name + b"\0" + digest))
    return digest.hex()


# -- The choice ------------------------------------------------------------------------------------------------------


def select(tree: Tree, root: str, pattern: str, limits: ListingLimits, max_bytes: int) -> Selection:
    """The regular files below `root` whose name matches `pattern`, case-sensitively.

    `max_bytes` is what one file may have. Files with an error are left out, since they must not be fetched; when there
    are too many files, all are.
    """
    chosen: dict[FilePath, TreeEntry] = {}
    findings: list[Finding] = []
    matches, almost = re.compile(translate(pattern)).match, _almost(pattern)
    below = f"{root}/" if root else ""
    for entry in tree.entries:
        path = entry.path
        if not path.startswith(below):
            continue
        name = path[path.rfind("/") + 1 :]
        if not matches(name):
            if almost(name):
                findings.append(_near_miss(entry, pattern))
        elif finding := _objection(entry, chosen, limits, max_bytes):
            findings.append(finding)
        else:
            chosen[path] = entry
    if finding := _too_much(chosen, root, limits):
        return Selection({}, (*findings, finding))
    return Selection(chosen, tuple(findings))


def _almost(pattern: str) -> Callable[[str], object]:
    """Whether a name would match if its case or its .yaml were another."""
    stem, dot, ending = pattern.rpartition(".")
    if dot and ending.lower() in ("yaml", "yml"):
        other = translate(f"{stem}.yml" if ending.lower() == "yaml" else f"{stem}.yaml")
        return re.compile(f"{translate(pattern)}|{other}", re.IGNORECASE).match
    return re.compile(translate(pattern), re.IGNORECASE).match


def _near_miss(entry: TreeEntry, pattern: str) -> Finding:
    message = f"This file is not read: its name almost matches {pattern}, but for its case or its ending."
    return Finding(_shown(entry.path), "near-miss", Severity.WARNING, message)


def _objection(
    entry: TreeEntry, chosen: dict[FilePath, TreeEntry], limits: ListingLimits, max_bytes: int
) -> Finding | None:
    """Why a file that matches is not fetched."""
    path = entry.path
    if entry.mode in (_SYMLINK, _SUBMODULE):
        what = "a symbolic link" if entry.mode == _SYMLINK else "a submodule"
        return Finding(_shown(path), "not-a-file", Severity.NOTE, f"This is {what} and is not followed.")
    error = None
    # Quick, and false for all that the two patterns find: most paths are spared both.
    doubtful = not path.isprintable()
    if doubtful and _NOT_UTF_8.search(path):
        error = "path-not-utf-8", "The path is not UTF-8: rename the file."
    elif doubtful and _CONTROL.search(path):
        error = "path-control-character", "The path holds a control character: rename the file."
    elif len(path.encode()) > limits.max_path_bytes:
        error = "path-too-long", f"The path is longer than {limits.max_path_bytes:,} bytes: shorten it."
    elif path in chosen:
        error = (
            "path-listed-twice",
            "The commit lists this path twice, which Git does not write: repair the repository.",
        )
    elif entry.size is not None and entry.size > max_bytes:
        return too_large(path, entry.size, max_bytes)
    return Finding(_shown(path), error[0], Severity.ERROR, error[1]) if error else None


def too_large(path: FilePath, size: int, max_bytes: int) -> Finding:
    """The finding about a file of more bytes than are read."""
    message = f"The file has {size:,} bytes; at most {max_bytes:,} are read."
    return Finding(_shown(path), "file-too-large", Severity.ERROR, message, 1, 1)


def too_many_bytes(total: int, root: str, limits: ListingLimits) -> Finding | None:
    """The finding about `total` bytes of runtime configs, when they are more than are read."""
    if total <= limits.max_total_bytes:
        return None
    message = f"The runtime configs have {total:,} bytes in all; at most {limits.max_total_bytes:,} are read."
    return Finding(FilePath(root), "too-many-bytes", Severity.ERROR, message)


def _too_much(chosen: dict[FilePath, TreeEntry], root: str, limits: ListingLimits) -> Finding | None:
    if len(chosen) > limits.max_files:
        message = f"The branch has {len(chosen):,} runtime configs; at most {limits.max_files:,} are read."
        return Finding(FilePath(root), "too-many-files", Severity.ERROR, message)
    return too_many_bytes(sum([entry.size or 0 for entry in chosen.values()]), root, limits)


def _shown(path: FilePath) -> FilePath:
    """As it can be stored and printed: control characters and bytes that are not UTF-8 as escapes."""
    return FilePath(_UNPRINTABLE.sub(_escaped, path))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code & 0xFF:02x}" if code <= 0xFF or code in _ESCAPED_BYTES else f"\\u{code:04x}"
