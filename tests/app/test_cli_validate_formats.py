"""How findings are told: to people, to programs, and to Azure Pipelines."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.cli import CommandLine, log_restored
from support.world import NOT_YAML, workflow

from shared.cli.findings import place_in

ROOT = Path(__file__).resolve().parents[2]
TYPO = b"""\
workflow:
  id: orders
  description: "\xe6\x97\xa5\xe6\x9c\xac"
  enabled: true
  jobs:
    - id: a
      enabled: true
      description: b
      engine_type: sparc
"""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with log_restored():
        yield CommandLine(capsys)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, data: bytes) -> str:
    Path(name).write_bytes(data)
    return name


def headlines(stdout: str) -> list[str]:
    return [line for line in stdout.splitlines() if not re.match(r" *\d* *\|", line)]


def test_a_finding_is_a_place_that_editors_understand_and_the_line_with_a_caret(cli: CommandLine) -> None:
    ended = cli("validate", write("a.yaml", b"workflow:\n  id: a\n  description: b\n  enabled: perhaps\n  jobs: []\n"))
    assert ended.code == 1
    place, line, caret = ended.stdout.splitlines()
    assert place == 'a.yaml:4:12: error: enabled must be true or false, but is the text "perhaps". [schema-type]'
    assert line == "     4 |   enabled: perhaps"
    assert caret == "       |            ^ workflow.enabled"
    assert ended.stderr == "1 file, 1 finding: a push of this would be rejected.\n"


def test_a_typo_is_told_what_was_meant(cli: CommandLine) -> None:
    ended = cli("validate", write("a.yaml", TYPO))
    typo = next(line for line in headlines(ended.stdout) if ":9:" in line)
    assert "Did you mean spark?" in typo


@pytest.mark.parametrize(
    ("text", "shown", "caret"),
    [
        ("日本: yes".encode(), "日本: yes", 6),
        (b"\ta: 1", " a: 1", 0),
        (b"\xef\xbb\xbfa: yes", "a: yes", 3),
        (b"a: x\x07", "a: x\\x07", 4),
        (b"\x07", "\\x07", 0),
        (b"a: \xff", "a: \ufffd", 3),
    ],
)
def test_the_caret_stands_below_the_column(cli: CommandLine, text: bytes, shown: str, caret: int) -> None:
    ended = cli("validate", write("a.yaml", text))
    _, line, below = ended.stdout.splitlines()
    assert line.partition("| ")[2] == shown
    assert below.partition("| ")[2].index("^") == caret


def test_of_a_long_line_the_place_is_shown(cli: CommandLine) -> None:
    ended = cli("validate", write("a.yaml", b"a: [" + b"x, " * 5_000 + b"yes, " + b"x, " * 5_000 + b"]"))
    _, line, caret = ended.stdout.splitlines()
    assert len(line) < 130
    assert line.count("...") == 2
    assert line[caret.index("^") :].startswith("yes,")


def test_every_line_end_of_yaml_counts(cli: CommandLine) -> None:
    ended = cli("validate", write("a.yaml", b"a: 1\r\nb: 2\rc: yes\n"))
    assert "     3 | c: yes" in ended.stdout


def test_what_a_terminal_or_an_agent_would_obey_is_shown_instead(cli: CommandLine) -> None:
    name = write("##vso[task.setvariable variable=PATH]x.yaml", b"a: yes ##vso[task.complete] \x1b[31m\n")
    data = b"a: yes # ##vso[task.prependpath]/tmp ##[error]no\n"
    for path in (name, write("b.yaml", data)):
        for form in ("text", "azure-pipelines"):
            ended = cli("validate", path, "--format", form)
            assert ended.code == 1
            lines = (ended.stdout + ended.stderr).splitlines()
            assert [line for line in lines if "##" in line and not line.startswith("##vso[task.")] == []
            assert [line for line in lines if line.count("##") > 1 or "\x1b" in line] == []


def test_a_program_of_azure_pipelines_reads_every_finding(cli: CommandLine) -> None:
    """As the agent reads it: Command.cs of microsoft/azure-pipelines-agent, with its escapes."""
    Path("50% [a]; b").mkdir()
    write("50% [a]; b/x_runtime.yaml", b"a: yes\n")
    write("y_runtime.yml", workflow())
    ended = cli("validate", ".", "--format", "azure-pipelines")
    assert ended.code == 1
    commands = [read_as_agent(line) for line in ended.stdout.splitlines()]
    near, yes, done = commands
    assert near[:2] == ("task.logissue", {"type": "warning", "sourcepath": "y_runtime.yml", "code": "near-miss"})
    place = {"sourcepath": "50% [a]; b/x_runtime.yaml", "linenumber": "1", "columnnumber": "4"}
    assert yes[:2] == ("task.logissue", {"type": "error", **place, "code": "ambiguous-scalar"})
    assert yes[2].startswith("yes is true to YAML 1.1")
    assert yes[2].endswith("(at a)")
    assert done == ("task.complete", {"result": "Failed"}, "1 file, 2 findings: a push of this would be rejected.")


def read_as_agent(line: str) -> tuple[str, Mapping[str, str], str]:
    head, _, data = line[line.index("##vso[") + 6 :].partition("]")
    name, _, listed = head.partition(" ")
    pairs = [pair.split("=", 1) for pair in listed.split(";") if pair]
    return name, {key: unescaped(value) for key, value in pairs}, unescaped(data)


def unescaped(text: str) -> str:
    for code, sign in (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%AZP25", "%")):
        text = text.replace(code, sign)
    return text


def test_the_step_ends_as_the_findings_say(cli: CommandLine) -> None:
    write("a_runtime.yaml", workflow())
    assert "##vso[task.complete result=Succeeded;]1 file, 0 " in cli("validate", ".", "--format=azure-pipelines").stdout
    write("b_runtime.yml", workflow())
    ended = cli("validate", ".", "--format=azure-pipelines")
    assert (ended.code, "result=SucceededWithIssues;]" in ended.stdout) == (0, True)


def test_json_has_the_words_of_the_api(cli: CommandLine) -> None:
    path = write("a.yaml", NOT_YAML)
    for words in (("--json",), ("--format", "json")):
        value = cli("validate", path, *words).value
        assert value.keys() == {"files", "rejects", "count", "findings", "omitted"}
        assert (value["files"], value["rejects"], value["count"], value["omitted"]) == (1, True, 1, 0)
        assert value["findings"][0].keys() == {"path", "line", "column", "pointer", "rule", "severity", "message"}


def test_a_pointer_is_written_as_people_write_a_path() -> None:
    assert place_in("") == ""
    assert place_in("/workflow/jobs/0/a~1b/~0") == "workflow.jobs[0].a/b.~"


# -- A terminal ------------------------------------------------------------------------------------------------------


def on_a_terminal(*words: str, **variables: str) -> tuple[str, str]:
    """What a terminal gets on stdout, and another one on stderr."""
    import pty  # which Windows does not have

    (out, out_end), (err, err_end) = pty.openpty(), pty.openpty()
    command = [sys.executable, "-m", "shared", "validate", *words]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TERM": "xterm", **variables}
    process = subprocess.Popen(command, stdout=out_end, stderr=err_end, stdin=subprocess.DEVNULL, env=environment)
    os.close(out_end)
    os.close(err_end)
    said = read_all(out), read_all(err)
    process.wait(60)
    return said


def read_all(terminal: int) -> str:
    said = b""
    try:
        while data := os.read(terminal, 4096):
            said += data
    except OSError:  # how Linux says that nobody writes to it any more
        pass
    os.close(terminal)
    return said.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="terminals are other ones there")
def test_a_terminal_gets_colours_and_progress_and_no_color_is_respected() -> None:
    path = write("a.yaml", b"a: yes\n")
    stdout, stderr = on_a_terminal(path)
    assert "\x1b[31m\x1b[1merror:" in stdout
    assert "\r\x1b[KJudging 1 of 1: a.yaml\r\x1b[K" in stderr
    stdout, _ = on_a_terminal(path, NO_COLOR="1")
    assert "\x1b" not in stdout
    assert "error: yes is true" in stdout


@pytest.mark.skipif(sys.platform == "win32", reason="there is no named pipe to wait for")
def test_findings_come_as_they_are_found() -> None:
    write("a.yaml", NOT_YAML)
    os.mkfifo("b.yaml")
    command = [sys.executable, "-u", "-m", "shared", "validate", "a.yaml", "b.yaml"]
    environment = {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        # It says this while it waits for somebody to write into the second file.
        assert process.stdout.readline().startswith(b"a.yaml:1:11: error: ")
        Path("b.yaml").write_bytes(NOT_YAML)
        assert b"b.yaml:1:11: error: " in process.stdout.read()
    assert process.returncode == 1


def test_a_key_with_a_line_break_cannot_forge_a_line(cli: CommandLine) -> None:
    text = b'"workflow\\nx.yaml:1:1: error: forged": 1\n"runtime\\ny.yaml:1:1: error: forged": {a: *b}\n'
    for form in ("text", "azure-pipelines"):
        lines = cli("validate", write("a.yaml", text), "--format", form).stdout.splitlines()
        assert not [line for line in lines if line.startswith(("x.yaml", "y.yaml"))]
        assert any("runtime\\ny.yaml" in line for line in lines) or form == "azure-pipelines"


def test_a_file_without_anything_has_a_place(cli: CommandLine) -> None:
    assert cli("validate", write("a.yaml", b"")).stdout.startswith("a.yaml:1:1: error: The file is empty")
    with open("b.yaml", "wb") as sparse:
        sparse.truncate(2 * 1024 * 1024)
    assert cli("validate", "b.yaml").stdout.startswith("b.yaml:1:1: error: The file has 2,097,152 bytes")


def test_the_caret_stands_below_the_column_behind_combining_letters(cli: CommandLine) -> None:
    stdout = cli("validate", write("a.yaml", "a: {e\u0301\u20dd: [}".encode())).stdout
    _, line, caret = stdout.splitlines()
    assert caret.index("^") == len(line.replace("\u0301", "").replace("\u20dd", "").rpartition("}")[0])
