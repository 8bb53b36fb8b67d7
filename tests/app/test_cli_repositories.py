"""`runtime-store register`, `unregister`, `repositories` and `status`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import CommandLine, log_restored
from support.git import GitRepository
from support.world import INVALID, World, workflow

from shared.model import RepoId

GUID = "278D5CD2-584D-4B63-824A-2BA458937249"


@pytest.fixture
def cli(database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("BRANCHES", "main,release/1.0")
    with log_restored():
        yield CommandLine(capsys)


def test_a_source_alone_is_enough(cli: CommandLine) -> None:
    ended = cli("register", "https://dev.azure.com/contoso/etl/_git/orders.git")
    assert ended.code == 0
    assert "Registered orders (id orders): main, release/1.0 of https://" in ended.stdout
    assert "runtime-store sync orders" in ended.stderr
    (one,) = cli("repositories", "--json").value
    assert (one["repo_id"], one["name"], one["branches"]) == ("orders", "orders", ["main", "release/1.0"])


def test_everything_can_be_said(cli: CommandLine) -> None:
    said = ["--name", "jobs", "--id", GUID, "--branch", "a", "--branch", "b/c", "--project", "P", "--root", "/etl/"]
    more = ["--pattern", "*.yaml", "--validation", "report", "--suspend", "not yet"]
    ended = cli("register", "https://git.example.com/x.git", *said, *more, "--json")
    value = ended.value
    assert value["repo_id"] == GUID.lower()
    assert (value["name"], value["branches"], value["project"], value["root"]) == ("jobs", ["a", "b/c"], "P", "etl")
    assert (value["pattern"], value["validation"], value["suspended"]) == ("*.yaml", "report", "not yet")


def test_a_path_is_told_from_anywhere(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = GitRepository(tmp_path / "team")
    monkeypatch.chdir(tmp_path)
    assert cli("register", "team", "--json").value["source"] == str(git.path)
    assert cli("register", os.curdir + "/team", "--json").value["revision"] == 1


def test_what_is_not_said_stays(cli: CommandLine) -> None:
    cli("register", "https://git.example.com/x.git", "--branch", "dev", "--root", "etl")
    ended = cli("register", "--name", "x", "--validation", "report", "--json")
    value = ended.value
    assert (value["branches"], value["root"], value["validation"]) == (["dev"], "etl", "report")
    assert value["revision"] == 2
    assert cli("register", "--name", "x", "--validation", "report").stdout.startswith("Unchanged: x")


def test_a_new_source_of_a_named_repository_is_a_change(cli: CommandLine) -> None:
    cli("register", "https://git.example.com/x.git")
    ended = cli("register", "https://git.example.com/moved/x.git", "--name", "x")
    assert ended.stdout.startswith("Changed x")


def test_another_repository_of_the_same_name_is_not_changed_by_accident(cli: CommandLine) -> None:
    cli("register", "https://git.example.com/one/orders.git")
    ended = cli("register", "https://git.example.com/two/orders.git")
    assert ended.code == 4
    assert "another --name" in ended.stderr
    (one,) = cli("repositories", "--json").value
    assert one["source"] == "https://git.example.com/one/orders.git"


def test_suspending_and_resuming(cli: CommandLine) -> None:
    cli("register", "https://git.example.com/x.git")
    assert "It is suspended: moves" in cli("register", "--name", "x", "--suspend", "moves").stdout
    assert "x (suspended)" in cli("repositories").stdout
    assert cli("register", "--name", "x", "--resume", "--json").value["suspended"] is None
    assert cli("register", "--name", "x", "--resume", "--suspend", "y").code == 2


def test_what_cannot_be_registered_is_refused_by_its_kind(cli: CommandLine) -> None:
    assert cli("register").code == 2
    assert cli("register", "--name", "nothing").code == 3
    bad = cli("register", "https://git.example.com/x.git", "--branch", "a..b")
    assert bad.code == 2
    assert "'a..b' is no branch name." in bad.stderr
    cli("register", "https://git.example.com/x.git")
    assert cli("register", "https://git.example.com/y.git", "--id", "y", "--name", "x").code == 4


def test_credentials_in_a_source_are_refused_and_not_repeated(cli: CommandLine) -> None:
    refused = cli("register", "https://someone:very-secret@git.example.com/x.git")
    assert refused.code == 2
    assert "credential helper" in refused.stderr
    assert "very-secret" not in refused.stdout + refused.stderr


def test_credentials_that_got_into_the_database_are_hidden(cli: CommandLine, world: World) -> None:
    world.repository("x")
    world.execute("UPDATE repositories SET source = 'https://someone:very-secret@git.example.com/x.git'")
    shown = [cli("repositories"), cli("repositories", "--json"), cli("status", "x", "--json")]
    assert [one.code for one in shown] == [0, 0, 0]
    assert not any("very-secret" in one.stdout + one.stderr for one in shown)


def test_unregistering_removes_what_was_served(cli: CommandLine, world: World) -> None:
    team = world.repository()
    team.git.commit({"a-runtime.yaml": workflow()})
    team.sync()
    assert cli("unregister", "team").code == 2
    ended = cli("unregister", "team", "--yes")
    assert ended.code == 0
    assert "1 config less served." in ended.stdout
    assert team.served() is None
    assert cli("unregister", "team", "--yes").code == 3


def test_status_says_of_each_branch_how_it_is(cli: CommandLine, world: World) -> None:
    team = world.repository(branches=("main", "dev"), repo_id=GUID)
    good = team.git.commit({"a-runtime.yaml": workflow()})
    team.sync()
    bad = team.git.commit({"a-runtime.yaml": INVALID})
    team.sync()
    lines = cli("status").stdout.splitlines()
    assert lines[0].split() == ["REPOSITORY", "BRANCH", "CONDITION", "SERVED", "CONFIGS", "SINCE", "MESSAGE"]
    (main,) = (line for line in lines if line.split()[1] == "main")
    assert main.split()[:5] == ["team", "main", "Invalid", good[:8], "1"]
    assert not any(line.endswith(" ") for line in lines)
    told = cli("status", GUID).stdout
    assert f"main at {bad[:8]}:\n  a-runtime.yaml:1:" in told


def test_json_is_what_the_api_says(cli: CommandLine, world: World) -> None:
    team = world.repository()
    team.git.commit({"a-runtime.yaml": INVALID})
    team.sync()
    one, (listed,) = cli("status", "team", "--json").value, cli("status", "--json").value
    assert one["repo_id"] == listed["repo_id"] == RepoId("id-team")
    assert one["status"][0]["report"]["findings"][0]["path"] == "a-runtime.yaml"
    assert "findings" not in listed["status"][0]["report"]


def test_nothing_is_registered_yet(cli: CommandLine) -> None:
    assert "register SOURCE" in cli("repositories").stderr
    assert cli("repositories", "--json").value == []
    assert cli("status").code == 0
    assert cli("status", "nothing").code == 3
