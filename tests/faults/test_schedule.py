"""What is left over is done by somebody, in time, and by nobody in vain: the timer, back-offs, sources in trouble."""

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from support.stores import Store
from support.web import ADMIN_KEY, GUID, HOOK_KEY, Api, bearer
from support.world import MAIN, Team, World, budget, workflow

from shared.errors import DatabaseUnavailable, SourceRefused, SourceThrottled
from shared.model import (
    ABSENT,
    Budget,
    Condition,
    Deadline,
    Decision,
    DeferReason,
    Deferred,
    Delivery,
    Event,
    Failed,
    Outcome,
    RefUpdate,
    Replaced,
    Unchanged,
)

A = "a_runtime.yaml"


def refuse(*arguments: object) -> Any:
    raise SourceRefused("The token has expired.", hint="Renew it.")


TIME_IS_OVER = threading.Event()


class ToldSo(Deadline):
    """It is over when the test says so."""

    @property
    def remaining(self) -> float:
        return 0.0 if TIME_IS_OVER.is_set() else 60.0


def workers() -> set[threading.Thread]:
    """The threads that are there now, without those that the pool of connections keeps."""
    return {
        thread
        for thread in threading.enumerate()
        if not isinstance(thread, threading.Timer) and not thread.name.startswith("runtime-store")
    }


class TestADeliveryWhoseTimeIsOver:
    @pytest.fixture
    def outcome(self, team: Team) -> Outcome:
        """Of one whose time ends while its files are fetched."""
        team.world.sweep()
        team.git.commit({A: workflow(1)})
        TIME_IS_OVER.clear()
        team.world.git.after["blobs"].append(TIME_IS_OVER.set)
        self.before = workers()
        event = Event("git.push", repo_id=team.repo_id, updates=(RefUpdate(MAIN, ABSENT, team.git.head("main")),))
        return team.world.intake.receive(event, Budget(ToldSo.after(timedelta(minutes=1)))).outcomes[MAIN]

    def test_it_stops_and_leaves_the_rest_to_the_timer(self, team: Team, outcome: Outcome) -> None:
        assert isinstance(outcome, Deferred)
        assert outcome.reason is DeferReason.BUDGET
        assert (team.served(), team.status().is_waiting) == (None, True)
        assert team.world.sweep().outcomes == {"Replaced": 1}

    def test_nothing_of_it_goes_on_after_the_answer(self, team: Team, outcome: Outcome) -> None:
        assert workers() <= self.before
        assert not team.status().syncing


