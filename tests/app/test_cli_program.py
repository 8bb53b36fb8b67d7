"""The command line as a whole: its help, its exit codes, and how errors are told."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.cli import CommandLine, log_restored

from shared.cli import exit_codes
from shared.cli.printable import printable
from shared.cli.program import program
from shared.errors import Kind, SettingsInvalid, SourceFailed
from shared.model import ABSENT, DeferReason, Deferred, Failed, Generation, Rejected, Report, Unchanged

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS = sorted(program.commands)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("KEY_VAULT_URL", raising=False)
    with log_restored():
        yield CommandLine(capsys)


def test_the_documented_exit_codes_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \|(?: (.+?))? \|$", DOCS, re.MULTILINE)
    assert rows == [(str(end.code), end.meaning, ", ".join(end.kinds)) for end in exit_codes.ENDINGS]


def test_every_kind_of_error_has_one_exit_code() -> None:
    kinds = [kind for ending in exit_codes.ENDINGS for kind in ending.kinds]
    assert sorted(kinds) == sorted(Kind)
    codes = [ending.code for ending in exit_codes.ENDINGS]
    assert len(set(codes)) == len(codes)


def test_the_worst_of_several_outcomes_decides() -> None:
    done = Unchanged(ABSENT, Generation(1))
    deferred = Deferred(DeferReason.BUSY, "busy")
    rejected = Rejected(ABSENT, Report())
    failed, invalid = Failed(SourceFailed("broken")), Failed(SettingsInvalid(["x"]))
    assert exit_codes.of_outcomes([]) == 0
    assert exit_codes.of_outcomes([done, done]) == 0
    assert exit_codes.of_outcomes([done, deferred]) == 10
    assert exit_codes.of_outcomes([rejected, deferred]) == 1
    assert exit_codes.of_outcomes([failed, rejected]) == 5
    assert exit_codes.of_outcomes([invalid]) == 9


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented_and_has_an_example(name: str) -> None:
    command = program.commands[name]
    assert re.search(rf"^\| `{name}\b", DOCS, re.MULTILINE)
    options = [option for one in command.params if isinstance(one, click.Option) for option in one.opts]
    assert [option for option in options if f"`{option}" not in DOCS] == []
    assert f"runtime-store {name}" in (command.epilog or "").replace("| runtime-store", "runtime-store")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    options = [one for one in program.commands[name].params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []


def test_help_loads_nothing_that_takes_time() -> None:
    script = (
        "import json, sys; from shared.cli import main; code = main(['--help']); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert loaded.isdisjoint(
        {"psycopg", "rich", "waitress", "werkzeug", "azure", "yaml", "jsonschema", "jsonschema_rs"}
    )


def test_help_is_no_error_and_a_missing_command_is_one(cli: CommandLine) -> None:
    assert cli("--help").code == 0
    assert "Commands:" in cli("-h").stdout
    ended = cli("nope")
    assert ended.code == 2
    assert "No such command 'nope'" in ended.stderr
    assert cli("sync").code == 2
    assert cli("status", "--nope").code == 2


def test_missing_settings_are_named_in_one_go_without_a_traceback(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    ended = cli("status")
    assert ended.code == 9
    assert "DATABASE_URL is not set" in ended.stderr
    assert "LOG_LEVEL must be" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_traceback_is_shown_to_who_asks_for_it(cli: CommandLine) -> None:
    for words in (["--debug", "status"], ["status", "--debug"]):
        ended = cli(*words)
        assert ended.code == 9
        assert "Traceback" in ended.stderr


def test_a_password_is_never_shown(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:very-secret@127.0.0.1:1/nothing")
    for words in (["migrate"], ["migrate", "--debug"]):
        ended = cli(*words)
        assert ended.code == 8
        assert "The migration did not happen" in ended.stderr
        assert "very-secret" not in ended.stdout + ended.stderr


def test_a_defect_is_one_line_and_says_how_to_see_more(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setitem(program.commands, "broken", click.Command("broken", callback=break_down))
    ended = cli("broken")
    assert ended.code == 70
    assert ended.stderr.splitlines() == [
        "runtime-store: ZeroDivisionError: nobody thought of it",
        "  This is a defect; --debug shows where.",
    ]
    assert "break_down" in cli("--debug", "broken").stderr


def test_an_interrupt_is_no_defect(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(program.commands, "interrupted", click.Command("interrupted", callback=interrupt))
    ended = cli("interrupted")
    assert ended.code == 130
    assert ended.stderr == "Interrupted.\n"


def test_a_reader_that_goes_away_is_no_defect(tmp_path: Path) -> None:
    (tmp_path / "a-runtime.yaml").write_text("workflow: [", encoding="utf-8")
    command = [sys.executable, "-m", "shared", "validate", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={})
    assert process.stdout is not None
    process.stdout.close()
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 141
    assert b"Traceback" not in complaints
    assert b"Exception ignored" not in complaints


def test_a_code_page_without_a_letter_shows_it_escaped(tmp_path: Path) -> None:
    (tmp_path / "zażółć-runtime.yaml").write_text("workflow: [", encoding="utf-8")
    command = [sys.executable, "-m", "shared", "validate", str(tmp_path)]
    environment = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"za\\u017c\xf3\\u0142\\u0107-runtime.yaml:2:1: " in done.stdout


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    assert printable("a\x1b[31mb\x07\udcff\u202ec\nd") == "a\\x1b[31mb\\x07\\udcff\\u202ec\nd"


@pytest.mark.parametrize(("path", "code"), [("a.yaml", 1), ("nothing.yaml", 2)])
def test_a_reader_of_stderr_that_goes_away_changes_nothing(broken_file: Path, path: str, code: int) -> None:
    command = [sys.executable, "-m", "shared", "validate", str(broken_file.parent / path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={})
    assert process.stderr is not None
    process.stderr.close()
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, b"error: " in told) == (code, code == 1)


@pytest.fixture
def broken_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text("workflow: [", encoding="utf-8")
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes streams there in another way")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ('validate "$FILE" >&-', 1, "rejected"),
        ('validate "$FILE" 2>&-', 1, "error: "),
        ('validate "$FILE" <&- >&- 2>&-', 1, ""),
        ('validate "$FILE" 2>/dev/full', 1, "error: "),
        ('validate "$FILE" >/dev/full', 2, "The output cannot be written: No space left on device."),
        ('validate "$FILE" --json >/dev/full', 2, "The output cannot be written: No space left on device."),
        ('validate "$FILE" >/dev/full 2>&1', 2, ""),
        ("validate - <&-", 2, "<stdin> cannot be read: it is closed."),
        ("validate --nothing 2>/dev/full", 2, ""),
        ("validate --nothing 2>&-", 2, ""),
    ],
)
def test_streams_that_cannot_be_used_are_no_defect_and_no_verdict(
    broken_file: Path, words: str, code: int, said: str
) -> None:
    command = f'"$PYTHON" -m shared {words}'
    variables = {"PYTHON": sys.executable, "FILE": str(broken_file)}
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, env=variables, capture_output=True, check=False)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == code, told
    assert said in told
    assert "defect" not in told
    assert "Traceback" not in told


def test_an_interrupt_while_the_commands_are_loaded_is_no_traceback() -> None:
    interrupted = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "shared.cli.syncs":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from shared.cli import main
sys.exit(main(["--help"]))
"""
    done = subprocess.run([sys.executable, "-c", interrupted], cwd=ROOT, env={}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (exit_codes.INTERRUPTED.code, b"", b"Interrupted.\n")
