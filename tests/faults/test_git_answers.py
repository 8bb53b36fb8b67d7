"""What Git answers is proven before anything is concluded from it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator, Fault
from support.world import MAIN, Team, Watched, World, budget, workflow

from shared import sync
from shared.azure_devops.client import Organisation
from shared.azure_devops.source import AzureDevOpsSource
from shared.model import (
    ABSENT,
    CommitId,
    DeferReason,
    Deferred,
    Event,
    Failed,
    Outcome,
    RefUpdate,
    Registration,
    Replaced,
    RepoId,
    SourceName,
    Unchanged,
)
from shared.rules import Rules

A, B = "a_runtime.yaml", "b_runtime.yaml"
SAME = {A: "workflow-1", B: "workflow-2"}


@pytest.fixture
def team(world: World) -> Team:
    """It serves two files."""
    team = world.repository()
    team.git.commit({A: workflow(1), B: workflow(2)})
    team.sync()
    return team


class TestBytes:
    def test_those_of_another_blob_are_a_failure_and_no_verdict(self, team: Team) -> None:
        team.git.commit({A: workflow(3)})
        team.world.git.instead["blobs"] = lambda repository, commit, ids, deadline: (
            (blob_id, b"<html>Too many requests</html>") for blob_id in ids
        )
        assert isinstance(team.sync(), Failed)
        assert team.numbers() == SAME
        team.world.git.instead.clear()
        assert isinstance(team.sync(), Replaced)

    def test_those_that_are_missing_in_the_answer_are_a_failure(self, team: Team) -> None:
        team.git.commit({A: workflow(3)})
        team.world.git.instead["blobs"] = lambda *arguments: iter(())
        assert isinstance(team.sync(), Failed)
        assert team.numbers() == SAME

    def test_those_that_two_files_share_are_stored_for_both(self, team: Team) -> None:
        commit = team.git.commit({A: workflow(3), B: workflow(3)})
        team.sync()
        assert team.numbers() == {A: "workflow-3", B: "workflow-3"}
        listing = team.world.reader.listing(team.repo_id, MAIN)
        assert listing is not None
        assert {item.blob_id for item in listing.items} == {team.git.blob_id(commit, A)}


def test_a_listing_that_lost_a_file_deletes_nothing(team: Team) -> None:
    team.git.commit({"c_runtime.yaml": workflow(3)})
    tree = team.world.git._wrapped.tree  # type: ignore[attr-defined]

    def cut_off(*arguments: Any) -> Any:
        whole = tree(*arguments)
        return replace(whole, entries=whole.entries[:-1])

    team.world.git.instead["tree"] = cut_off
    assert isinstance(team.sync(), Failed)
    assert team.numbers() == SAME


class TestAbsence:
    """Over the API of Azure DevOps, where nothing but complete answers that agree prove that a branch is gone."""

    @pytest.fixture
    def emulator(self, tmp_path: Path) -> Iterator[Emulator]:
        with Emulator(tmp_path / "organisation") as emulator:
            yield emulator

    @pytest.fixture
    def team(self, world: World, emulator: Emulator) -> Team:
        organisation = Organisation(
            emulator.url, authorization=lambda: EMULATOR_AUTHORIZATION, timeout=timedelta(seconds=30)
        )
        world.git = Watched(AzureDevOpsSource(organisation))
        world.use(Rules.shipped())
        self.hosted = emulator.repository("etl", "orders")
        registration = Registration("orders", SourceName(emulator.url), (MAIN,))
        team = Team(world, self.hosted.git, world.registrar.put(RepoId(self.hosted.id), registration, expected=None))
        team.git.commit({"README.md": b""}, branch="trunk")
        team.git.commit({A: workflow(1), B: workflow(2)})
        team.sync()
        assert team.numbers() == SAME
        return team

    @pytest.mark.parametrize("fault", [Fault.NOT_FOUND, Fault.SIGN_IN, Fault.HTML, Fault.CUT, Fault.RESET])
    @pytest.mark.parametrize("route", ["refs", "tree"])
    def test_an_answer_that_is_none_proves_nothing(
        self, team: Team, emulator: Emulator, fault: Fault, route: str
    ) -> None:
        team.git.commit({A: None})
        emulator.misbehave(fault, route=route)
        assert isinstance(team.sync(), Failed)
        assert team.numbers() == SAME

    def test_one_answer_that_lacks_the_branch_proves_nothing(self, team: Team, emulator: Emulator) -> None:
        emulator.misbehave(Fault.PARTIAL, route="refs", times=1)
        assert isinstance(team.sync(), Unchanged)
        assert team.numbers() == SAME

    def test_a_repository_that_is_disabled_proves_nothing(self, team: Team, emulator: Emulator) -> None:
        emulator.disable(self.hosted)
        assert isinstance(team.sync(), Failed)
        assert team.numbers() == SAME

    def test_a_branch_that_was_deleted_is_gone(self, team: Team) -> None:
        team.git.delete("main")
        outcome = team.sync()
        assert isinstance(outcome, Replaced)
        assert outcome.commit_id == ABSENT
        assert team.served() is None


class TestASourceThatLagsBehindItsWebhooks:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sync, "_CATCHING_UP", timedelta())

    @pytest.fixture
    def pushed(self, team: Team) -> CommitId:
        """A new commit; `before` is the one before it."""
        team.world.sweep()
        self.before = team.git.head("main")
        return team.git.commit({A: workflow(3)})

    def announce(self, team: Team, commit: CommitId) -> Outcome:
        update = RefUpdate(MAIN, self.before, commit)
        event = Event("git.push", repo_id=team.repo_id, push_id=1, updates=(update,))
        return team.world.intake.receive(event, budget()).outcomes[MAIN]

    @pytest.mark.parametrize("stale", ["the head before", "no branch"])
    def test_its_answer_is_no_verdict_and_the_push_stays_requested(
        self, team: Team, pushed: CommitId, stale: str
    ) -> None:
        answer = self.before if stale == "the head before" else ABSENT
        team.world.git.instead["head"] = lambda *arguments: answer
        outcome = self.announce(team, pushed)
        assert isinstance(outcome, Deferred)
        assert outcome.reason is DeferReason.LAGGING
        assert (team.numbers(), team.status().is_waiting) == (SAME, True)
        team.world.git.instead.clear()
        team.world.sweep()
        assert team.numbers() == {**SAME, A: "workflow-3"}

    def test_the_same_run_looks_again(self, team: Team, pushed: CommitId) -> None:
        answers = [self.before]
        head = team.world.git._wrapped.head  # type: ignore[attr-defined]
        team.world.git.instead["head"] = lambda *arguments: answers.pop() if answers else head(*arguments)
        assert isinstance(self.announce(team, pushed), Replaced)

    def test_a_push_that_was_taken_back_is_not_waited_for_for_ever(self, team: Team, pushed: CommitId) -> None:
        team.git.set_head("main", self.before)
        assert isinstance(self.announce(team, pushed), Deferred)
        team.world.execute("UPDATE branches SET announced_at = announced_at - interval '10 minutes'")
        assert isinstance(team.run(), Unchanged)
        assert not team.status().is_waiting
