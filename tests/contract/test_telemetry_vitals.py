"""What is measured in the database: how long a push waited, and how the branches are."""

from datetime import timedelta
from uuid import uuid4

import pytest
from support.world import INVALID, MAIN, Team, World, workflow

from shared.errors import SourceFailed
from shared.model import (
    BranchName,
    Claim,
    Condition,
    Decision,
    Delivery,
    Event,
    Failed,
    Laggard,
    Replaced,
    SyncId,
    Trigger,
    Vitals,
)

HOUR = timedelta(hours=1)


def deliver(team: Team, branch: str = "main", *, ago: timedelta = timedelta()) -> None:
    """A delivery that asks for the branch, so long ago."""
    delivery = Delivery(uuid4(), Decision.REQUESTED, Event("git.push"))
    team.world.queue.request(delivery, team.repo_id, [BranchName(branch)])
    team.world.execute(
        "UPDATE deliveries SET received_at = received_at - %s WHERE delivery_id = %s", ago, delivery.delivery_id
    )
    # A repository was registered before it was announced.
    team.world.execute("UPDATE repositories SET created_at = created_at - %s WHERE repo_id = %s", ago, team.repo_id)


def register_anew(team: Team, later: timedelta) -> None:
    """Remove the repository, and register it again so much later."""
    world, registration = team.world, team.repository.registration
    world.registrar.remove(team.repo_id, expected=team.repository.revision)
    world.execute("UPDATE deliveries SET received_at = received_at - %s", later)
    world.execute("UPDATE syncs SET started_at = started_at - %s, ended_at = ended_at - %s", later, later)
    world.registrar.put(team.repo_id, registration, expected=None)


def claim(team: Team, branch: str = "main") -> Claim:
    found: Claim = team.world.queue.claim(team.repo_id, BranchName(branch), SyncId(uuid4()), Trigger.MANUAL)
    assert isinstance(found, Claim)
    return found


def is_about(age: timedelta | None, expected: timedelta) -> bool:
    return age is not None and expected <= age < expected + timedelta(minutes=5)


# -- How long a push waited ------------------------------------------------------------------------------------------


def test_a_push_waits_since_the_oldest_delivery_that_its_sync_answers(team: Team) -> None:
    deliver(team, ago=2 * HOUR)
    deliver(team, ago=HOUR)
    assert is_about(team.world.queue.waited(claim(team)), 2 * HOUR)


