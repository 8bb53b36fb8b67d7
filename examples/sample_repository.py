"""The demo's team repository: made from examples/team, with a Git hook that does what a service hook does."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TEAM = Path(__file__).with_name("team")
HOOK = Path(__file__).with_name("service_hook.py")
BRANCHES = ("main", "release/1.0")
OLDEST_GIT = (2, 28)
"""The first with the hook `reference-transaction`, which sees every change of a branch, however it is made."""
_SETTINGS = {
    "user.name": "Demo",
    "user.email": "demo@example.com",
    "commit.gpgsign": "false",
    "core.autocrlf": "false",
    "receive.denyCurrentBranch": "updateInstead",
    # Packing refs in the background would call the hook for every branch.
    "gc.auto": "0",
}


class GitProblem(Exception):
    """Git is missing, too old, or refuses; the message says what to do."""


def require_git() -> None:
    try:
        words = _git([], "version").split()
    except FileNotFoundError:
        raise GitProblem("Git is not installed, or not on the PATH. Install it from https://git-scm.com.") from None
    version = tuple(int(part) for part in words[2].split(".")[:2])
    if version < OLDEST_GIT:
        raise GitProblem(f"This is Git {words[2]}; the demo needs {'.'.join(map(str, OLDEST_GIT))} or later.")


def prepare(folder: Path, running: Path) -> bool:
    """Make the repository unless it is there, and put its hook in place; tells whether it was made.

    `running` is the file that says where the server is.
    """
    is_new = not (folder / ".git").exists()
    if is_new:
        half = folder.with_name(f"{folder.name}.new")
        remove(half)
        _make(half)
        half.rename(folder)
    hooks = folder / ".git" / "hooks"
    # Said here, since somebody's own core.hooksPath would be used instead of this folder.
    _git(["-C", str(folder)], "config", "core.hooksPath", str(hooks))
    _write_hook(hooks / "reference-transaction", running)
    return is_new


def _make(folder: Path) -> None:
    """`main` has every file; `release/1.0` is older, and lacks the newest workflow."""
    folder.mkdir(parents=True)
    shutil.copytree(TEAM, folder, dirs_exist_ok=True)
    _git([], "init", "--quiet", "--template=", "--initial-branch=main", str(folder))
    here = ["-C", str(folder)]
    for name, value in _SETTINGS.items():
        _git(here, "config", name, value)
    (folder / ".git" / "hooks").mkdir()
    (folder / ".git" / "info").mkdir(exist_ok=True)
    # What the commands that the demo prints leave behind.
    (folder / ".git" / "info" / "exclude").write_text("*.bak\n", encoding="utf-8")
    newest = max(path.relative_to(folder).as_posix() for path in folder.rglob("*runtime*.yaml"))
    _git(here, "add", ".", f":!{newest}")
    _git(here, "commit", "--quiet", "--message=The workflows of release 1.0")
    _git(here, "branch", "release/1.0")
    _git(here, "add", newest)
    _git(here, "commit", "--quiet", f"--message=Add {newest}")


def _write_hook(path: Path, running: Path) -> None:
    python, script, where = (
        shlex.quote(Path(part).as_posix()) for part in (sys.executable, HOOK.resolve(), running.resolve())
    )
    text = f"""#!/bin/sh
# Written by `python3 dev.py demo` at each start. Tells Runtime Store of every changed branch, as a service hook of
# Azure DevOps would, and prints its answer. It cannot fail a commit: that has happened by now.
[ "$1" = committed ] || exit 0
updates=$(grep ' refs/heads/') || exit 0
printf '%s\\n' "$updates" | {python} -I -S {script} {where}
exit 0
"""
    path.write_text(text, encoding="utf-8", newline="\n")
    path.chmod(0o755)


def _git(options: Sequence[str], *arguments: str) -> str:
    """Run git, whatever repository this process was started from."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *options, *arguments], capture_output=True, env=environment, check=False)
    if done.returncode:
        raise GitProblem(f"`git {' '.join(arguments)}` failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


def remove(folder: Path) -> None:
    """Remove a repository; Git makes its objects read-only, which Windows takes for a reason not to."""
    if not folder.exists():
        return
    for path in folder.rglob("*") if os.name == "nt" else ():
        path.chmod(0o700)
    shutil.rmtree(folder)
