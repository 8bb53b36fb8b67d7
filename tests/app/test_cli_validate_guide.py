"""docs/gate.md, the page for teams: what it shows is what happens, and what it names is there."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.cli import CommandLine, log_restored

from shared.cli import exit_codes
from shared.cli.program import program

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```(\w+)\n(.*?)^ *```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with log_restored():
        yield CommandLine(capsys)


def test_the_mistake_looks_as_it_is_shown(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = (text for kind, text in BLOCKS if kind == "console")
    command, *told = shown.splitlines()
    shutil.copytree(ROOT / "examples" / "team", tmp_path / "team")
    monkeypatch.chdir(tmp_path / "team")
    path = Path("sales/customers/customers_runtime.yaml")
    path.write_text(path.read_text("utf-8").replace("engine_type: spark", "engine_type: sparc", 1), "utf-8")
    ended = cli(*shlex.split(command.removeprefix("$ runtime-store ")))
    assert ended.code == 1
    assert (ended.stdout + ended.stderr).splitlines() == told


def test_every_command_that_it_shows_can_be_called() -> None:
    lines = [line for kind, text in BLOCKS if kind in ("sh", "console") for line in text.splitlines()]
    called = [shlex.split(re.sub(r"^\$ |\$\(.*?\)", "", line), comments=True) for line in lines]
    ours = [words[1:] for words in called if words[0] == "runtime-store"]
    assert {words[0] for words in ours} == {"validate", "wait"}
    for name, *words in ours:
        words += ["a" * 40] if words[-1] == "--commit" else []
        program.commands[name].make_context(name, [*words, *(["--url", "https://x"] if name == "wait" else [])])


def test_the_exit_codes_that_it_explains_are_there() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", GUIDE, re.MULTILINE)}
    endings = (exit_codes.FINDINGS, exit_codes.MISUSE, exit_codes.REFUSED, exit_codes.TIME_OVER)
    assert explained == {ending.code for ending in endings}


def test_what_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", GUIDE)
    assert len(links) >= 5
    assert [link for link in links if not link.startswith("https://") and not (ROOT / "docs" / link).exists()] == []


def test_the_hook_that_it_names_is_there() -> None:
    (config,) = (yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml")
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [one["id"] for one in config["repos"][0]["hooks"]] == [one["id"] for one in hooks]


def test_the_variables_that_it_names_are_those_of_the_template() -> None:
    text = (ROOT / "infra" / "pipelines" / "wait.steps.yml").read_text(encoding="utf-8")
    for name in ("runtimeStoreUrl", "runtimeStoreKey"):
        assert f"`{name}`" in GUIDE
        assert f"default: $({name})" in text


def test_every_template_and_its_parameters_are_documented() -> None:
    rows = dict(re.findall(r"^\| `(\S+?\.yml)` \| .*? \| (.*?) ?\|$", REFERENCE, re.MULTILINE))
    for path in (ROOT / "infra" / "pipelines").glob("*.yml"):
        if path.name != "install.steps.yml":  # which the other templates include
            parameters = yaml.safe_load(path.read_text(encoding="utf-8")).get("parameters", ())
            assert sorted(re.findall(r"`(\w+)`", rows[path.name])) == sorted(one["name"] for one in parameters)