class TestATimerThatStopped:
    @pytest.fixture
    def api(self, world: World) -> Api:
        return Api(world.wsgi(), ADMIN_KEY)

    @pytest.mark.parametrize("caller", ["a webhook", "a person"])
    def test_whoever_calls_does_some_of_its_work(self, world: World, api: Api, store: Store, caller: str) -> None:
        world.sweep()
        other, waiting = world.repository("other", repo_id=GUID), world.repository("waiting")
        waiting.git.commit({A: workflow(1)})
        store.sql("UPDATE sweeps SET ended_at = ended_at - interval '4 minutes'")
        if caller == "a webhook":
            event = {"eventType": "git.push", "resource": {"repository": {"id": GUID}}}
            answer = api.post("/webhooks/azure-devops", json=event, headers=bearer(HOOK_KEY))
        else:
            answer = api.post(f"/repositories/{other.repo_id}/sync")
        assert answer.status_code == 200
        assert waiting.numbers() == {A: "workflow-1"}

    def test_two_that_find_it_so_do_not_double_each_other(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        seconds: list[bool] = []
        team.world.git.before["head"].append(lambda: seconds.append(team.world.sweep().started))
        assert team.world.sweep().started
        assert seconds == [False]
        assert team.outcomes() == ["replaced"]


class Killed(BaseException):
    """No outcome, no clean-up: as if the process was killed."""


def die() -> None:
    raise Killed


class TestBackOff:
    def test_a_branch_that_kills_its_worker_is_not_the_first_in_the_queue_for_ever(
        self, world: World, store: Store
    ) -> None:
        teams = [world.repository(name) for name in ("one", "another")]
        for team in teams:
            team.git.commit({A: workflow(1)})
        world.git.before["head"].append(die)
        with pytest.raises(Killed):
            world.sync.run_due(budget())
        store.expire_leases()
        healthy, killer = sorted(teams, key=lambda team: team.status().attempts)
        assert (healthy.status().attempts, killer.status().attempts) == (0, 1)
        assert world.sync.run_due(budget())
        assert healthy.numbers() == {A: "workflow-1"}
        assert world.sync.run_due(budget()) is None
        assert killer.status().is_waiting
        world.let_back_off_pass()
        assert world.sync.run_due(budget())
        assert killer.numbers() == {A: "workflow-1"}
        assert (killer.status().attempts, killer.status().next_attempt_at) == (0, None)

    def test_what_is_due_longest_goes_first_and_what_never_failed_before_all(self, world: World, store: Store) -> None:
        for name, minutes in (("a", 1), ("b", 5), ("c", None)):
            team = world.repository(name)
            team.git.commit({A: workflow(1)})
            due = "UPDATE branches SET next_attempt_at = clock_timestamp() - make_interval(mins => %s)"
            store.sql(f"{due} WHERE repo_id = %s", minutes, team.repo_id)
        order = [done[0].repo_id for _ in range(3) if (done := world.sync.run_due(budget()))]
        assert order == ["id-c", "id-b", "id-a"]

    def test_the_longest_is_a_quarter_of_an_hour(self, team: Team, store: Store) -> None:
        team.drop()
        store.sql("UPDATE branches SET attempts = 30")
        assert isinstance(team.sync(), Failed)
        [(wait,)] = store.sql("SELECT next_attempt_at - clock_timestamp() FROM branches")
        assert timedelta(minutes=7) < wait <= timedelta(minutes=15)


class TestASourceInTrouble:
    def test_it_is_paused_for_every_process_and_a_person_may_probe_it(self, team: Team) -> None:
        world = team.world
        team.git.commit({A: workflow(1)})
        world.git.instead["head"] = refuse
        assert isinstance(team.sync(), Failed)
        status = team.status()
        assert (status.condition, status.message) == (
            Condition.AUTHENTICATION_FAILED,
            "The token has expired. Renew it.",
        )
        other = World(world.pool, world.folder)
        world.let_back_off_pass()
        for process in (world, other):
            process.git.calls.clear()
            process.sweep()
            paused = Team(process, team.git, team.repository).sync()
            assert isinstance(paused, Deferred)
            assert paused.reason is DeferReason.SOURCE_PAUSED
            assert process.git.calls == {}
        world.git.instead.clear()
        assert isinstance(team.run(probe=True), Replaced)
        assert isinstance(Team(other, team.git, team.repository).sync(), Unchanged)

    def test_one_that_throttles_us_is_left_alone_for_as_long_as_it_says(self, team: Team) -> None:
        def throttle(*arguments: object) -> Any:
            raise SourceThrottled("Too many requests.", retry_after=timedelta(minutes=7))

        team.world.git.instead["head"] = throttle
        team.sync()
        status = team.status()
        assert status.condition is Condition.THROTTLED
        assert status.next_attempt_at
        assert timedelta(minutes=6) < status.next_attempt_at - status.since < timedelta(minutes=8)

    def test_after_its_pause_one_probe_goes_and_its_success_makes_all_due(self, world: World, store: Store) -> None:
        team = world.repository(branches=("main", "dev", "test"))
        for branch in ("main", "dev", "test"):
            team.git.commit({A: workflow(1)}, branch=branch)
        world.git.instead["head"] = refuse
        world.sync.run_due(budget())
        store.end_pauses()
        world.git.instead.clear()
        world.let_back_off_pass()
        later = "UPDATE branches SET next_attempt_at = clock_timestamp() + interval '1 hour'"
        meanwhile: list[object] = []
        world.git.before["head"].append(lambda: meanwhile.append(world.sync.run_due(budget())))
        world.git.after["head"].append(lambda: store.sql(later + " WHERE lease_id IS NULL"))
        assert world.sync.run_due(budget())
        assert meanwhile == [None]
        assert world.sweep().outcomes == {"Replaced": 2}

    def test_a_probe_whose_source_cannot_be_resumed_has_ended_well_all_the_same(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.world.queue.pause_source(team.repository.source, SourceRefused("The token has expired."))

        def lose_the_connection() -> None:
            raise DatabaseUnavailable("The connection is gone.")

        team.ask()
        team.world.queue.before["resume_source"].append(lose_the_connection)
        assert isinstance(team.run(probe=True), Replaced)


@pytest.mark.parametrize("first", ["the sweep", "the webhook"])
def test_a_push_whose_webhook_came_around_the_sweep_that_saw_it_was_not_missed(
    team: Team, store: Store, first: str
) -> None:
    team.git.commit({A: workflow(1)})
    team.world.sweep()
    commit = team.git.commit({A: workflow(2)})
    event = Event("git.push", repo_id=team.repo_id, updates=(RefUpdate(MAIN, ABSENT, commit),))

    def webhook() -> None:
        team.world.queue.request(Delivery(uuid4(), Decision.REQUESTED, event), team.repo_id, [MAIN])

    def sweep() -> None:
        team.world.sweeps.moved(team.repo_id, {MAIN: commit})

    for step in (sweep, webhook) if first == "the sweep" else (webhook, sweep):
        step()
    store.sql("UPDATE unannounced SET seen_at = seen_at - interval '2 hours'")
    assert team.world.journal.overview().missed == 0
