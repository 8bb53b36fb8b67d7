"""What a sync makes of a branch, told as its owners see it."""

import pytest
from support.world import INVALID, MAIN, NOT_YAML, Team, World, budget, workflow

from shared.model import (
    ABSENT,
    BranchName,
    Condition,
    DeferReason,
    Deferred,
    Document,
    Failed,
    Rejected,
    Replaced,
    Trigger,
    Unchanged,
    Validation,
)
from shared.rules import Rules

A, B = "a_runtime.yaml", "etl/b_runtime.yaml"
DEV = BranchName("dev")


def test_a_first_sync_serves_every_runtime_config_and_nothing_else(team: Team) -> None:
    commit = team.git.commit({A: workflow(1), B: workflow(2), "README.md": b"# us", "other.yaml": b"a: 1"})
    outcome = team.sync()
    assert isinstance(outcome, Replaced)
    assert (outcome.commit_id, outcome.written, outcome.removed) == (commit, 2, 0)
    assert team.numbers() == {A: "workflow-1", B: "workflow-2"}
    assert team.status().condition is Condition.READY


def test_one_changed_file_costs_one_file(team: Team) -> None:
    team.git.commit({f"{n:03}_runtime.yaml": workflow(n) for n in range(50)})
    team.sync()
    before = {item.filepath: item for item in team.world.reader.listing(team.repo_id, MAIN).items}
    fetched: list[str] = []
    blobs = team.world.git._wrapped.blobs
    team.world.git.instead["blobs"] = lambda *args: (fetched.extend(args[2]), blobs(*args))[1]
    team.git.commit({"007_runtime.yaml": workflow(1007)})
    outcome = team.sync()
    assert isinstance(outcome, Replaced)
    assert (outcome.written, outcome.removed, len(fetched)) == (1, 0, 1)
    after = {item.filepath: item for item in team.world.reader.listing(team.repo_id, MAIN).items}
    assert [path for path in after if after[path] != before[path]] == ["007_runtime.yaml"]
    assert after["007_runtime.yaml"].generation == outcome.generation


def test_a_file_that_left_the_branch_is_gone(team: Team) -> None:
    team.git.commit({A: workflow(1), B: workflow(2)})
    team.sync()
    team.git.commit({A: None})
    outcome = team.sync()
    assert isinstance(outcome, Replaced)
    assert outcome.removed == 1
    assert team.numbers() == {B: "workflow-2"}


