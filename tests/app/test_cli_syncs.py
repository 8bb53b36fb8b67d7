"""`runtime-store sync` and `reconcile`."""

from collections.abc import Iterator

import pytest
from support.cli import CommandLine, log_restored
from support.world import INVALID, Team, World, workflow

from shared.web.representations import of_outcome


@pytest.fixture
def cli(database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.setenv("DATABASE_URL", database)
    with log_restored():
        yield CommandLine(capsys)


def test_a_push_is_served_and_then_nothing_has_to_change(cli: CommandLine, team: Team) -> None:
    head = team.git.commit({"a-runtime.yaml": workflow(1), "b-runtime.yaml": workflow(2)})
    ended = cli("sync", "team")
    assert ended.code == 0
    assert ended.stdout == f"team main: {head[:8]} is served: 2 written, 0 removed.\n"
    assert team.numbers() == {"a-runtime.yaml": "workflow-1", "b-runtime.yaml": "workflow-2"}
    assert cli("sync", "team", "main").stdout == f"team main: {head[:8]} is served, and nothing had to change.\n"


def test_a_rejected_head_is_told_with_its_findings(cli: CommandLine, team: Team) -> None:
    good = team.git.commit({"a-runtime.yaml": workflow()})
    cli("sync", "team")
    bad = team.git.commit({"a-runtime.yaml": INVALID})
    ended = cli("sync", "team")
    assert ended.code == 1
    assert f"{bad[:8]} is rejected; what is served stays." in ended.stdout
    assert "\n  a-runtime.yaml:1:" in ended.stdout
    assert team.status().commit_id == good


def test_a_dry_run_says_it_and_changes_nothing(cli: CommandLine, team: Team) -> None:
    head = team.git.commit({"a-runtime.yaml": workflow()})
    ended = cli("sync", "team", "--dry-run")
    assert (ended.code, ended.stdout) == (0, f"team main: {head[:8]} would be served: 1 written, 0 removed.\n")
    assert team.served() is None
    assert team.outcomes() == []
    team.git.commit({"a-runtime.yaml": INVALID})
    assert cli("sync", "team", "--dry-run").code == 1
    assert cli("sync", "team", "--dry-run", "--deep").code == 2


def test_all_branches_are_synced_and_the_worst_decides(cli: CommandLine, world: World) -> None:
    team = world.repository(branches=("main", "release/1.0", "gone"))
    team.git.commit({"a-runtime.yaml": workflow()})
    team.git.commit({"a-runtime.yaml": INVALID}, branch="release/1.0", onto="")
    ended = cli("sync", "team", "--json")
    assert ended.code == 1
    outcomes = {one["branch"]: one["outcome"] for one in ended.value["branches"]}
    assert outcomes == {"main": "Replaced", "release/1.0": "Rejected", "gone": "Unchanged"}
    assert "gone: the absence of the branch is served" in cli("sync", "team", "gone").stdout


def test_json_is_what_the_api_says(cli: CommandLine, team: Team) -> None:
    team.git.commit({"a-runtime.yaml": INVALID})
    told = cli("sync", "team", "--json").value
    assert told == {"repo_id": team.repo_id, "branches": [{"branch": "main", **of_outcome(team.sync())}]}


def test_a_commit_that_is_judged_already_needs_no_sync(cli: CommandLine, team: Team) -> None:
    old = team.git.commit({"a-runtime.yaml": workflow(1)})
    head = team.git.commit({"a-runtime.yaml": workflow(2)})
    assert cli("sync", "team", "main", "--commit", head).code == 0
    assert team.outcomes() == ["replaced"]
    for commit in (head, head.upper(), old):
        assert "nothing had to change" in cli("sync", "team", "main", "--commit", commit).stdout
    assert team.outcomes() == ["replaced"]
    assert cli("sync", "team", "--commit", head).code == 2
    assert cli("sync", "team", "main", "--commit", "abc").code == 2


def test_a_deep_sync_mends_what_was_edited_by_hand(cli: CommandLine, team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow(1)})
    cli("sync", "team")
    team.world.execute("UPDATE runtime_configs SET config = '{}'")
    assert "nothing had to change" in cli("sync", "team").stdout
    assert cli("sync", "team", "--deep").code == 0
    assert team.numbers() == {"a-runtime.yaml": "workflow-1"}


def test_a_source_that_is_not_there_is_told_with_what_to_do(cli: CommandLine, team: Team) -> None:
    team.drop()
    ended = cli("sync", "team")
    assert ended.code == 5
    assert "team main: failed." in ended.stdout
    assert "Check the source" in ended.stdout


def test_a_suspended_repository_is_deferred(cli: CommandLine, team: Team) -> None:
    team.change(suspended="holidays")
    ended = cli("sync", "team")
    assert ended.code == 10
    assert "not now. The repository is suspended: holidays" in ended.stdout


def test_unknown_names_are_told_apart(cli: CommandLine, team: Team) -> None:
    assert "No repository has the id or name 'nope'" in cli("sync", "nope").stderr
    ended = cli("sync", "team", "dev")
    assert ended.code == 3
    assert "does not name 'dev'" in ended.stderr
    assert "It names main." in ended.stderr


def test_reconcile_does_what_is_due(cli: CommandLine, team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    ended = cli("reconcile", "--seconds", "30")
    assert ended.code == 0
    assert "Syncs: 1 Replaced." in ended.stdout
    told = cli("reconcile", "--json").value
    assert (told["started"], told["is_complete"], told["outcomes"]) == (True, True, {})


def test_reconcile_leaves_it_to_a_sweep_that_is_running(cli: CommandLine, team: Team) -> None:
    team.world.execute("UPDATE sweeps SET sweep_id = gen_random_uuid(), lease_until = now() + interval '1 hour'")
    ended = cli("reconcile")
    assert ended.code == 10
    assert "Another sweep is at it" in ended.stdout
