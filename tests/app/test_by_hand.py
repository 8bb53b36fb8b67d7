"""What a person may ask of a branch."""

import pytest
from support.world import INVALID, MAIN, NOT_YAML, Team, World, budget, workflow

from shared.errors import SourceRefused
from shared.model import (
    ABSENT,
    BranchName,
    CommitId,
    Failed,
    Rejected,
    Replaced,
    Unchanged,
    Validation,
)

A, B = "a_runtime.yaml", "etl/b_runtime.yaml"
DEV = BranchName("dev")


def test_a_dry_run_says_what_a_sync_would_do_and_does_nothing(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    before = (team.status(), team.outcomes())
    commit = team.git.commit({A: None, B: workflow(2)})
    outcome = team.world.by_hand.judge(team.repo_id, MAIN, budget().deadline)
    assert isinstance(outcome, Replaced)
    assert (outcome.commit_id, outcome.written, outcome.removed) == (commit, 1, 1)
    team.git.commit({B: NOT_YAML})
    assert isinstance(team.world.by_hand.judge(team.repo_id, MAIN, budget().deadline), Rejected)
    assert (team.status(), team.outcomes(), team.numbers()) == (*before, {A: "workflow-1"})


class TestCovers:
    """Whether a commit needs a sync at all."""

    def test_the_served_commit_is_unchanged_without_a_look_at_git(self, team: Team) -> None:
        commit = team.git.commit({A: workflow(1)})
        team.sync()
        team.world.git.calls.clear()
        assert team.world.by_hand.covers(team.repo_id, MAIN, commit, budget().deadline) == Unchanged(
            commit, team.status().generation
        )
        assert not team.world.git.calls

    def test_an_ancestor_counts_while_the_head_is_served(self, team: Team) -> None:
        old = team.git.commit({A: workflow(1)})
        new = team.git.commit({A: workflow(2)})
        team.sync()
        outcome = team.world.by_hand.covers(team.repo_id, MAIN, old, budget().deadline)
        assert isinstance(outcome, Unchanged)
        assert outcome.commit_id == new

    def test_an_ancestor_does_not_count_after_a_force_push_back_to_it(self, team: Team) -> None:
        old = team.git.commit({A: workflow(1)})
        team.git.commit({A: workflow(2)})
        team.sync()
        team.git.set_head("main", old)
        assert team.world.by_hand.covers(team.repo_id, MAIN, old, budget().deadline) is None

    def test_the_rejected_commit_is_answered_with_its_report(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.sync()
        bad = team.git.commit({A: NOT_YAML})
        rejected = team.sync()
        assert team.world.by_hand.covers(team.repo_id, MAIN, bad, budget().deadline) == rejected

    def test_a_verdict_that_the_registration_forgot_answers_for_nothing(self, team: Team) -> None:
        bad = team.git.commit({A: INVALID})
        team.sync()
        team.change(validation=Validation.REPORT)
        outcomes = dict(team.world.by_hand.sync(team.repo_id, [MAIN], budget(), commit=bad))
        assert isinstance(outcomes[MAIN], Replaced)

    def test_the_commit_of_a_deleted_branch_is_not_rejected(self, team: Team) -> None:
        team.sync()
        assert team.world.by_hand.covers(team.repo_id, MAIN, ABSENT, budget().deadline) is None

    def test_a_source_that_cannot_be_asked_leaves_it_to_the_sync(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.sync()
        team.drop()
        outcomes = dict(team.world.by_hand.sync(team.repo_id, [MAIN], budget(), commit=CommitId("1" * 40)))
        assert isinstance(outcomes[MAIN], Failed)
        assert team.status().is_waiting

    def test_a_commit_that_the_branch_does_not_have_is_not_served_after_a_sync(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        outcomes = dict(team.world.by_hand.sync(team.repo_id, [MAIN], budget(), commit=CommitId("1" * 40)))
        assert isinstance(outcomes[MAIN], Failed)
        assert team.numbers() == {A: "workflow-1"}

    def test_a_new_commit_needs_a_sync(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.sync()
        new = team.git.commit({A: workflow(2)})
        assert team.world.by_hand.covers(team.repo_id, MAIN, new, budget().deadline) is None
        assert team.world.by_hand.covers(team.repo_id, MAIN, CommitId("1" * 40), budget().deadline) is None


class TestByHand:
    """A person waits for the outcome of one branch or all."""

    @pytest.fixture
    def team(self, world: World) -> Team:
        team = world.repository(branches=("main", "dev"))
        team.git.commit({A: workflow(1)})
        team.git.set_head("dev", team.git.head("main"))
        return team

    def test_every_branch_gets_its_outcome(self, team: Team) -> None:
        outcomes = dict(team.world.by_hand.sync(team.repo_id, [MAIN, DEV], budget()))
        assert [type(outcome) for outcome in outcomes.values()] == [Replaced, Replaced]

    def test_all_branches_are_requested_before_the_first_is_synced(self, team: Team) -> None:
        team.world.sweep()
        next(team.world.by_hand.sync(team.repo_id, [MAIN, DEV], budget()))
        assert team.status("dev").is_waiting

    def test_a_commit_that_is_served_is_answered_without_a_request(self, team: Team) -> None:
        team.world.sweep()
        before = team.status()
        commit = team.git.head("main")
        assert dict(team.world.by_hand.sync(team.repo_id, [MAIN], budget(), commit=commit)) == {
            MAIN: Unchanged(commit, before.generation)
        }
        assert team.status() == before

    def test_a_deep_sync_looks_at_a_served_commit_all_the_same(self, team: Team) -> None:
        team.world.sweep()
        team.world.execute("UPDATE runtime_configs SET config = '{}'")
        commit = team.git.head("main")
        dict(team.world.by_hand.sync(team.repo_id, [MAIN], budget(), commit=commit, deep=True))
        assert team.numbers() == {A: "workflow-1"}

    def test_a_paused_source_is_probed(self, team: Team) -> None:
        team.world.queue.pause_source(team.repository.source, SourceRefused("The token has expired."))
        outcomes = dict(team.world.by_hand.sync(team.repo_id, [MAIN], budget()))
        assert isinstance(outcomes[MAIN], Replaced)
