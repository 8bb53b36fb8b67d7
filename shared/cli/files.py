"""Judging files before they are pushed, by the code that judges them afterwards."""

import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from shared.cli import exit_codes
from shared.cli.output import counted, note, progress, say_json, say_report, with_debug, with_json
from shared.errors import InvalidRequest
from shared.model import (
    BlobId,
    FilePath,
    Finding,
    Registration,
    SourceName,
    Tree,
    TreeEntry,
    TreeId,
    Validation,
)

if TYPE_CHECKING:
    from shared.rules import Rules

PATTERN = Registration(name="", source=SourceName(""), branches=()).pattern


class _File(NamedTuple):
    path: FilePath
    """As the person would write it."""
    data: bytes

    @property
    def blob_id(self) -> BlobId:
        digest = hashlib.sha1(b"blob %d\0" % len(self.data), usedforsecurity=False)
        digest.update(self.data)
        return BlobId(digest.hexdigest())


@click.command(
    epilog="\b\nExamples:\n  runtime-store validate .\n  runtime-store validate etl/orders_runtime.yaml\n"
    "  git show HEAD:etl/orders_runtime.yaml | runtime-store validate -"
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--pattern", default=PATTERN, show_default=True, help="Which files of a folder are runtime configs.")
@click.option(
    "--validation",
    type=click.Choice([mode.value for mode in Validation]),
    default=Validation.ENFORCE.value,
    show_default=True,
    help="As the repository is registered: whether findings of the schema reject.",
)
@with_json
@with_debug
def validate(paths: Sequence[str], pattern: str, validation: str, as_json: bool) -> int:
    """Judge runtime configs as a push would be judged.

    A PATH is a file, which is judged whatever it is called, a folder, of which the files that match the pattern are
    judged, or - for stdin. Needs neither settings nor a database.
    """
    from shared.rules import Rules
    from shared.web.representations import of_report

    rules = Rules.shipped()
    findings: list[Finding] = []
    count = 0
    with progress("Judging") as show:
        for file in _files(rules, paths, pattern, findings):
            count += 1
            show(f"Judging {count} files: {file.path}")
            _, found = rules.judge(file.path, file.blob_id, file.data, Validation(validation))
            findings.extend(found)
    report = of_report(rules.report(findings))
    if as_json:
        say_json({"files": count, **report})
    else:
        say_report(report)
        note(_summary(count, report["count"], rejects=report["rejects"]))
    return exit_codes.FINDINGS.code if report["rejects"] else exit_codes.DONE.code


def _summary(count: int, findings: int, *, rejects: bool) -> str:
    if not count:
        return "No file matches; nothing was judged."
    verdict = "a push of this would be rejected" if rejects else "a push of this would be served"
    return f"{counted(count, 'file')}, {counted(findings, 'finding')}: {verdict}."


def _files(rules: "Rules", paths: Iterable[str], pattern: str, findings: list[Finding]) -> Iterator[_File]:
    """The files that `paths` name; what is to say about a folder's listing is added to `findings`."""
    for path in paths:
        if path == "-":
            yield _File(FilePath("<stdin>"), sys.stdin.buffer.read())
        elif os.path.isdir(path):
            yield from _of_folder(rules, Path(path), pattern, findings)
        else:
            yield _File(FilePath(path), _bytes(path))


def _of_folder(rules: "Rules", folder: Path, pattern: str, findings: list[Finding]) -> Iterator[_File]:
    tree = Tree(TreeId(""), tuple(_entries(folder)))
    selection = rules.select(tree, Registration(name="", source=SourceName(""), branches=(), pattern=pattern))
    findings.extend(replace(one, path=FilePath(str(folder / one.path))) for one in selection.findings)
    for path in selection.entries:
        yield _File(FilePath(str(folder / path)), _bytes(folder / path))


def _entries(folder: Path) -> Iterator[TreeEntry]:
    """The folder as Git would list it. No id: which files are configs does not depend on what is in them."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted(names + links):
            file = Path(place, name)
            info = file.lstat()
            mode = "120000" if stat.S_ISLNK(info.st_mode) else "100644"
            yield TreeEntry(FilePath(file.relative_to(folder).as_posix()), mode, BlobId(""), info.st_size)


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        hint = "Name files and folders that are there, or - for stdin."
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}.", field="PATH", hint=hint) from error
