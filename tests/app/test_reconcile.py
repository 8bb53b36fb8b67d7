"""A sweep makes everything right that no webhook made right."""

from datetime import timedelta
from uuid import uuid4

import pytest
from support.world import Team, World, budget, workflow

from shared.errors import SourceRefused
from shared.model import ABSENT, BranchName, Condition, Decision, Delivery, Event, RefUpdate

A = "a_runtime.yaml"


def test_a_sweep_syncs_what_was_requested(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    summary = team.world.sweep()
    assert (summary.started, summary.is_complete, summary.outcomes) == (True, True, {"Replaced": 1})
    assert team.numbers() == {A: "workflow-1"}


def test_a_lost_webhook_is_made_up_for_and_counted_after_an_hour(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.git.commit({A: workflow(2)})
    assert team.world.sweep().moved == 1
    assert team.numbers() == {A: "workflow-2"}
    assert team.world.journal.overview().missed == 0
    team.world.execute("UPDATE unannounced SET seen_at = seen_at - interval '2 hours'")
    assert team.world.journal.overview().missed == 1


def test_a_webhook_that_comes_after_the_sweep_is_late_and_not_missed(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    commit = team.git.commit({A: workflow(2)})
    team.world.sweep()
    update = RefUpdate(BranchName("main"), ABSENT, commit)
    delivery = Delivery(uuid4(), Decision.REQUESTED, Event("git.push", repo_id=team.repo_id, updates=(update,)))
    team.world.queue.request(delivery, team.repo_id, [BranchName("main")])
    team.world.execute("UPDATE unannounced SET seen_at = seen_at - interval '2 hours'")
    assert team.world.journal.overview().missed == 0


def test_a_sweep_with_nothing_to_do_costs_one_look_at_each_repository_and_then_none(world: World) -> None:
    teams = [world.repository(f"team{n}", branches=("main", "dev")) for n in range(3)]
    for team in teams:
        team.git.commit({A: workflow(1)})
    world.sweep()
    world.make_head_checks_due()
    world.git.calls.clear()
    summary = world.sweep()
    assert (summary.heads_checked, summary.moved, summary.outcomes) == (3, 0, {})
    assert world.git.calls == {"heads": 3}
    world.sweep()
    assert world.git.calls == {"heads": 3}


def test_one_broken_repository_never_delays_another(world: World) -> None:
    teams = [world.repository(f"team{n}") for n in range(4)]
    for team in teams:
        team.git.commit({A: workflow(1)})
    teams[1].drop()
    summary = world.sweep()
    assert summary.outcomes["Replaced"] == 3
    assert [team.numbers() is not None for team in teams] == [True, False, True, True]
    assert teams[1].status().condition is Condition.FETCH_FAILED


def test_a_bug_in_one_sync_does_not_end_the_sweep(world: World) -> None:
    teams = [world.repository(f"team{n}") for n in range(3)]
    for team in teams:
        team.git.commit({A: workflow(1)})
    head = world.git._wrapped.head

    def broken(repository, branch, deadline):
        if repository.name == "team1":
            raise ZeroDivisionError
        return head(repository, branch, deadline)

    world.git.instead["head"] = broken
    summary = world.sweep()
    assert summary.outcomes == {"Replaced": 2, "Failed": 1}
    status = teams[1].status()
    assert (status.condition, status.is_waiting) == (Condition.FETCH_FAILED, True)


def test_every_repository_that_is_due_is_looked_at_whatever_the_planner_thinks(world: World) -> None:
    teams = [world.repository("team0")]
    world.execute("ANALYZE repositories")
    teams += [world.repository(f"team{number}") for number in range(1, 6)]
    world.sweep()
    for team in teams:
        team.git.commit({A: workflow(2)})
    world.make_head_checks_due()
    assert world.sweep().heads_checked == len(teams)
    assert all(team.numbers() == {A: "workflow-2"} for team in teams)


def test_what_was_asked_for_is_synced_before_heads_are_looked_at(world: World) -> None:
    team = world.repository()
    team.git.commit({A: workflow(1)})
    world.sweep()
    world.make_head_checks_due()
    team.ask()
    world.git.order.clear()
    world.sweep()
    assert world.git.order == ["head", "heads"]


def test_a_sweep_that_breaks_gives_its_claim_back_and_does_not_count(team: Team) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    team.world.queue.before["claim_due"].append(broken)
    with pytest.raises(ZeroDivisionError):
        team.world.sweep()
    assert team.world.sweeps.age() is None
    assert team.world.sweep().started


def test_heads_that_cannot_be_read_show_as_the_condition_of_the_branches(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.world.sweep()
    team.drop()
    team.world.make_head_checks_due()
    assert team.world.sweep().heads_failed == 1
    assert team.status().condition is Condition.FETCH_FAILED
    assert team.numbers() == {A: "workflow-1"}


def test_a_source_that_refuses_us_costs_a_handful_of_calls(world: World) -> None:
    teams = [world.repository(f"team{n}") for n in range(20)]
    for team in teams:
        team.git.commit({A: workflow(1)})
    world.sweep()
    world.execute("UPDATE repositories SET source = %s", teams[0].repository.source)

    def refuse(*args: object) -> None:
        raise SourceRefused("The token has expired.")

    world.git.instead["heads"] = world.git.instead["head"] = refuse
    world.git.calls.clear()
    for _ in range(3):
        world.make_head_checks_due()
        world.sweep()
    assert world.git.calls.total() <= 3  # one for each worker of the first sweep
    world.git.instead.clear()
    world.execute("UPDATE sources SET paused_until = clock_timestamp()")
    teams[0].git.commit({A: workflow(2)})
    for team in teams:
        team.ask()
    world.sweep()
    assert {frozenset(team.numbers().values()) for team in teams} == {frozenset({"workflow-2"})}


def test_only_one_sweep_runs_at_a_time(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    inner = []
    team.world.git.before["head"].append(lambda: inner.append(team.world.sweep()))
    outer = team.world.sweep()
    assert (outer.started, [summary.started for summary in inner]) == (True, [False])


def test_a_sweep_that_died_does_not_keep_others_out_for_ever(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.world.sweeps.begin(uuid4(), "timer", timedelta(minutes=4))
    assert not team.world.sweep().started
    team.world.execute("UPDATE sweeps SET lease_until = clock_timestamp() - interval '1 second'")
    assert team.world.sweep().started


def test_no_step_begins_after_the_budget(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    summary = team.world.sweep(seconds=0)
    assert (summary.is_complete, summary.outcomes, team.served()) == (False, {}, None)
    assert team.world.sweep().outcomes == {"Replaced": 1}


class TestTakeAlong:
    """A webhook does the timer's work when the timer has not been seen for long."""

    def test_an_overdue_sweep_is_helped(self, team: Team) -> None:
        team.world.sweep()
        team.git.commit({A: workflow(1)})
        team.ask()
        team.world.execute("UPDATE sweeps SET ended_at = ended_at - interval '10 minutes'")
        team.world.reconcile.take_along(budget().deadline)
        assert team.numbers() == {A: "workflow-1"}

    def test_a_timer_that_runs_is_left_alone(self, team: Team) -> None:
        team.world.sweep()
        team.git.commit({A: workflow(1)})
        team.ask()
        team.world.reconcile.take_along(budget().deadline)
        assert team.served() is None

    def test_its_trouble_is_not_the_senders(self, team: Team) -> None:
        team.world.pool.close()
        team.world.reconcile.take_along(budget().deadline)


@pytest.mark.parametrize("days", [40, 20])
def test_what_is_older_than_the_retention_is_dropped(team: Team, days: int) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.world.execute("UPDATE syncs SET ended_at = ended_at - make_interval(days => %s)", days)
    team.world.sweep()
    assert team.outcomes() == ([] if days == 40 else ["replaced"])
