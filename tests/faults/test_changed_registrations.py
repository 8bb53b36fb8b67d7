"""A registration that changes while a sync runs: nothing of the old one is written once the change was answered."""

from collections.abc import Callable

import pytest
from support.stores import Store
from support.world import MAIN, Team, budget, workflow

from shared.model import DeferReason, Deferred, Trigger

A, OTHER = "a_runtime.yaml", "other_cfg.yaml"


@pytest.fixture
def team(team: Team) -> Team:
    """It serves one file, and two are pushed."""
    team.git.commit({A: workflow(1)})
    team.sync()
    team.git.commit({A: workflow(2), OTHER: workflow(3)})
    return team


CHANGES: dict[str, Callable[[Team], object]] = {
    "pattern": lambda team: team.change(pattern="*_cfg.yaml"),
    "suspended": lambda team: team.change(suspended="moving house"),
    "branches": lambda team: team.change(branches=("dev",)),
    "source": lambda team: team.change(source=f"{team.repository.source}/elsewhere"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_running_sync_is_fenced_off(team: Team, change: str) -> None:
    answered: list[object] = []

    def meanwhile() -> None:
        CHANGES[change](team)
        answered.append(team.numbers())

    team.world.store.before["replace"].append(meanwhile)
    outcome = team.sync()
    assert isinstance(outcome, Deferred)
    assert outcome.reason is DeferReason.CLAIM_LOST
    assert answered == [None if change == "branches" else {A: "workflow-1"}]
    assert team.numbers() == answered[0]


def test_what_was_fenced_off_is_synced_anew_under_the_new_registration(team: Team) -> None:
    team.world.store.before["replace"].append(lambda: team.change(pattern="*_cfg.yaml"))
    team.sync()
    team.world.sweep()
    assert team.numbers() == {OTHER: "workflow-3"}


def test_a_change_just_before_the_claim_is_the_registration_that_counts(team: Team) -> None:
    team.ask()
    team.world.queue.before["claim"].append(lambda: team.change(pattern="*_cfg.yaml"))
    team.run()
    assert team.numbers() == {OTHER: "workflow-3"}


def test_a_removed_repository_is_not_brought_back_to_life(team: Team, store: Store) -> None:
    team.world.store.before["replace"].append(
        lambda: team.world.registrar.remove(team.repo_id, expected=team.repository.revision)
    )
    assert isinstance(team.sync(), Deferred)
    assert store.state("branches", "runtime_configs") == {"branches": [], "runtime_configs": []}


def test_a_branch_that_is_named_no_more_loses_its_rows_with_the_change(team: Team, store: Store) -> None:
    team.change(branches=("dev",))
    assert store.rows(repo_id=team.repo_id) == {}
    assert team.served() is None


def test_a_webhook_does_not_use_up_the_judgement_that_a_change_asked_for(team: Team) -> None:
    team.sync()
    team.change(pattern="*_cfg.yaml")
    team.world.sync.run(team.repo_id, MAIN, budget(), Trigger.WEBHOOK)
    assert team.numbers() == {OTHER: "workflow-3"}