def test_a_delivery_that_was_answered_before_does_not_count(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    deliver(team, ago=2 * HOUR)
    assert isinstance(team.run(), Replaced)
    deliver(team, ago=HOUR)
    assert is_about(team.world.queue.waited(claim(team)), HOUR)


def test_a_delivery_of_another_branch_or_after_the_claim_does_not_count(world: World) -> None:
    team = world.repository(branches=("main", "dev"))
    deliver(team, "dev", ago=2 * HOUR)
    deliver(team, "main", ago=HOUR)
    claimed = claim(team)
    deliver(team, "main", ago=3 * HOUR)
    assert is_about(world.queue.waited(claimed), HOUR)


def test_deliveries_of_an_earlier_registration_do_not_count(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    deliver(team)
    deliver(team)
    register_anew(team, 3 * HOUR)
    team.ask()
    assert isinstance(team.run(), Replaced)
    team.ask()
    assert team.world.journal.vitals(9).laggards == ()
    assert team.world.queue.waited(claim(team)) is None


def test_nobody_waited_for_what_was_not_announced(team: Team) -> None:
    team.ask()
    assert team.world.queue.waited(claim(team)) is None


# -- How the branches are --------------------------------------------------------------------------------------------


def vitals(world: World, laggards: int = 20) -> Vitals:
    return world.journal.vitals(laggards)


def fail(team: Team) -> None:
    team.ask()
    team.world.queue.settle(claim(team), Failed(SourceFailed("down")))


def age_condition(world: World, by: timedelta) -> None:
    world.execute("UPDATE branches SET since = since - %s, synced_at = synced_at - %s", by, 2 * by)


def test_every_condition_is_counted_also_that_of_no_branch(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    team.sync()
    found = vitals(team.world)
    assert found.conditions == {condition: int(condition is Condition.READY) for condition in Condition}
    assert (found.waiting, found.missed, found.laggards) == (0, 0, ())


def test_a_branch_that_is_not_ready_is_told_with_its_age_and_that_of_what_it_serves(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    team.sync()
    team.git.commit({"a-runtime.yaml": INVALID})
    team.sync()
    age_condition(team.world, HOUR)
    (late,) = vitals(team.world).laggards
    assert (late.repository, late.branch, late.condition) == ("team", MAIN, Condition.INVALID)
    assert is_about(late.age, HOUR)
    assert is_about(late.served_age, 2 * HOUR)


def test_one_trouble_after_the_other_is_one_lag_until_it_is_ready(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    team.sync()
    team.git.commit({"a-runtime.yaml": INVALID})
    team.sync()
    age_condition(team.world, HOUR)
    team.world.execute("UPDATE syncs SET ended_at = ended_at - %s", HOUR)
    fail(team)
    (late,) = vitals(team.world).laggards
    assert late.condition is Condition.FETCH_FAILED
    assert is_about(late.age, HOUR)

    team.git.commit({"a-runtime.yaml": workflow(2)})
    team.sync()
    fail(team)
    (late,) = vitals(team.world).laggards
    assert is_about(late.age, timedelta())


def test_what_serves_nothing_has_no_age(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": INVALID})
    team.sync()
    assert [late.served_age for late in vitals(team.world).laggards] == [None]


def test_a_ready_branch_that_syncs_again_is_behind_since_its_delivery(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    team.sync()
    age_condition(team.world, 24 * HOUR)
    deliver(team, ago=HOUR)
    (late,) = vitals(team.world).laggards
    assert late.condition is Condition.SYNCING
    assert is_about(late.age, HOUR)
    assert vitals(team.world).waiting == 1


def test_a_deep_sync_of_a_ready_branch_is_no_lag(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    team.sync()
    age_condition(team.world, 24 * HOUR)
    team.ask(deep=True)
    claim(team)
    assert vitals(team.world).conditions[Condition.SYNCING] == 1
    assert vitals(team.world).laggards == ()


def test_a_suspended_branch_is_counted_and_is_no_lag(team: Team) -> None:
    fail(team)
    team.change(suspended="moving")
    found = vitals(team.world)
    assert found.conditions[Condition.SUSPENDED] == 1
    assert found.laggards == ()


def test_of_many_the_longest_are_told(world: World) -> None:
    for number, name in enumerate(("a", "b", "c")):
        team = world.repository(name)
        fail(team)
        by = timedelta(hours=number)
        world.execute("UPDATE branches SET since = since - %s WHERE repo_id = %s", by, team.repo_id)
    late: tuple[Laggard, ...] = vitals(world, laggards=2).laggards
    assert [one.repository for one in late] == ["c", "b"]


@pytest.mark.parametrize(("hours", "missed"), [(0.5, 0), (2, 1), (23, 1), (25, 0)])
def test_a_lost_delivery_is_missed_from_an_hour_until_a_day_after(team: Team, hours: float, missed: int) -> None:
    team.world.sweeps.moved(team.repo_id, {MAIN: team.git.commit({"a-runtime.yaml": workflow()})})
    team.world.execute("UPDATE unannounced SET seen_at = seen_at - %s", timedelta(hours=hours))
    assert vitals(team.world).missed == missed


def test_a_branch_is_not_behind_since_a_failure_of_an_earlier_registration(team: Team) -> None:
    team.git.commit({"a-runtime.yaml": INVALID})
    team.ask()
    team.run()
    register_anew(team, 3 * HOUR)
    team.ask()
    team.run()
    (laggard,) = team.world.journal.vitals(9).laggards
    assert laggard.age < HOUR
