"""`runtime-store validate`: what it takes, what it ends with, and that nothing is a traceback."""

import glob
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cli import CommandLine, Ended, log_restored
from support.git import environment, git
from support.world import INVALID, NOT_YAML, workflow

from shared.cli.files import _expanded

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOBODY = 65534


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with log_restored():
        yield CommandLine(capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one valid file."""
    (tmp_path / "etl").mkdir()
    (tmp_path / "etl" / "good-runtime.yaml").write_bytes(workflow())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_valid_folder_is_served(cli: CommandLine) -> None:
    ended = cli("validate", str(EXAMPLES / "team"))
    assert (ended.code, ended.stdout) == (0, "")
    assert ended.stderr == "7 files, 0 findings: a push of this would be served.\n"


def test_a_file_is_judged_whatever_it_is_called(cli: CommandLine, folder: Path) -> None:
    Path("notes.txt").write_bytes(INVALID)
    assert cli("validate", ".").code == 0
    assert cli("validate", "notes.txt").code == 1


def test_a_file_that_is_named_twice_is_judged_once(cli: CommandLine, folder: Path) -> None:
    Path("etl/bad-runtime.yaml").write_bytes(INVALID)
    ended = cli("validate", ".", "etl", "etl/bad-runtime.yaml", "./etl/*", "--json")
    assert (ended.value["files"], ended.value["count"]) == (2, 1)


def test_the_pattern_and_the_root_say_which_files_of_a_folder(cli: CommandLine, folder: Path) -> None:
    Path("job.config.yaml").write_bytes(INVALID)
    assert cli("validate", ".").code == 0
    assert "1 file, 1 finding" in cli("validate", ".", "--pattern", "*.config.yaml").stderr
    Path("bad-runtime.yaml").write_bytes(INVALID)
    assert cli("validate", ".").code == 1
    assert cli("validate", ".", "--root", "etl/").code == 0


def test_a_glob_is_expanded_here_as_a_shell_would(cli: CommandLine, folder: Path) -> None:
    Path("etl/a/b").mkdir(parents=True)
    for name in ("etl/x-runtime.yaml", "etl/a/b/y-runtime.yaml", "etl/a/b/y.yaml"):
        Path(name).write_bytes(NOT_YAML)
    found = cli("validate", "etl/**/*runtime*.yaml", "--json").value
    assert found["files"] == 3
    assert [one["path"] for one in found["findings"]] == ["etl/a/b/y-runtime.yaml", "etl/x-runtime.yaml"]
    assert cli("validate", "e?l/a", "--json").value["files"] == 1
    assert cli("validate", "etl/**", "--json").value["files"] == 4


def test_a_file_whose_name_looks_like_a_glob_is_itself(cli: CommandLine, folder: Path) -> None:
    Path("[a]-runtime.yaml").write_bytes(NOT_YAML)
    Path("a-runtime.yaml").write_bytes(workflow())
    assert cli("validate", "[a]-runtime.yaml").stdout.startswith("[a]-runtime.yaml:1:11: error: ")


def test_what_git_keeps_for_itself_is_not_looked_at(cli: CommandLine, folder: Path) -> None:
    Path(".git").mkdir()
    Path(".git/x-runtime.yaml").write_bytes(NOT_YAML)
    assert cli("validate", ".").code == 0


def test_findings_of_the_schema_pass_where_the_registration_says_so(cli: CommandLine, folder: Path) -> None:
    Path("bad-runtime.yaml").write_bytes(INVALID)
    ended = cli("validate", ".", "--validation", "report", "--json")
    assert ended.code == 0
    assert ended.value["count"] == 1
    Path("bad-runtime.yaml").write_bytes(NOT_YAML)
    assert cli("validate", ".", "--validation", "report").code == 1


def test_another_schema_takes_the_place_of_the_shipped_one(cli: CommandLine, folder: Path) -> None:
    Path("bad-runtime.yaml").write_bytes(INVALID)
    Path("anything.json").write_text('{"type": "object"}', encoding="utf-8")
    assert cli("validate", ".", "--schema", "anything.json").code == 0
    assert cli("validate", ".", "--schema", "").code == 1
    ended = cli("validate", ".", "--schema", f"anything.json#sha256={'0' * 64}")
    assert (ended.code, ended.stdout) == (2, "")
    assert "anything.json has another digest than it must" in ended.stderr


def test_stdin_is_a_file_with_a_name(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, place in (((), "<stdin>:1:11: error"), (("--stdin-name", "etl/x.yaml"), "etl/x.yaml:1:11: error")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(NOT_YAML)))
        ended = cli("validate", "-", *words)
        assert ended.code == 1
        assert ended.stdout.startswith(place)


# -- A gate that judges nothing is not green -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("etk", "etk cannot be read: No such file or directory."),
        ("etl/good-runtime.yml", "etl/good-runtime.yml cannot be read"),
        ("empty", "No file in empty matches **/*runtime*.yaml."),
        ("etk/**/*runtime*.yaml", "No file matches etk/**/*runtime*.yaml."),
        ("e*y", "No file matches e*y."),
        ("broken.yaml", "broken.yaml cannot be read: No such file or directory."),
        ("loop.yaml", "loop.yaml cannot be read: Too many levels of symbolic links."),
    ],
)
def test_a_path_that_leads_nowhere_is_a_misuse(cli: CommandLine, folder: Path, path: str, said: str) -> None:
    Path("empty").mkdir()
    Path("broken.yaml").symlink_to("nothing")
    Path("loop.yaml").symlink_to("loop.yaml")
    for words in ((path,), ("etl", path)):
        ended = cli("validate", *words)
        assert (ended.code, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"runtime-store: {said}")
    assert cli("validate").code == 2


def test_a_name_that_almost_matches_is_said(cli: CommandLine, folder: Path) -> None:
    Path("other").mkdir()
    Path("other/Orders_Runtime.yml").write_bytes(workflow())
    ended = cli("validate", "other")
    assert ended.code == 2
    assert "other/Orders_Runtime.yml almost matches" in ended.stderr


def test_a_repository_may_have_no_config_where_that_is_said(cli: CommandLine, folder: Path) -> None:
    Path("empty").mkdir()
    for path in ("empty", "empty/*.yaml"):
        ended = cli("validate", path, "--allow-none")
        assert (ended.code, ended.stderr) == (0, "There was no file to judge.\n")
    assert cli("validate", "nothing", "--allow-none").code == 2


def test_a_file_that_must_not_be_read_is_a_finding_and_no_misuse(cli: CommandLine, folder: Path) -> None:
    Path("only").mkdir()
    with open("only/big-runtime.yaml", "wb") as sparse:
        sparse.truncate(50 * 1024 * 1024)
    for path in ("only", "only/big-runtime.yaml"):
        ended = cli("validate", path, "--json")
        assert ended.code == 1
        assert [one["rule"] for one in ended.value["findings"]] == ["file-too-large"]
        assert ended.value["files"] == 0


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """As somebody who may not look into it, also where the tests are run by root."""
    folder.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are other ones there")
def test_a_folder_or_a_file_without_rights_is_said_and_never_passed_over(cli: CommandLine) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "open").mkdir()
        (place / "open" / "a-runtime.yaml").write_bytes(workflow())
        (place / "closed").mkdir()
        assert cli("validate", str(place)).code == 0  # what it imports is there from now on
        for closed in (place / "closed", place / "open" / "a-runtime.yaml"):
            with without_rights(closed):
                ended = cli("validate", str(place))
            assert ended.code == 2
            assert f"{closed} cannot be read: Permission denied." in ended.stderr


def test_names_that_no_line_can_hold_are_escaped(cli: CommandLine, folder: Path) -> None:
    odd = os.fsdecode(b"odd \n\xff folder")
    os.mkdir(odd)
    Path(odd, "a b-runtime.yaml").write_bytes(NOT_YAML)
    for form in ("text", "azure-pipelines"):
        ended = cli("validate", odd, "--format", form)
        assert ended.code == 1
        assert "odd \\n\\udcff folder/a b-runtime.yaml" in ended.stdout
    assert cli("validate", odd, "--json").value["findings"][0]["path"] == "odd \\n\\udcff folder/a b-runtime.yaml"


# -- What is not judged, and what only once --------------------------------------------------------------------------


@pytest.fixture
def clone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder as a working tree, which ignores `build/`, and logs."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    git("init", "--quiet", folder)
    Path(".gitignore").write_text("build/\n*.log.yaml\n", encoding="utf-8")
    return folder


def paths(ended: Ended) -> list[str]:
    return [one["path"] for one in ended.value["findings"]]


def test_of_a_folder_what_git_ignores_is_left_out(
    cli: CommandLine, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("build/deep").mkdir(parents=True)
    for name in ("build/a_runtime.yaml", "build/deep/b_runtime.yaml", "etl/runtime.log.yaml", "etl/new_runtime.yaml"):
        Path(name).write_bytes(NOT_YAML)
    assert paths(cli("validate", ".", "--json")) == ["etl/new_runtime.yaml"]
    assert paths(cli("validate", str(clone / "etl"), "--json")) == [f"{clone.as_posix()}/etl/new_runtime.yaml"]
    monkeypatch.chdir("etl")
    assert paths(cli("validate", "..", "--json")) == ["../etl/new_runtime.yaml"]


def test_what_is_ignored_and_tracked_is_judged(cli: CommandLine, clone: Path) -> None:
    Path("build").mkdir()
    for name in ("build/a_runtime.yaml", "build/b_runtime.yaml"):
        Path(name).write_bytes(NOT_YAML)
    git("-C", clone, "add", "--force", "build/a_runtime.yaml")
    assert paths(cli("validate", ".", "--json")) == ["build/a_runtime.yaml"]


def test_what_is_ignored_is_judged_when_it_is_named(cli: CommandLine, clone: Path) -> None:
    Path("build/deep").mkdir(parents=True)
    Path("build/deep/a_runtime.yaml").write_bytes(NOT_YAML)
    for path in ("build", "build/deep", "build/deep/a_runtime.yaml"):
        assert paths(cli("validate", path, "--json")) == ["build/deep/a_runtime.yaml"]


def test_another_repository_below_is_not_this_one(cli: CommandLine, clone: Path) -> None:
    for name in ("submodule", "nested"):
        git("init", "--quiet", clone / name)
        Path(name, "a_runtime.yaml").write_bytes(NOT_YAML)
    Path("submodule/.git").rename("elsewhere")
    Path("submodule/.git").write_text("gitdir: ../elsewhere\n", encoding="utf-8")
    assert paths(cli("validate", ".", "--json")) == []
    assert paths(cli("validate", "submodule", "--json")) == ["submodule/a_runtime.yaml"]


def test_where_git_does_not_answer_everything_is_judged(cli: CommandLine, clone: Path) -> None:
    Path(".git/config").write_text("[broken", encoding="utf-8")
    Path("build").mkdir()
    Path("build/a_runtime.yaml").write_bytes(NOT_YAML)
    ended = cli("validate", ".", "--json")
    assert paths(ended) == ["build/a_runtime.yaml"]
    assert f"What Git ignores in {clone} is judged as well: fatal: bad config" in ended.stderr


def test_a_glob_does_not_follow_links_round_and_round(cli: CommandLine, folder: Path) -> None:
    Path("etl/bad_runtime.yaml").write_bytes(NOT_YAML)
    Path("etl/again").symlink_to(".")
    Path("etl/up").symlink_to("..")
    for path in ("**/*_runtime.yaml", "etl/**/*_runtime.yaml", "**/**/*_runtime.yaml", "*/**/bad*"):
        assert paths(cli("validate", path, "--json")) == ["etl/bad_runtime.yaml"]


def test_a_glob_finds_what_the_one_of_python_finds(folder: Path) -> None:
    Path("etl/a/b").mkdir(parents=True)
    Path(".hidden/c").mkdir(parents=True)
    for name in ("etl/a/b/x.yaml", "etl/a/.y.yaml", ".hidden/c/x.yaml", "[z].yaml", "etl/a/b/[z].yaml"):
        Path(name).write_bytes(b"")
    for pattern in (
        "**/*.yaml", "**/x.yaml", "etl/**/b/*", "*/**/*.yaml", "**/a/**/x.yaml", "**/[[]z].yaml",
        str(folder / "**" / "*.yaml"), "nothing/**/x", ".hidden/**/*.yaml", "./**/*.yaml",
    ):  # fmt: skip
        assert sorted(set(_expanded(pattern))) == sorted(set(glob.glob(pattern, recursive=True))), pattern


def test_a_file_that_is_named_by_several_ways_is_judged_once(cli: CommandLine, folder: Path) -> None:
    Path("etl/bad_runtime.yaml").write_bytes(NOT_YAML)
    Path("etl/near_Runtime.yml").write_bytes(b"")
    Path("link").symlink_to("etl")
    ways = (
        "etl/bad_runtime.yaml",
        "./etl/../etl/bad_runtime.yaml",
        str(folder / "etl/bad_runtime.yaml"),
        "etl",
        "link",
    )
    assert paths(cli("validate", *ways, "--json")) == ["etl/bad_runtime.yaml", "etl/near_Runtime.yml"]
