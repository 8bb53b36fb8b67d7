"""The gate says what the app says: every file goes both ways, and what is found is compared one to one."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.cli import CommandLine, log_restored
from support.git import File, symlink
from support.world import Team, World, workflow

from shared.model import Rejected
from shared.web.representations import of_outcome

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
VALID = {f"{path.stem}_runtime.yaml": path.read_bytes() for path in sorted((EXAMPLES / "valid").iterdir())}
INVALID = {f"{path.stem}_runtime.yaml": path.read_bytes() for path in sorted((EXAMPLES / "invalid").iterdir())}
MIB = 1024 * 1024
HOSTILE: Mapping[str, bytes] = {
    "empty_runtime.yaml": b"",
    "too_large_runtime.yaml": b"a: " + b"x" * 2 * MIB,
    "deep_runtime.yaml": b"k:\n " + b"[" * 10_000,
    "laughs_runtime.yaml": b"\n".join(
        [b"l0: &l0 a", *(b"l%d: &l%d [%s]" % (n, n, b"*l%d, " % (n - 1) * 9) for n in range(1, 12))]
    ),
    "not_utf_8_runtime.yaml": b"a: \xff\xfe",
    "utf_16_runtime.yaml": "a: 1".encode("utf-16"),
    "surrogate_runtime.yaml": b'a: "\\ud800"',
    "nul_runtime.yaml": b'a: "\\0"\nb: \x00',
    "not_finite_runtime.yaml": b"workflow: {id: .nan}",
    "same_mistake_runtime.yaml": b"a: 1\n" * 50_000,
    "directives_runtime.yaml": b"%TAG !a! b\n" * 1000 + b"---\na: 1\n",
    "lfs_runtime.yaml": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "carriage_returns_runtime.yaml": b"a: 1\r\nb: yes\rc: no\r\n",
    "long_key_runtime.yaml": b"workflow: {" + b"k" * 5000 + b": 1}",
}
NAMES: Mapping[str, bytes | File] = {
    "near_runtime.yml": workflow(),
    "Near_Runtime.yaml": workflow(),
    "deep/er/good_runtime.yaml": workflow(),
    ".hidden/good_runtime.yaml": workflow(),
    "with space/a b_runtime.yaml": b"a: yes",
    "line\nend_runtime.yaml": workflow(),
    os.fsdecode(b"latin-\xe9_runtime.yaml"): workflow(),
    "link_runtime.yaml": symlink("near_runtime.yml"),
    "folder_runtime.yaml": symlink("deep"),
    f"{'long' * 60}/{'long' * 60}/{'long' * 60}/{'long' * 60}/{'long' * 60}_runtime.yaml": workflow(),
}


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with log_restored():
        yield CommandLine(capsys)


def write(folder: Path, files: Mapping[str, bytes | File]) -> None:
    for path, what in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, File):
            (folder / path).symlink_to(what.content.decode())
        else:
            (folder / path).write_bytes(what)


def pushed(team: Team, files: Mapping[str, bytes | File]) -> Mapping[str, object]:
    """What the app reports about a commit of these files."""
    team.git.commit(dict(files), onto="")
    outcome = team.sync()
    report: Mapping[str, object] = of_outcome(outcome)["report"]
    assert isinstance(outcome, Rejected) is report["rejects"]
    return report


@pytest.mark.parametrize(
    ("files", "fewest"),
    [
        pytest.param(VALID, 0, id="valid"),
        pytest.param(INVALID, len(INVALID), id="invalid"),
        pytest.param(HOSTILE, len(HOSTILE), id="hostile"),
        pytest.param({**NAMES, "windows_runtime.yaml": VALID["windows_runtime.yaml"]}, 7, id="names"),
    ],
)
@pytest.mark.parametrize("validation", ["enforce", "report"])
def test_the_gate_finds_what_the_app_finds(
    cli: CommandLine,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: Mapping[str, bytes | File],
    fewest: int,
    validation: str,
) -> None:
    report = pushed(world.repository(validation=validation), files)
    folder = tmp_path / "working tree"
    write(folder, files)
    monkeypatch.chdir(folder)
    ended = cli("validate", ".", "--validation", validation, "--format", "json")
    told = ended.value
    assert {name: told[name] for name in report} == report
    assert told["count"] >= fewest
    assert ended.code == (1 if report["rejects"] else 0)


def test_the_root_and_the_pattern_are_those_of_a_registration(
    cli: CommandLine, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"configs/a.job.yaml": b"a: yes", "configs/a_runtime.yaml": b"b: yes", "other/b.job.yaml": b"c: yes"}
    report = pushed(world.repository(root="configs", pattern="*.job.yaml"), files)
    write(tmp_path / "tree", files)
    monkeypatch.chdir(tmp_path / "tree")
    told = cli("validate", ".", "--root", "configs", "--pattern", "*.job.yaml", "--json").value
    assert [one["path"] for one in told["findings"]] == ["configs/a.job.yaml"]
    assert {name: told[name] for name in report} == report
