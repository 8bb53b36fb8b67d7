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


# Whatever somebody's own configuration says, `git push` pushes the branch that is checked out, to where it is from.
_CLONE_SETTINGS = {
    **_SETTINGS,
    "push.default": "current",
    "push.gpgSign": "false",
    "remote.pushDefault": "origin",
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


def prepare_hosted(folder: Path) -> bool:
    """Make the bare repository that is pushed to, unless it is there; tells whether it was made."""
    if folder.exists():
        return False
    half, work = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.work")
    remove(half)
    remove(work)
    _make(work)
    _git([], "clone", "--quiet", "--bare", "--template=", "--origin=origin", str(work), str(half))
    _git(["-C", str(half)], "remote", "remove", "origin")
    # Git would do it in the background, after a push, and perhaps after the demo.
    _git(["-C", str(half)], "config", "receive.autogc", "false")
    remove(work)
    half.rename(folder)
    return True


def prepare_clone(folder: Path, url: str, authorization: str) -> bool:
    """Clone the repository at `url` unless that was done, and let the clone know where it is now; tells whether it was
    cloned. Git signs in with the header `authorization` there, and nobody is asked for a password."""
    scheme, _, rest = url.partition("://")
    here = f"http.{scheme}://{rest.partition('/')[0]}/"
    place = {f"{here}.extraHeader": f"Authorization: {authorization}", f"{here}.proxy": ""}
    is_new = not (folder / ".git").exists()
    if is_new:
        half = folder.with_name(f"{folder.name}.new")
        remove(half)
        settings = {**_CLONE_SETTINGS, **place, "core.hooksPath": str(folder / ".git" / "hooks")}
        words = [f"--config={name}={value}" for name, value in settings.items()]
        _git([], "clone", "--quiet", "--template=", "--origin=origin", *words, url, str(half))
        _exclude_leftovers(half)
        half.rename(folder)
    for name, value in {**place, "remote.origin.url": url}.items():
        _git(["-C", str(folder)], "config", name, value)
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
    _exclude_leftovers(folder)
    newest = max(path.relative_to(folder).as_posix() for path in folder.rglob("*runtime*.yaml"))
    _git(here, "add", ".", f":!{newest}")
    _git(here, "commit", "--quiet", "--message=The workflows of release 1.0")
    _git(here, "branch", "release/1.0")
    _git(here, "add", newest)
    _git(here, "commit", "--quiet", f"--message=Add {newest}")


def _exclude_leftovers(folder: Path) -> None:
    """Those of the commands that the demo prints."""
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "exclude").write_text("*.bak\n", encoding="utf-8")


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
