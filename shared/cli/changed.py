"""Which files differ from what a branch has: what a quick local run of `validate` needs to look at."""

import os
from functools import cache
from typing import Final

from shared.cli.files import File
from shared.cli.working_tree import Said, git, marked, top
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

    def _changed(self, above: str) -> frozenset[str]:
        base = self._merge_base(above)
        # A file that was renamed is there by its new name.
        tracked = git(above, "diff", "--name-only", "--no-renames", "--diff-filter=d", "-z", base, "--")
        untracked = git(above, "ls-files", "--others", "--exclude-standard", "-z")
        if tracked.output is None or untracked.output is None:
            reason = tracked.reason if tracked.output is None else untracked.reason
            hint = f"`git diff {base}` there says why."
            raise SourceFailed(f"Git cannot tell what changed in {above}{_because(reason)}.", hint=hint)
        names = [name for name in (tracked.output + untracked.output).split(b"\0") if name]
        return frozenset(os.path.normcase(os.path.join(above, *os.fsdecode(name).split("/"))) for name in names)

    def _merge_base(self, above: str) -> str:
        commit = git(above, "rev-parse", "--verify", "--quiet", f"{self._ref}^{{commit}}")
        if commit.output is None:
            hint = "Name a branch, a tag or a commit, such as origin/main; `git fetch` gets what is new."
            message = f"The repository {above} has no commit {self._ref!r}{_because(commit.reason)}."
            raise InvalidRequest(message, field=_FIELD, hint=hint)
        base = git(above, "merge-base", commit.output.decode().strip(), "HEAD")
        if base.output is None:
            hint = "In a pipeline, check out with fetchDepth: 0."
            message = f"{self._ref!r} and HEAD of {above} have no common commit, as far as this clone knows"
            raise InvalidRequest(f"{message}{_because(base.reason)}.", field=_FIELD, hint=hint)
        return base.output.decode().strip()


def _repository(folder: str) -> str:
    begin = marked(folder)
    above: Said = top(begin or folder)
    if above.output is None:
        hint = "Without --changed-since every file is judged."
        message = f"Git does not read {begin}{_because(above.reason)}." if begin else ""
        raise InvalidRequest(message or f"{folder} is in no working tree of Git.", field=_FIELD, hint=hint)
    return os.fsdecode(above.output)


def _because(reason: str) -> str:
    return f" ({reason.removeprefix('fatal: ')})" if reason else ""
