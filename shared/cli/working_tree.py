"""What the person's own git says of the working tree that a file is in: where it begins, and what it ignores."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

from shared.cli.output import note
from shared.errors import SourceFailed


class Said(NamedTuple):
    """What git answered; `output` is None when it refused, and `reason` is then the first line of why."""

    output: bytes | None
    reason: str


def git(folder: str, *arguments: str) -> Said:
    """Raises `SourceFailed` when there is no git. It runs in the person's own environment."""
    command = ["git", "-C", folder, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 (no shell)
    except OSError as error:
        hint = "Install Git (https://git-scm.com) and see that `git` is on the PATH."
        raise SourceFailed(f"Git cannot be started: {error.strerror}.", hint=hint) from error
    reason = os.fsdecode(done.stderr).strip().partition("\n")[0].rstrip()
    return Said(None if done.returncode else done.stdout, reason)


@cache
def marked(folder: str) -> str | None:
    """The nearest folder, from this real path upwards, that has a `.git`: the same for all files of a working tree."""
    if os.path.lexists(os.path.join(folder, ".git")):
        return folder
    above = os.path.dirname(folder)
    return None if above == folder else marked(above)


@cache
def top(folder: str) -> Said:
    """Where the working tree begins that holds the folder."""
    said = git(folder, "rev-parse", "--show-toplevel")
    if said.output is None:
        return said
    # The line's end is Git's; a folder's name may end with white space.
    return Said(os.fsencode(Path(os.fsdecode(said.output.removesuffix(b"\n")))), "")


def ignored(folder: str) -> frozenset[str]:
    """The files and whole folders that no push of this folder's working tree holds, since they are ignored.

    By real path, with the case as `os.path.normcase` has it. Nothing where there is no working tree. Where git refuses,
    nothing is left out either, which is said.
    """
    begin = marked(os.path.realpath(folder))
    return frozenset() if begin is None else _ignored(begin)


@cache
def _ignored(begin: str) -> frozenset[str]:
    try:
        above = top(begin)
        listing = ("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
        said = above if above.output is None else git(os.fsdecode(above.output), *listing)
        reason = said.reason
    except SourceFailed as error:
        above, said, reason = Said(None, ""), Said(None, ""), error.message
    if above.output is None or said.output is None:
        note(f"What Git ignores in {begin} is judged as well: {reason}")
        return frozenset()
    names = [name.rstrip("/") for name in os.fsdecode(said.output).split("\0") if name]
    root = os.fsdecode(above.output)
    return frozenset(os.path.normcase(os.path.join(root, *name.split("/"))) for name in names)
