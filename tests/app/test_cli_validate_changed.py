"""`runtime-store validate --changed-since`: what a person has not shared yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import CommandLine, log_restored
from support.git import GitRepository, environment, git
from support.world import NOT_YAML, workflow


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    with log_restored():
        yield CommandLine(capsys)


class Clone:
    """A working tree on the branch `work`, which left `main` at a commit of files that are all broken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        history = GitRepository(path, bare=False)
        self.history = history
        names = ("old", "changed", "staged", "deleted", "renamed", "later", "sub/deep")
        history.commit({f"{name}_runtime.yaml": f"{name}: [".encode() for name in names})
        history.set_head("work", history.head("main"))
        history.commit({"later_runtime.yaml": b"later: 1"})  # on main, after work left it
        self.git("checkout", "--quiet", "work")

    def git(self, *words: str) -> None:
        person = ("-c", "user.name=Grace Hopper", "-c", "user.email=grace@example.com")
        git("-C", self.path, *person, *words)

    def write(self, name: str, data: bytes = NOT_YAML) -> None:
        (self.path / name).parent.mkdir(exist_ok=True)
        (self.path / name).write_bytes(data)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    clone = Clone(tmp_path / "clone of mine")
    monkeypatch.chdir(clone.path)
    return clone


def judged(cli: CommandLine, *words: str) -> set[str]:
    ended = cli("validate", *words, "--json")
    assert ended.code == (1 if ended.value["count"] else 0), ended.stderr
    return {one["path"] for one in ended.value["findings"]}


def test_what_differs_is_judged_committed_or_not(cli: CommandLine, clone: Clone) -> None:
    assert judged(cli, ".", "--changed-since", "main") == set()
    clone.write("changed_runtime.yaml")
    clone.git("commit", "--quiet", "--all", "--message=Change")
    clone.write("staged_runtime.yaml")
    clone.git("add", "staged_runtime.yaml")
    clone.git("rm", "--quiet", "deleted_runtime.yaml")
    clone.git("mv", "renamed_runtime.yaml", "new name_runtime.yaml")
    clone.write("new/ünträcked_runtime.yaml")
    clone.write("sub/deep_runtime.yaml")
    found = {
        "changed_runtime.yaml",
        "staged_runtime.yaml",
        "new name_runtime.yaml",
        "new/ünträcked_runtime.yaml",
        "sub/deep_runtime.yaml",
    }
    assert judged(cli, ".", "--changed-since", "main") == found
    assert judged(cli, "**/*_runtime.yaml", "--changed-since", "main") == found
    assert judged(cli, ".", "--changed-since", "HEAD") == found - {"changed_runtime.yaml"}


def test_what_git_ignores_is_not_new(cli: CommandLine, clone: Clone) -> None:
    clone.write(".gitignore", b"scratch/\n")
    clone.write("scratch/x_runtime.yaml")
    assert judged(cli, ".", "--changed-since", "main") == set()


def test_where_it_is_started_makes_no_difference(
    cli: CommandLine, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.write("sub/deep_runtime.yaml")
    clone.write("changed_runtime.yaml")
    clone.git("config", "diff.relative", "true")
    monkeypatch.chdir(clone.path / "sub")
    assert judged(cli, ".", "--changed-since", "main") == {"deep_runtime.yaml"}
    assert judged(cli, "..", "--changed-since", "main") == {"../sub/deep_runtime.yaml", "../changed_runtime.yaml"}
    monkeypatch.chdir(clone.path.parent)
    name = clone.path.name
    assert judged(cli, name, "--changed-since", "main") == {
        f"{name}/sub/deep_runtime.yaml",
        f"{name}/changed_runtime.yaml",
    }
    assert judged(cli, f"{name}/changed_runtime.yaml", "--changed-since", "main") == {f"{name}/changed_runtime.yaml"}


def test_nothing_that_differs_is_no_misuse(cli: CommandLine, clone: Clone) -> None:
    ended = cli("validate", ".", "--changed-since", "main")
    assert (ended.code, ended.stderr) == (0, "There was no file to judge.\n")
    assert cli("validate", "sab", "--changed-since", "main").code == 2


@pytest.mark.parametrize("ref", ["origin/main", "--all", "main..work", "HEAD^{tree}", ""])
def test_a_ref_that_is_not_known_is_said(cli: CommandLine, clone: Clone, ref: str) -> None:
    ended = cli("validate", ".", f"--changed-since={ref}")
    assert ended.code == 2
    assert f"has no commit {ref!r}" in ended.stderr
    assert "git fetch" in ended.stderr


def test_a_history_that_was_cut_off_is_said(cli: CommandLine, clone: Clone) -> None:
    clone.history.commit({"x_runtime.yaml": b"a: 1"}, branch="elsewhere", onto="")
    ended = cli("validate", ".", "--changed-since", "elsewhere")
    assert ended.code == 2
    assert "have no common commit" in ended.stderr
    assert "fetchDepth: 0" in ended.stderr


def test_outside_of_a_repository_it_is_said(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "a_runtime.yaml").write_bytes(workflow())
    ended = cli("validate", str(tmp_path), "--changed-since", "main")
    assert ended.code == 2
    assert f"{tmp_path} is in no working tree of Git." in ended.stderr


def test_a_submodule_does_not_stand_in_the_way(cli: CommandLine, clone: Clone) -> None:
    below = GitRepository(clone.path / "below", bare=False)
    below.commit({"a_runtime.yaml": NOT_YAML}, branch="other")
    clone.write("below/b_runtime.yaml")
    clone.write("changed_runtime.yaml")
    assert judged(cli, ".", "--changed-since", "main") == {"changed_runtime.yaml"}


def test_git_is_asked_once_for_a_working_tree(
    cli: CommandLine, clone: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(20):
        clone.write(f"sub/{number}_runtime.yaml")
        (clone.path / f"folder{number}").mkdir()
        clone.write(f"folder{number}/x_runtime.yaml")
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))
    assert len(judged(cli, ".", "--changed-since", "main")) == 40
    assert trace.read_text(encoding="utf-8").count('"event":"start"') < 10


def test_why_git_refuses_is_said(cli: CommandLine, clone: Clone) -> None:
    (clone.path / ".git" / "config").write_text("[broken", encoding="utf-8")
    ended = cli("validate", "old_runtime.yaml", "--changed-since", "main")
    assert ended.code == 2
    assert f"Git does not read {clone.path} (bad config line " in ended.stderr
