"""Rows that somebody edited by hand are healed, and nothing else is touched."""

import pytest
from support.world import INVALID, MAIN, NOT_YAML, Team, budget, workflow

from shared.listing import ListingLimits
from shared.model import CommitId, Condition, DeferReason, Deferred, Outcome, Rejected, Replaced
from shared.rules import Rules

A, B = "a_runtime.yaml", "b_runtime.yaml"
SAME = {A: "workflow-1", B: "workflow-2"}
EDITED = """UPDATE runtime_configs SET config = '{"workflow": {"id": "edited"}}' WHERE filepath = %s"""


@pytest.fixture
def team(team: Team) -> Team:
    """It serves two files."""
    team.git.commit({A: workflow(1), B: workflow(2)})
    team.sync()
    return team


@pytest.fixture
def commit(team: Team) -> CommitId:
    """The one that is served."""
    return team.git.head("main")


def edit(team: Team, path: str = A) -> None:
    team.world.execute(EDITED, path)


def heal(team: Team) -> Outcome:
    team.ask(deep=True)
    return team.run(deep=True)


def let_a_day_pass(team: Team) -> None:
    team.world.execute("UPDATE branches SET deep_synced_at = deep_synced_at - interval '25 hours'")


def test_edited_lost_and_foreign_rows_are_healed_by_fetching_what_is_wrong_only(team: Team) -> None:
    team.git.commit({"c_runtime.yaml": workflow(3)})
    team.sync()
    before = team.status().generation
    edit(team)
    team.world.execute("DELETE FROM runtime_configs WHERE filepath = %s", B)
    team.world.execute(
        "INSERT INTO runtime_configs (repo_id, branch, filepath, config, blob_id, ruleset, generation, digest)"
        " SELECT repo_id, branch, 'foreign_runtime.yaml', config, blob_id, ruleset, generation, digest"
        " FROM runtime_configs WHERE filepath = 'c_runtime.yaml'"
    )
    outcome = heal(team)
    assert isinstance(outcome, Replaced)
    assert (outcome.written, outcome.removed) == (2, 1)
    assert team.numbers() == {**SAME, "c_runtime.yaml": "workflow-3"}
    assert team.status().generation > before


def test_a_rejected_head_does_not_keep_it_from_healing_what_is_served(team: Team, commit: CommitId) -> None:
    bad = team.git.commit({A: NOT_YAML})
    team.sync()
    edit(team)
    assert isinstance(heal(team), Rejected)
    status = team.status()
    assert (status.condition, status.commit_id, status.judged_commit) == (Condition.INVALID, commit, bad)
    assert team.numbers() == SAME


def test_it_never_moves_the_commit(team: Team, commit: CommitId) -> None:
    edit(team)
    team.git.commit({A: workflow(11)})
    outcome = heal(team)
    assert isinstance(outcome, Replaced)
    assert outcome.commit_id == commit
    assert team.numbers() == SAME


def test_it_makes_way_for_a_push_between_two_steps(team: Team) -> None:
    edit(team)

    def push() -> None:
        team.git.commit({B: workflow(22)})
        team.ask()

    team.world.git.before["tree"].append(push)
    heal(team)
    assert team.outcomes()[1:] == ["deferred", "replaced", "replaced"]
    assert team.numbers() == {A: "workflow-1", B: "workflow-22"}
    assert not team.status().is_waiting


def test_a_push_that_waits_goes_first_and_the_deep_sync_is_not_forgotten(team: Team) -> None:
    edit(team)
    team.git.commit({B: workflow(22)})
    team.ask(deep=True)
    team.sync()
    assert (team.numbers() or {})[A] == "edited"
    team.world.sweep()
    assert team.numbers() == {A: "workflow-1", B: "workflow-22"}


def test_one_that_found_no_time_is_not_forgotten(team: Team) -> None:
    edit(team)
    [(_, outcome)] = team.world.by_hand.sync(team.repo_id, [MAIN], budget(seconds=0), deep=True)
    assert isinstance(outcome, Deferred)
    assert outcome.reason is DeferReason.BUDGET
    team.world.sweep()
    assert team.numbers() == SAME


def test_a_commit_that_git_has_no_more_is_noted_and_changes_nothing(team: Team) -> None:
    team.git.commit({A: NOT_YAML}, onto="")
    team.sync()
    team.git.collect()
    edit(team)
    before = team.served()
    for _ in range(2):
        outcome = heal(team)
        assert isinstance(outcome, Rejected)
        rules = [finding.rule for finding in outcome.report.findings]
        assert rules.count("deep-sync-skipped") == 1
    assert team.served() == before


def test_a_commit_that_a_new_pattern_rejects_keeps_its_files_and_gets_no_others(team: Team) -> None:
    team.git.commit({"c.cfg.yaml": INVALID})
    team.sync()
    team.change(pattern="*.cfg.yaml")
    assert isinstance(team.run(), Rejected)
    edit(team)
    assert isinstance(heal(team), Rejected)
    assert team.numbers() == SAME
    let_a_day_pass(team)
    team.world.sweep()
    assert team.numbers() == SAME


def test_a_commit_that_a_lower_limit_rejects_keeps_its_files(team: Team) -> None:
    team.world.use(Rules(Rules.shipped()._validator, None, ListingLimits(max_files=1)))
    assert isinstance(team.sync(), Rejected)
    heal(team)
    assert team.numbers() == SAME


def test_a_minute_of_the_night_that_was_missed_is_made_up_for(team: Team) -> None:
    edit(team)
    team.world.sweep()
    assert (team.numbers() or {})[A] == "edited"
    let_a_day_pass(team)
    team.world.sweep()
    assert team.numbers() == SAME
