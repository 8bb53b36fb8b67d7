"""Sequences that once made a sync wrong, each with what must hold."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.world import INVALID, MAIN, NOT_YAML, Team, World, budget, workflow

from shared import examination
from shared.errors import DatabaseUnavailable, SourceRefused, SourceThrottled
from shared.listing import ListingLimits
from shared.model import (
    BlobId,
    BranchName,
    Condition,
    DeferReason,
    Deferred,
    Failed,
    Rejected,
    Replaced,
    Trigger,
    Unchanged,
)
from shared.rules import Rules

A, B = "a_runtime.yaml", "b_runtime.yaml"


def expire_lease(team: Team) -> None:
    team.world.execute("UPDATE branches SET lease_until = clock_timestamp() - interval '1 second'")


class TestLostLease:
    """A holder whose lease ended while it stalled."""

    @pytest.fixture
    def stalled(self, team: Team) -> Team:
        """The next sync stalls after it has read everything; meanwhile the branch goes back, and another syncs."""
        self.first = team.git.commit({A: workflow(1)})
        team.sync()
        team.git.commit({A: workflow(2)})
        return team

    def overtake(self, team: Team) -> None:
        expire_lease(team)
        self.generation = team.status().generation
        self.other = team.sync()
        self.told = (team.status(), team.numbers())

    def test_it_does_not_write_old_data_over_an_unchanged_verdict(self, stalled: Team) -> None:
        def meanwhile() -> None:
            stalled.git.set_head("main", self.first)
            self.overtake(stalled)

        stalled.world.store.before["replace"].append(meanwhile)
        outcome = stalled.sync()
        assert isinstance(self.other, Unchanged)
        assert isinstance(outcome, Deferred)
        assert outcome.reason is DeferReason.CLAIM_LOST
        assert (stalled.status(), stalled.numbers()) == self.told
        assert stalled.numbers() == {A: "workflow-1"}

    def test_it_does_not_write_over_a_rejected_verdict(self, stalled: Team) -> None:
        def meanwhile() -> None:
            stalled.git.commit({A: NOT_YAML})
            self.overtake(stalled)

        stalled.world.store.before["replace"].append(meanwhile)
        stalled.sync()
        assert isinstance(self.other, Rejected)
        assert (stalled.status(), stalled.numbers()) == self.told

    def test_it_does_not_record_its_failure_over_a_newer_outcome(self, stalled: Team) -> None:
        stalled.drop()

        def meanwhile() -> None:
            stalled.restore()
            self.overtake(stalled)

        stalled.world.queue.before["settle"].append(meanwhile)
        stalled.sync()
        assert isinstance(self.other, Replaced)
        assert stalled.status().condition is Condition.READY
        assert (stalled.status(), stalled.numbers()) == self.told

    def test_an_expired_claim_that_nobody_took_is_still_good(self, stalled: Team) -> None:
        stalled.world.store.before["replace"].append(lambda: expire_lease(stalled))
        assert isinstance(stalled.sync(), Replaced)
        assert stalled.numbers() == {A: "workflow-2"}

    def test_it_cannot_write_into_a_repository_that_was_registered_anew(self, stalled: Team) -> None:
        def meanwhile() -> None:
            current = stalled.world.registry.get(stalled.repo_id)
            stalled.world.registrar.remove(stalled.repo_id, expected=current.revision)
            stalled.world.registrar.put(stalled.repo_id, current.registration, expected=None)

        stalled.world.store.before["replace"].append(meanwhile)
        assert isinstance(stalled.sync(), Deferred)
        assert stalled.served() is None


def test_claim_then_registration_then_head_then_stored_ids(team: Team) -> None:
    order: list[str] = []
    team.git.commit({A: workflow(1)})
    team.sync()
    team.git.commit({A: workflow(2)})
    team.ask()
    for watched, name in [(team.world.queue, "claim"), (team.world.git, "head"), (team.world.store, "stored")]:
        watched.before[name].append(lambda name=name: order.append(name))
    team.run()
    assert order == ["claim", "head", "stored"]


def test_a_head_that_moves_after_the_claim_is_the_one_that_is_served(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.world.queue.after["claim"].append(lambda: team.git.commit({A: workflow(2)}))
    team.sync()
    assert team.numbers() == {A: "workflow-2"}


def test_a_request_that_comes_in_during_a_sync_is_answered_by_the_same_run(team: Team) -> None:
    team.git.commit({A: workflow(1)})

    def push() -> None:
        team.git.commit({A: workflow(2)})
        team.ask()
        busy = team.run()
        assert isinstance(busy, Deferred)
        assert busy.reason is DeferReason.BUSY

    team.world.store.before["replace"].append(push)
    team.sync()
    assert team.numbers() == {A: "workflow-2"}
    assert not team.status().is_waiting
    assert team.outcomes() == ["replaced", "replaced"]


def test_a_branch_that_is_pushed_to_without_end_does_not_hold_its_worker_for_ever(team: Team) -> None:
    pushes = iter(range(100))

    def push() -> None:
        team.git.commit({A: workflow(next(pushes))})
        team.ask()
        team.world.store.before["replace"].append(push)

    push()
    team.run()
    assert len(team.outcomes()) == 3
    assert team.status().is_waiting


def test_a_sync_that_dies_keeps_its_request_and_is_not_first_in_the_queue_for_ever(world: World) -> None:
    poison, healthy = world.repository("poison"), world.repository("healthy")
    for team in (poison, healthy):
        team.git.commit({A: workflow(1)})

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    world.git.before["head"].append(die)
    with pytest.raises(Killed):
        poison.run()
    expire_lease(poison)
    assert poison.status().attempts == 1
    assert isinstance(world.sync.run_due(budget())[1], Replaced)
    assert healthy.numbers() == {A: "workflow-1"}
    assert world.sync.run_due(budget()) is None
    world.let_back_off_pass()
    world.sync.run_due(budget())
    assert poison.numbers() == {A: "workflow-1"}


def test_a_connection_lost_after_the_commit_of_a_replace_ends_with_its_true_outcome(team: Team) -> None:
    commit = team.git.commit({A: workflow(1)})

    def lost() -> None:
        raise DatabaseUnavailable("The connection is gone.")

    team.world.store.after["replace"].append(lost)
    outcome = team.sync()
    assert outcome == Replaced(commit, team.status().generation, 1, 0)
    assert team.outcomes() == ["replaced"]


def test_a_connection_lost_before_the_commit_of_a_replace_leaves_the_request_open(team: Team) -> None:
    team.git.commit({A: workflow(1)})

    def lost() -> None:
        raise DatabaseUnavailable("The connection is gone.")

    team.world.store.before["replace"].append(lost)
    outcome = team.sync()
    assert isinstance(outcome, Failed)
    assert (team.served(), team.status().is_waiting, team.outcomes()) == (None, True, [])


def test_a_change_of_the_registration_fences_a_running_sync_off(team: Team) -> None:
    team.git.commit({A: workflow(1), "other_cfg.yaml": workflow(2)})
    team.world.store.before["replace"].append(lambda: team.change(pattern="*_cfg.yaml"))
    assert isinstance(team.sync(), Deferred)
    assert team.served() is None
    team.world.sweep()
    assert team.numbers() == {"other_cfg.yaml": "workflow-2"}


def test_a_removed_repository_is_not_resurrected_by_a_running_sync(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.world.store.before["replace"].append(
        lambda: team.world.registrar.remove(team.repo_id, expected=team.repository.revision)
    )
    assert isinstance(team.sync(), Deferred)
    with team.world.pool.connection() as connection:
        assert connection.execute("SELECT count(*) FROM runtime_configs").fetchone() == (0,)


class TestGitMisbehaves:
    """What Git answers is proven before anything is concluded from it."""

    @pytest.fixture
    def team(self, world: World) -> Team:
        team = world.repository()
        team.git.commit({A: workflow(1), B: workflow(2)})
        team.sync()
        return team

    def test_bytes_that_are_not_the_blob_are_a_failure_and_no_verdict(self, team: Team) -> None:
        team.git.commit({A: workflow(3)})
        team.world.git.instead["blobs"] = lambda repository, commit, ids, deadline: (
            (blob_id, b"<html>Too many requests</html>") for blob_id in ids
        )
        assert isinstance(team.sync(), Failed)
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}
        team.world.git.instead.clear()
        assert isinstance(team.sync(), Replaced)

    def test_a_blob_that_is_missing_in_the_answer_is_a_failure(self, team: Team) -> None:
        team.git.commit({A: workflow(3)})
        team.world.git.instead["blobs"] = lambda *args: iter(())
        assert isinstance(team.sync(), Failed)
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}

    def test_a_listing_that_lost_a_file_deletes_nothing(self, team: Team) -> None:
        team.git.commit({"c_runtime.yaml": workflow(3)})
        tree = team.world.git._wrapped.tree

        def cut_off(*args):
            whole = tree(*args)
            return replace(whole, entries=whole.entries[:-1])

        team.world.git.instead["tree"] = cut_off
        assert isinstance(team.sync(), Failed)
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}

    def test_a_source_that_refuses_us_is_paused_as_a_whole_and_a_person_may_probe_it(self, team: Team) -> None:
        def refuse(*args):
            raise SourceRefused("The token has expired.", hint="Renew it.")

        team.world.git.instead["head"] = refuse
        assert isinstance(team.sync(), Failed)
        status = team.status()
        assert (status.condition, status.message) == (
            Condition.AUTHENTICATION_FAILED,
            "The token has expired. Renew it.",
        )
        paused = team.sync()
        assert isinstance(paused, Deferred)
        assert paused.reason is DeferReason.SOURCE_PAUSED
        calls = team.world.git.calls["head"]
        team.world.sweep()
        assert team.world.git.calls["head"] == calls
        team.world.git.instead.clear()
        assert isinstance(team.run(probe=True), Unchanged)
        assert isinstance(team.sync(), Unchanged)

    def test_a_source_that_throttles_us_is_left_alone_for_as_long_as_it_says(self, team: Team) -> None:
        def throttle(*args):
            raise SourceThrottled("Too many requests.", retry_after=timedelta(minutes=7))

        team.world.git.instead["head"] = throttle
        team.sync()
        status = team.status()
        assert status.condition is Condition.THROTTLED
        assert timedelta(minutes=6) < status.next_attempt_at - status.since < timedelta(minutes=8)


class TestDeepSync:
    """Rows that somebody edited by hand are healed, and nothing else is touched."""

    @pytest.fixture
    def team(self, world: World) -> Team:
        team = world.repository()
        self.commit = team.git.commit({A: workflow(1), B: workflow(2)})
        team.sync()
        return team

    def heal(self, team: Team):
        team.ask(deep=True)
        return team.run(deep=True)

    def test_nothing_wrong_changes_nothing(self, team: Team) -> None:
        before = team.world.reader.listing(team.repo_id, MAIN)
        outcome = self.heal(team)
        assert isinstance(outcome, Unchanged)
        after = team.world.reader.listing(team.repo_id, MAIN)
        assert (after.items, after.served.generation) == (before.items, before.served.generation)

    def test_edited_lost_and_foreign_rows_are_healed_by_what_is_wrong_only(self, team: Team) -> None:
        team.git.commit({"c_runtime.yaml": workflow(3)})
        team.sync()
        before = team.status().generation
        team.world.execute("UPDATE runtime_configs SET config = '{\"edited\": 1}' WHERE filepath = %s", A)
        team.world.execute("DELETE FROM runtime_configs WHERE filepath = %s", B)
        team.world.execute(
            "INSERT INTO runtime_configs (repo_id, branch, filepath, config, blob_id, ruleset, generation, digest)"
            " SELECT repo_id, branch, 'foreign_runtime.yaml', config, blob_id, ruleset, generation, digest"
            " FROM runtime_configs WHERE filepath = 'c_runtime.yaml'"
        )
        outcome = self.heal(team)
        assert isinstance(outcome, Replaced)
        assert (outcome.written, outcome.removed) == (2, 1)
        assert team.numbers() == {A: "workflow-1", B: "workflow-2", "c_runtime.yaml": "workflow-3"}
        assert team.status().generation > before

    def test_a_rejected_head_does_not_keep_it_from_healing_what_is_served(self, team: Team) -> None:
        team.git.commit({A: NOT_YAML})
        team.sync()
        team.world.execute("UPDATE runtime_configs SET config = '{\"edited\": 1}'")
        outcome = self.heal(team)
        assert isinstance(outcome, Rejected)
        status = team.status()
        assert (status.condition, status.commit_id) == (Condition.INVALID, self.commit)
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}

    def test_it_makes_way_for_a_push(self, team: Team) -> None:
        team.world.execute("UPDATE runtime_configs SET config = '{\"edited\": 1}'")

        def push() -> None:
            team.git.commit({B: workflow(22)})
            team.ask()

        team.world.git.before["tree"].append(push)
        self.heal(team)
        assert team.outcomes()[1:] == ["deferred", "replaced", "replaced"]
        assert team.numbers() == {A: "workflow-1", B: "workflow-22"}
        assert not team.status().is_waiting

    def test_a_push_that_waits_goes_first_and_the_deep_sync_is_not_forgotten(self, team: Team) -> None:
        team.world.execute("UPDATE runtime_configs SET config = '{\"edited\": 1}' WHERE filepath = %s", A)
        team.git.commit({B: workflow(22)})
        team.ask(deep=True)
        team.sync()
        assert team.served()[A] == {"edited": 1}
        team.world.sweep()
        assert team.numbers() == {A: "workflow-1", B: "workflow-22"}

    def test_a_commit_that_git_has_no_more_is_noted_and_changes_nothing(self, team: Team) -> None:
        team.git.commit({A: NOT_YAML}, onto="")
        team.sync()
        team.git.collect()
        before = team.numbers()
        for _ in range(2):
            outcome = self.heal(team)
            assert isinstance(outcome, Rejected)
            rules = [finding.rule for finding in outcome.report.findings]
            assert rules.count("deep-sync-skipped") == 1
        assert team.numbers() == before

    def test_a_commit_that_a_new_pattern_rejects_keeps_its_files_and_gets_no_others(self, team: Team) -> None:
        team.git.commit({"c.cfg.yaml": INVALID})
        team.sync()
        team.change(pattern="*.cfg.yaml")
        assert isinstance(team.run(), Rejected)
        team.world.execute("UPDATE runtime_configs SET config = '{}' WHERE filepath = %s", A)
        assert isinstance(self.heal(team), Rejected)
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}
        team.world.execute("UPDATE branches SET deep_synced_at = deep_synced_at - interval '25 hours'")
        team.world.sweep()
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}

    def test_a_commit_that_a_lower_limit_rejects_keeps_its_files(self, team: Team) -> None:
        team.world.use(Rules(Rules.shipped()._validator, None, ListingLimits(max_files=1)))
        assert isinstance(team.sync(), Rejected)
        self.heal(team)
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}

    def test_every_branch_has_its_minute_of_the_night(self, team: Team) -> None:
        team.world.execute("UPDATE runtime_configs SET config = '{\"edited\": 1}'")
        team.world.sweep()
        assert team.served()[A] == {"edited": 1}
        team.world.execute("UPDATE branches SET deep_synced_at = deep_synced_at - interval '25 hours'")
        team.world.sweep()
        assert team.numbers() == {A: "workflow-1", B: "workflow-2"}


def test_a_probe_whose_source_cannot_be_resumed_has_ended_well_all_the_same(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.world.queue.pause_source(team.repository.source, SourceRefused("The token has expired."))

    def lost() -> None:
        raise DatabaseUnavailable("The connection is gone.")

    team.ask()
    team.world.queue.before["resume_source"].append(lost)
    assert isinstance(team.run(probe=True), Replaced)


def test_files_that_take_long_to_judge_are_judged_with_the_lease_renewed(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "SECONDS_BETWEEN", 0.0)
    team.git.commit({f"{number}_runtime.yaml": workflow(number) for number in range(5)})
    team.sync()
    assert team.world.queue.calls["renew"] >= 5


def test_more_bytes_than_are_read_are_a_finding_also_where_sizes_are_not_known(team: Team) -> None:
    team.git.commit({A: workflow(1), B: workflow(2)})
    tree = team.world.git._wrapped.tree

    def without_sizes(*args):
        listed = tree(*args)
        return replace(listed, entries=tuple(entry._replace(size=None) for entry in listed.entries))

    team.world.git.instead["tree"] = without_sizes
    team.world.use(Rules(Rules.shipped()._validator, None, ListingLimits(max_total_bytes=50)))
    outcome = team.sync()
    assert isinstance(outcome, Rejected)
    assert outcome.report.findings[0].rule == "too-many-bytes"


def test_a_blob_that_is_too_large_to_be_read_is_a_finding(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.world.git.instead["blobs"] = lambda repository, commit, ids, deadline: ((blob, 500_000_000) for blob in ids)
    outcome = team.sync()
    assert isinstance(outcome, Rejected)
    assert outcome.report.findings[0].rule == "file-too-large"


def test_a_blob_that_two_files_share_is_stored_for_both(team: Team) -> None:
    team.git.commit({A: workflow(1), B: workflow(1)})
    team.sync()
    assert team.numbers() == {A: "workflow-1", B: "workflow-1"}
    blob_ids: list[BlobId] = [item.blob_id for item in team.world.reader.listing(team.repo_id, MAIN).items]
    assert blob_ids[0] == blob_ids[1]


def test_a_webhook_does_not_consume_the_judgement_that_a_changed_registration_asked_for(team: Team) -> None:
    team.git.commit({A: workflow(1), "b.cfg.yaml": workflow(2)})
    team.sync()
    team.change(pattern="*.cfg.yaml")
    team.world.sync.run(team.repo_id, BranchName("main"), budget(), Trigger.WEBHOOK)
    assert team.numbers() == {"b.cfg.yaml": "workflow-2"}
