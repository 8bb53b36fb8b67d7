"""What the PATHs of `validate` name: files, folders and globs, as Git would list them.

Everything is listed before anything is judged: a path that leads nowhere is said at once, since a gate that judges
nothing must not be green.
"""

import glob
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.cli.working_tree import ignored
from shared.errors import InvalidRequest
from shared.model import BlobId, FilePath, Finding, Registration, Severity, Tree, TreeEntry, TreeId

if TYPE_CHECKING:
    from shared.listing import Selection
    from shared.rules import Rules

STDIN: Final = "-"

_MOST_READ: Final = 64 * 1024 * 1024
"""Bytes of a stream, which tells no size: far above what a file may have."""
_ANY_NAME: Final = "*"
_SEPARATOR: Final = "[\\\\/]" if os.name == "nt" else "/"
_STARS: Final = re.compile(rf"(?:^|(?<={_SEPARATOR}))(?:\*\*{_SEPARATOR}+)*\*\*(?:{_SEPARATOR}+|$)")
_UNSHOWABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class File(NamedTuple):
    """One file to be judged."""

    path: FilePath
    """As the person would write it, with / between folders, and escapes for what cannot be shown."""
    place: str | None
    """Where it is read from; None is stdin."""
    size: int | None = None

    def read(self) -> bytes:
        """Its bytes. Raises `InvalidRequest` when it cannot be read."""
        try:
            if self.place is None:
                if sys.stdin is None:
                    raise OSError("it is closed")
                return sys.stdin.buffer.read(_MOST_READ + 1)
            with open(self.place, "rb") as stream:
                return stream.read() if self.size else stream.read(_MOST_READ + 1)
        except OSError as error:
            raise _unreadable(self.path, error) from error


class Named(NamedTuple):
    """The files of all PATHs, each once, and what is to be said about others."""

    files: tuple[File, ...]
    findings: tuple[Finding, ...]


def named(
    rules: "Rules", paths: Sequence[str], registration: Registration, *, stdin_name: str, allow_none: bool
) -> Named:
    """What `paths` lead to. Of a folder, what `registration` selects; a file is itself, whatever it is called.

    Raises `InvalidRequest` about a path that cannot be read or, unless `allow_none`, leads to no file.
    """
    files: dict[str | None, File] = {}
    findings: dict[tuple[str, str], Finding] = {}
    for path in paths:
        found = _of_path(rules, path, registration, stdin_name)
        if not allow_none and not found.files and not _has_error(found.findings):
            raise _nothing(path, registration, found.findings)
        for file in found.files:
            files.setdefault(file.place and os.path.normcase(os.path.realpath(file.place)), file)
        for finding in found.findings:
            # Of a link the finding is about the link.
            folder, name = os.path.split(finding.path)
            findings.setdefault((os.path.join(os.path.realpath(folder), name), finding.rule), finding)
    return Named(tuple(files.values()), tuple(findings.values()))


def is_glob(path: str) -> bool:
    """Whether it is to be expanded: a file with such a name is itself."""
    return path != STDIN and glob.has_magic(path) and not os.path.lexists(path)


def _of_path(rules: "Rules", path: str, registration: Registration, stdin_name: str) -> Named:
    if path == STDIN:
        return Named((File(_shown(stdin_name), None),), ())
    if not is_glob(path):
        return _of_place(rules, path, registration)
    # As a shell would, which on Windows leaves it to us.
    found = [_of_place(rules, one, registration) for one in sorted(set(_expanded(path)))]
    return Named(tuple(f for one in found for f in one.files), tuple(f for one in found for f in one.findings))


def _expanded(pattern: str) -> Iterator[str]:
    """As `glob.glob` with `recursive`, which would follow links that lead round and round below `**`."""
    stars = _STARS.search(pattern)
    if stars is None:
        yield from glob.glob(pattern)
        return
    above, below = pattern[: stars.start()], pattern[stars.end() :]
    for start in glob.glob(above) if glob.has_magic(above) else [above]:
        for folder, folders, names in os.walk(start or "."):
            folders[:] = [one for one in folders if not one.startswith(".")]
            inside = folder if start else folder[2:]
            if below:
                yield from _expanded(os.path.join(glob.escape(inside), below))
            else:
                yield from (os.path.join(inside, name) for name in ("", *names) if not name.startswith("."))


def _of_place(rules: "Rules", path: str, registration: Registration) -> Named:
    try:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            selection = rules.select(Tree(TreeId(""), tuple(_entries(path))), registration)
            return _named(path, selection)
    except OSError as error:
        raise _unreadable(path, error) from error
    # Its size and its name are judged as those of a folder's files.
    size = info.st_size if stat.S_ISREG(info.st_mode) else None
    entry = TreeEntry(FilePath(Path(path).as_posix()), "100644", BlobId(""), size)
    return _named("", rules.select(Tree(TreeId(""), (entry,)), replace(registration, root="", pattern=_ANY_NAME)))


def _named(folder: str, selection: "Selection") -> Named:
    above = Path(folder)
    files = [
        File(_shown((above / path).as_posix()), str(above / path), entry.size)
        for path, entry in sorted(selection.entries.items())
    ]
    findings = [replace(one, path=_shown((above / one.path).as_posix())) for one in selection.findings]
    return Named(tuple(files), tuple(findings))


def _entries(folder: str) -> Iterator[TreeEntry]:
    """The folder as Git would list it: without what it ignores, and without the files of other repositories below it.

    No id: which files are configs does not depend on what is in them.
    """
    real, left_out, open_folders = os.path.realpath(folder), ignored(folder), [""]
    while open_folders:
        above = open_folders.pop()
        with os.scandir(os.path.join(folder, above) if above else folder) as inside:
            for one in inside:
                path = f"{above}/{one.name}" if above else one.name
                if left_out and os.path.normcase(os.path.join(real, path)) in left_out:
                    continue
                info = one.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    if one.name != ".git" and not os.path.lexists(os.path.join(one.path, ".git")):
                        open_folders.append(path)
                elif stat.S_ISLNK(info.st_mode):
                    yield TreeEntry(FilePath(path), "120000", BlobId(""), info.st_size)
                elif stat.S_ISREG(info.st_mode):
                    yield TreeEntry(FilePath(path), "100644", BlobId(""), info.st_size)


def _has_error(findings: Sequence[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


def _nothing(path: str, registration: Registration, findings: Sequence[Finding]) -> InvalidRequest:
    almost = next((finding.path for finding in findings if finding.severity is Severity.WARNING), None)
    hint = "Correct the path or --pattern; --allow-none is for a repository that may have no runtime config."
    if almost:
        hint = f"{almost} almost matches: its case or its ending is another. {hint}"
    if is_glob(path):
        return InvalidRequest(f"No file matches {_shown(path)}.", field="PATH", hint=hint)
    below = f"{registration.root}/**/{registration.pattern}" if registration.root else f"**/{registration.pattern}"
    return InvalidRequest(f"No file in {_shown(path)} matches {below}.", field="PATH", hint=hint)


def _unreadable(path: str, error: OSError) -> InvalidRequest:
    where = error.filename if isinstance(error.filename, str) else path
    hint = "Name files, folders and globs that are there and may be read, or - for stdin."
    return InvalidRequest(f"{_shown(where)} cannot be read: {error.strerror or error}.", field="PATH", hint=hint)


def _shown(path: str) -> FilePath:
    def escaped(found: re.Match[str]) -> str:
        return found[0].encode("unicode_escape", "surrogatepass").decode()

    return FilePath(_UNSHOWABLE.sub(escaped, path))
