"""Which files differ from what a branch has: what a quick local run of `validate` needs to look at."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from shared.cli.files import File
from shared.errors import InvalidRequest, SourceFailed

_FIELD: Final = "changed-since"


class Changes:
    """What differs between the working tree and the point where it left `ref`, committed or not, tracked or not."""

    def __init__(self, ref: str) -> None:
        self._ref = ref
        self._of_folder = cache(self._changed)

    def has(self, file: File) -> bool:
        """Raises `InvalidRequest` when the file is in no repository, or its repository does not know `ref`."""
        if file.place is None:
            return True
        folder, name = os.path.split(os.path.realpath(file.place))
        return os.path.normcase(os.path.join(folder, name)) in self._of_folder(_repository(folder))

    def _changed(self, top: str) -> frozenset[str]:
        base = self._merge_base(top)
        # A file that was renamed is there by its new name.
        tracked = _git(top, "diff", "--name-only", "--no-renames", "--diff-filter=d", "-z", base, "--")
        untracked = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
        if tracked is None or untracked is None:
            raise SourceFailed(f"Git cannot tell what changed in {top}.", hint=f"`git diff {base}` there says why.")
        names = [name for name in (tracked + untracked).split(b"\0") if name]
        return frozenset(os.path.normcase(os.path.join(top, *os.fsdecode(name).split("/"))) for name in names)

    def _merge_base(self, top: str) -> str:
        commit = _git(top, "rev-parse", "--verify", "--quiet", f"{self._ref}^{{commit}}")
        if commit is None:
            hint = "Name a branch, a tag or a commit, such as origin/main; `git fetch` gets what is new."
            raise InvalidRequest(f"The repository {top} has no commit {self._ref!r}.", field=_FIELD, hint=hint)
        base = _git(top, "merge-base", commit.decode().strip(), "HEAD")
        if base is None:
            hint = "In a pipeline, check out with fetchDepth: 0."
            message = f"{self._ref!r} and HEAD of {top} have no common commit, as far as this clone knows."
            raise InvalidRequest(message, field=_FIELD, hint=hint)
        return base.decode().strip()


@cache
def _repository(folder: str) -> str:
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        hint = "Without --changed-since every file is judged."
        raise InvalidRequest(f"{folder} is in no working tree of Git.", field=_FIELD, hint=hint)
    # The line's end is Git's; a folder's name may end with white space.
    return str(Path(os.fsdecode(top.removesuffix(b"\n"))))


def _git(folder: str, *arguments: str) -> bytes | None:
    """What git says; None when it refuses. It is the person's own git, in the person's own environment."""
    command = ["git", "-C", folder, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 (no shell)
    except OSError as error:
        hint = "Install Git (https://git-scm.com) and see that `git` is on the PATH."
        raise SourceFailed(f"Git cannot be started: {error.strerror}.", hint=hint) from error
    return None if done.returncode else done.stdout