def test_a_push_that_touches_no_runtime_config_moves_the_commit_and_keeps_the_generation(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    first = team.sync()
    commit = team.git.commit({"README.md": b"# news"})
    second = team.sync()
    assert isinstance(second, Unchanged)
    assert (second.commit_id, second.generation) == (commit, first.generation)
    assert team.status().commit_id == commit


def test_the_same_head_costs_one_look_at_it(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.world.git.calls.clear()
    assert isinstance(team.sync(), Unchanged)
    assert team.world.git.calls == {"head": 1}


def test_a_commit_with_the_judged_tree_needs_no_listing(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.world.git.calls.clear()
    commit = team.git.commit({}, message="Nothing but a message")
    assert team.sync() == Unchanged(commit, team.status().generation)
    assert team.world.git.calls == {"head": 1, "tree_id": 1}


def test_a_rejected_push_leaves_what_is_served_and_says_where_it_is_wrong(team: Team) -> None:
    good = team.git.commit({A: workflow(1), B: workflow(2)})
    team.sync()
    bad = team.git.commit({A: workflow(11), B: NOT_YAML})
    outcome = team.sync()
    assert isinstance(outcome, Rejected)
    finding = outcome.report.findings[0]
    assert (outcome.commit_id, finding.path) == (bad, B)
    assert finding.line
    assert finding.column
    assert team.numbers() == {A: "workflow-1", B: "workflow-2"}
    status = team.status()
    assert (status.condition, status.commit_id, status.judged_commit) == (Condition.INVALID, good, bad)
    assert f"{B}:{finding.line}:{finding.column}" in status.message
    assert status.report == outcome.report


def test_every_mistake_of_a_push_is_told_at_once(team: Team) -> None:
    team.git.commit({A: INVALID, B: NOT_YAML})
    outcome = team.sync()
    assert isinstance(outcome, Rejected)
    assert {finding.path for finding in outcome.report.findings} == {A, B}


def test_a_rejected_head_is_not_judged_again_until_something_changes(team: Team) -> None:
    team.git.commit({A: NOT_YAML})
    first = team.sync()
    team.world.git.calls.clear()
    assert team.sync() == first
    assert team.world.git.calls == {"head": 1}
    team.git.commit({A: workflow(1)})
    assert isinstance(team.sync(), Replaced)
    assert team.status().condition is Condition.READY


def test_a_revert_to_the_served_commit_after_a_rejected_one_is_ready_again(team: Team) -> None:
    good = team.git.commit({A: workflow(1)})
    team.sync()
    team.git.commit({A: NOT_YAML})
    team.sync()
    team.git.set_head("main", good)
    assert isinstance(team.sync(), Unchanged)
    status = team.status()
    assert (status.condition, status.report.findings) == (Condition.READY, ())


def test_a_then_b_then_a_ends_on_a(team: Team) -> None:
    first = team.git.commit({A: workflow(1)})
    one = team.sync()
    team.git.commit({A: workflow(2)})
    two = team.sync()
    team.git.set_head("main", first)
    three = team.sync()
    assert team.numbers() == {A: "workflow-1"}
    assert one.generation < two.generation < three.generation


def test_a_force_push_without_a_file_removes_it(team: Team) -> None:
    team.git.commit({A: workflow(1), B: workflow(2)})
    team.sync()
    team.git.commit({A: workflow(3)}, onto="")
    team.sync()
    assert team.numbers() == {A: "workflow-3"}


def test_a_deleted_branch_serves_nothing_and_a_new_one_has_a_higher_generation(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    first = team.sync()
    team.git.delete("main")
    gone = team.sync()
    assert isinstance(gone, Replaced)
    assert (gone.commit_id, gone.removed) == (ABSENT, 1)
    assert team.served() is None
    assert (team.status().condition, team.status().reason) == (Condition.READY, "BranchGone")
    team.git.commit({A: workflow(1)})
    again = team.sync()
    assert team.numbers() == {A: "workflow-1"}
    assert first.generation < gone.generation < again.generation


def test_an_accepted_commit_without_configs_serves_an_empty_set(team: Team) -> None:
    team.git.commit({"README.md": b"soon"})
    assert isinstance(team.sync(), Unchanged)
    assert team.served() == {}


def test_root_and_pattern_decide_what_counts(world: World) -> None:
    team = world.repository("mono", root="teams/one", pattern="*.cfg.yaml")
    team.git.commit({"teams/one/x.cfg.yaml": workflow(1), "teams/oneself/y.cfg.yaml": workflow(2), A: workflow(3)})
    team.sync()
    assert team.numbers() == {"teams/one/x.cfg.yaml": "workflow-1"}


def test_a_near_miss_is_noted_and_does_not_reject(team: Team) -> None:
    team.git.commit({A: workflow(1), "b_runtime.yml": workflow(2), "C_Runtime.yaml": workflow(3)})
    outcome = team.sync()
    assert isinstance(outcome, Replaced)
    assert {finding.path for finding in outcome.report.findings} == {"b_runtime.yml", "C_Runtime.yaml"}
    assert team.numbers() == {A: "workflow-1"}


class TestValidationReport:
    """With `validation: report` the schema's findings do not keep a push from being served."""

    @pytest.fixture
    def team(self, world: World) -> Team:
        return world.repository("lenient", validation=Validation.REPORT)

    def test_findings_of_the_schema_are_shown_and_the_set_is_served(self, team: Team) -> None:
        team.git.commit({A: INVALID, B: workflow(2)})
        outcome = team.sync()
        assert isinstance(outcome, Replaced)
        assert [finding.path for finding in outcome.report.findings] == [A]
        assert set(team.served()) == {A, B}
        assert team.status().report == outcome.report

    def test_a_file_that_is_not_yaml_still_rejects(self, team: Team) -> None:
        team.git.commit({A: INVALID, B: NOT_YAML})
        assert isinstance(team.sync(), Rejected)

    def test_findings_of_files_that_did_not_change_are_not_forgotten(self, team: Team) -> None:
        team.git.commit({A: INVALID, B: workflow(2)})
        first = team.sync()
        team.git.commit({B: NOT_YAML})
        team.sync()
        team.git.commit({B: workflow(3)})
        outcome = team.sync()
        assert outcome.report == first.report

    def test_a_change_to_enforce_judges_the_same_commit_again(self, team: Team) -> None:
        team.git.commit({A: INVALID})
        team.sync()
        team.change(validation=Validation.ENFORCE)
        assert isinstance(team.run(trigger=Trigger.WEBHOOK), Rejected)
        assert team.status().condition is Condition.INVALID
        assert set(team.served()) == {A}


def test_a_suspended_repository_is_left_alone_and_synced_when_resumed(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.change(suspended="moving house")
    team.git.commit({A: workflow(2)})
    outcome = team.sync()
    assert isinstance(outcome, Deferred)
    assert outcome.reason is DeferReason.SUSPENDED
    assert team.status().condition is Condition.SUSPENDED
    assert team.numbers() == {A: "workflow-1"}
    team.change(suspended=None)
    team.world.sweep()
    assert team.numbers() == {A: "workflow-2"}


def test_a_branch_that_the_registration_stops_naming_loses_its_configs(world: World) -> None:
    team = world.repository("two", branches=("main", "release/1.0"))
    team.git.commit({A: workflow(1)})
    team.git.set_head("release/1.0", team.git.head("main"))
    team.sync()
    team.sync("release/1.0")
    team.change(branches=("main",))
    assert (team.numbers(), team.served("release/1.0")) == ({A: "workflow-1"}, None)
    outcome = team.sync("release/1.0")
    assert isinstance(outcome, Deferred)
    assert outcome.reason is DeferReason.NOT_NAMED


def test_out_of_time_stays_requested_and_the_timer_finishes(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    outcome = team.sync(within=budget(seconds=0))
    assert isinstance(outcome, Deferred)
    assert outcome.reason is DeferReason.BUDGET
    assert team.status().is_waiting
    assert not team.world.git.calls
    team.world.sweep()
    assert team.numbers() == {A: "workflow-1"}


def test_more_files_than_the_budget_stay_requested_without_a_download(team: Team) -> None:
    team.git.commit({A: workflow(1), B: workflow(2)})
    outcome = team.sync(within=budget(files=1))
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, team.world.git.calls["blobs"]) == (DeferReason.BUDGET, 0)
    assert team.status().is_waiting


def test_each_outcome_is_one_row_of_the_journal(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.sync()
    team.git.commit({A: NOT_YAML})
    team.sync()
    team.sync(within=budget(seconds=0))
    team.drop()
    team.sync()
    assert team.outcomes() == ["replaced", "unchanged", "rejected", "deferred", "failed"]


def test_a_repository_that_cannot_be_read_fails_and_keeps_what_is_served(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.drop()
    outcome = team.sync()
    assert isinstance(outcome, Failed)
    assert team.numbers() == {A: "workflow-1"}
    status = team.status()
    assert (status.condition, status.is_waiting) == (Condition.FETCH_FAILED, True)
    assert status.next_attempt_at is not None
    team.restore()
    team.world.let_back_off_pass()
    team.world.sweep()
    assert team.status().condition is Condition.READY


class OtherRules:
    """The shipped rules under another name, as after an upgrade that changes the schema."""

    def __init__(self, *, refuse: str | None = None, give: str | None = None) -> None:
        self._rules = Rules.shipped()
        self._refuse = refuse
        self._give = give

    def __getattr__(self, name: str) -> object:
        return getattr(self._rules, name)

    def ruleset(self, registration):
        return self._rules.ruleset(registration)[::-1]

    def judge(self, path, blob_id, data, mode):
        if self._refuse and self._refuse.encode() in data:
            return self._rules.judge(path, blob_id, NOT_YAML, mode)
        document, findings = self._rules.judge(path, blob_id, data, mode)
        if self._give is not None:
            document = Document(path, blob_id, {"workflow": {"id": self._give}})
        return document, findings


class TestNewRules:
    """A new ruleset without a commit: the timer judges again, a webhook does not."""

    def test_a_sweep_judges_every_branch_again_and_keeps_the_generation_of_the_same_content(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        first = team.sync()
        team.world.use(OtherRules())
        team.world.make_head_checks_due()
        team.world.sweep()
        assert team.outcomes()[-1] == "unchanged"
        assert team.world.git.calls["blobs"] == 2
        item = team.world.reader.listing(team.repo_id, MAIN).items[0]
        assert item.generation == first.generation
        team.world.git.calls.clear()
        team.sync()
        assert team.world.git.calls == {"head": 1}

    def test_what_was_valid_may_be_invalid_now_and_stays_served(self, team: Team) -> None:
        team.git.commit({A: workflow(1), B: workflow(2)})
        team.sync()
        team.world.use(OtherRules(refuse="workflow-2"))
        team.world.make_head_checks_due()
        team.world.sweep()
        assert team.status().condition is Condition.INVALID
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}
        assert isinstance(team.sync(), Rejected)
        team.git.commit({}, message="Nothing but a message")
        assert isinstance(team.sync(), Rejected)
        assert team.status().condition is Condition.INVALID

    def test_a_deep_sync_under_new_rules_comes_after_the_new_verdict(self, team: Team) -> None:
        team.git.commit({A: workflow(1), B: workflow(2)})
        team.sync()
        team.world.execute("UPDATE runtime_configs SET config = '{}' WHERE filepath = %s", A)
        team.world.use(OtherRules(refuse="workflow-2"))
        team.ask(deep=True)
        assert isinstance(team.run(deep=True), Rejected)
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}

    def test_a_webhook_with_the_judged_head_does_not_judge_again(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.sync()
        team.world.use(OtherRules())
        team.world.git.calls.clear()
        assert isinstance(team.sync(trigger=Trigger.WEBHOOK), Unchanged)
        assert team.world.git.calls == {"head": 1}

    def test_other_json_of_the_same_bytes_is_a_new_generation(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        first = team.sync()
        team.world.use(OtherRules(give="another reading"))
        second = team.sync()
        assert isinstance(second, Replaced)
        assert second.generation > first.generation
        assert team.numbers() == {A: "another reading"}


def test_a_document_that_the_database_refuses_is_a_finding_and_not_a_failure_for_ever(team: Team) -> None:
    team.git.commit({A: workflow(1), B: workflow(2)})
    team.sync()
    team.git.commit({B: workflow(3)})
    team.world.use(OtherRules(give="a\0b"))
    outcome = team.sync()
    assert isinstance(outcome, Rejected)
    assert outcome.report.findings[0].path in (A, B)
    assert not team.status().is_waiting
    assert team.numbers() == {A: "workflow-1", B: "workflow-2"}
