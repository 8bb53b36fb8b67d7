"""`runtime-store validate`: says what a push would be told."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import CommandLine, log_restored
from support.world import INVALID, NOT_YAML, World, workflow

from shared.model import Rejected

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with log_restored():
        yield CommandLine(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "etl").mkdir()
    (tmp_path / "etl" / "good-runtime.yaml").write_bytes(workflow())
    return tmp_path


def test_a_valid_folder_is_served(cli: CommandLine) -> None:
    ended = cli("validate", str(EXAMPLES / "team"))
    assert ended.code == 0
    assert ended.stderr == "7 files, 0 findings: a push of this would be served.\n"


def test_a_finding_is_a_place_that_editors_understand(cli: CommandLine, folder: Path) -> None:
    bad = folder / "etl" / "bad-runtime.yaml"
    bad.write_bytes(b"workflow:\n  id: a\n  description: b\n  enabled: perhaps\n  jobs: []\n")
    ended = cli("validate", str(folder))
    assert ended.code == 1
    assert ended.stdout.startswith(f"{bad}:4:12: error: ")
    assert len(ended.stdout.splitlines()) == 1
    assert "2 files, 1 finding: a push of this would be rejected." in ended.stderr


def test_it_says_what_the_app_says(
    cli: CommandLine, folder: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"bad-runtime.yaml": NOT_YAML, "etl/worse_runtime.yaml": INVALID, "near_runtime.yml": workflow()}
    team = world.repository()
    head = team.git.commit({"etl/good-runtime.yaml": workflow(), **files})
    outcome = team.sync()
    for path, data in files.items():
        (folder / path).write_bytes(data)
    monkeypatch.chdir(folder)
    ended = cli("validate", ".", "--json")
    assert isinstance(outcome, Rejected)
    assert outcome.commit_id == head
    told = [(one.path, one.line, one.column, one.rule, one.message) for one in outcome.report.findings]
    assert len(told) == 3
    places = ("path", "line", "column", "rule", "message")
    assert [tuple(one[place] for place in places) for one in ended.value["findings"]] == told


def test_a_file_is_judged_whatever_it_is_called(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(INVALID)
    assert cli("validate", str(tmp_path)).code == 0
    assert cli("validate", str(tmp_path / "notes.txt")).code == 1


def test_the_pattern_says_which_files_of_a_folder(cli: CommandLine, folder: Path) -> None:
    (folder / "job.config.yaml").write_bytes(INVALID)
    assert cli("validate", str(folder)).code == 0
    ended = cli("validate", str(folder), "--pattern", "*.config.yaml")
    assert ended.code == 1
    assert "1 file, 1 finding" in ended.stderr


def test_what_git_keeps_for_itself_is_not_looked_at(cli: CommandLine, folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "x-runtime.yaml").write_bytes(NOT_YAML)
    assert cli("validate", str(folder)).code == 0


def test_findings_of_the_schema_pass_where_the_registration_says_so(cli: CommandLine, folder: Path) -> None:
    (folder / "bad-runtime.yaml").write_bytes(INVALID)
    ended = cli("validate", str(folder), "--validation", "report", "--json")
    assert ended.code == 0
    assert ended.value["count"] == 1
    (folder / "bad-runtime.yaml").write_bytes(NOT_YAML)
    assert cli("validate", str(folder), "--validation", "report").code == 1


def test_stdin_is_a_file(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(NOT_YAML)))
    ended = cli("validate", "-")
    assert ended.code == 1
    assert ended.stdout.startswith("<stdin>:")


def test_json_has_the_words_of_the_api(cli: CommandLine, folder: Path) -> None:
    (folder / "bad-runtime.yaml").write_bytes(NOT_YAML)
    value = cli("validate", str(folder), "--json").value
    assert value.keys() == {"files", "rejects", "count", "findings", "omitted"}
    assert (value["files"], value["rejects"], value["count"], value["omitted"]) == (2, True, 1, 0)
    assert value["findings"][0].keys() == {"path", "line", "column", "pointer", "rule", "severity", "message"}


def test_a_path_that_is_not_there_is_a_misuse(cli: CommandLine, tmp_path: Path) -> None:
    ended = cli("validate", str(tmp_path / "nothing"))
    assert ended.code == 2
    assert "cannot be read: No such file or directory." in ended.stderr
    assert cli("validate").code == 2
