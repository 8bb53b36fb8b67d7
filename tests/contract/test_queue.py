"""What `ports.Queue` promises."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from support.stores import (
    BROKEN,
    MAIN,
    PATIENCE,
    REPO,
    RULES,
    SOURCE,
    Store,
    at_once,
    commit,
    config,
    delivery,
    judgement,
    started,
)

from shared.errors import ClaimLost, DatabaseUnavailable, SourceFailed, SourceRefused, SourceThrottled
from shared.model import (
    BranchName,
    BranchStatus,
    Change,
    Claim,
    Condition,
    DeferReason,
    Deferred,
    Failed,
    Finding,
    RefUpdate,
    RepoId,
    Report,
    Severity,
    SourceName,
    SyncId,
    Trigger,
)
from shared.postgres.queue import BACK_OFF, BACK_OFF_CAP, LEASE, SOURCE_PAUSE, PostgresQueue

BROKE = Failed(SourceFailed("broken"))
STOPPED = Deferred(DeferReason.BUDGET, "no time")
TAKE_LEASE = "UPDATE branches SET lease_id = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 day'"


def refusal(store: Store, branch: str = MAIN, repo_id: str = REPO, **more: bool) -> DeferReason:
    refused = store.queue.claim(RepoId(repo_id), BranchName(branch), SyncId(uuid4()), Trigger.WEBHOOK, **more)
    assert isinstance(refused, Deferred), refused
    return refused.reason


def status(store: Store, branch: str = MAIN, repo_id: str = REPO) -> BranchStatus:
    return next(status for status in store.queue.status(RepoId(repo_id)) if status.branch == branch)


def suspend(store: Store, reason: str | None = "moving house", repo_id: str = REPO) -> None:
    current = store.registry.get(RepoId(repo_id))
    changed = replace(current.registration, suspended=reason)
    store.registry.put(RepoId(repo_id), changed, expected=current.revision)


def expire_lease(store: Store) -> None:
    store.sql("UPDATE branches SET lease_until = clock_timestamp() - interval '1 second' WHERE lease_id IS NOT NULL")


def end_pause(store: Store) -> None:
    store.sql("UPDATE sources SET paused_until = clock_timestamp() - interval '1 second'")


def due_in(status: BranchStatus) -> timedelta:
    assert status.next_attempt_at is not None
    return status.next_attempt_at - datetime.now(UTC)


def finish(store: Store, *branches: str, repo_id: str = REPO) -> None:
    for branch in branches or (MAIN,):
        store.sync({"a.yaml": 1}, branch=branch, repo_id=repo_id)


class TestRequest:
    def test_each_request_of_a_branch_gets_the_next_number(self, store: Store) -> None:
        store.register(REPO, "main", "release")
        first = store.queue.request(delivery(), REPO, [MAIN])
        second = store.queue.request(delivery(), REPO, [BranchName("release"), MAIN])
        assert first.requests == {"main": 2}
        assert second.requests == {"main": 3, "release": 2}
        assert status(store).requested == 3

    def test_a_branch_named_twice_is_requested_once(self, store: Store) -> None:
        store.register()
        assert store.queue.request(delivery(), REPO, [MAIN, MAIN]).requests == {"main": 2}

    def test_the_delivery_is_returned_as_it_is_kept(self, store: Store) -> None:
        store.register()
        update = RefUpdate(MAIN, commit(1), commit(2))
        sent = delivery(update, repo_id=REPO, pushed_by="Ada", push_id=7)
        received = store.queue.request(sent, REPO, [MAIN])
        assert received == replace(sent, requests={"main": 2}, received_at=received.received_at)
        assert received.received_at is not None
        assert store.journal.deliveries(REPO, 9) == [received]

    def test_an_unregistered_repository_gets_no_request_and_its_delivery_is_kept(self, store: Store) -> None:
        received = store.queue.request(delivery(), RepoId("nobody"), [MAIN])
        assert received.requests == {}
        assert store.journal.deliveries(RepoId("nobody"), 9) == [received]
        assert store.state("branches") == {"branches": []}

    def test_a_delivery_without_a_repository_is_kept(self, store: Store) -> None:
        received = store.queue.request(delivery(), None, [])
        assert store.sql("SELECT delivery_id, repo_id FROM deliveries") == [(received.delivery_id, None)]

    def test_a_delivery_that_cannot_be_recorded_requests_nothing(self, store: Store) -> None:
        store.register()
        sent = store.queue.request(delivery(), REPO, [MAIN])
        with pytest.raises(DatabaseUnavailable):
            store.queue.request(sent, REPO, [MAIN])
        assert status(store).requested == 2

    def test_text_that_the_database_cannot_hold_does_not_lose_the_delivery(self, store: Store) -> None:
        store.register()
        odd = delivery(RefUpdate(BranchName("\ud800"), commit(1), commit(2)), pushed_by="A\0da", problem="\udcff")
        assert store.queue.request(odd, REPO, [MAIN]).requests == {"main": 2}
        [kept] = store.journal.deliveries(REPO, 9)
        assert (kept.event.pushed_by, kept.event.problem) == ("A\ufffdda", "\ufffd")

    def test_it_makes_a_branch_in_back_off_due(self, store: Store) -> None:
        store.register()
        store.queue.settle(store.claim(), BROKE)
        assert store.due() is None
        store.queue.request(delivery(), REPO, [MAIN])
        assert store.due() is not None

    def test_all_heads_makes_every_head_check_due(self, store: Store) -> None:
        for repo_id in ("one", "two"):
            store.register(repo_id)
        assert len(store.sweeps.claim_head_checks(9)) == 2
        store.queue.request(delivery(), None, [])
        assert store.sweeps.claim_head_checks(9) == []
        store.queue.request(delivery(), None, [], all_heads=True)
        assert len(store.sweeps.claim_head_checks(9)) == 2


class TestAsk:
    def test_it_requests_without_a_delivery(self, store: Store) -> None:
        store.register(REPO, "main", "release")
        finish(store, "main", "release")
        store.queue.ask(REPO, [MAIN])
        assert (status(store).requested, status(store).is_waiting) == (2, True)
        assert not status(store, "release").is_waiting
        assert store.state("deliveries") == {"deliveries": []}

    def test_an_unregistered_repository_gets_none(self, store: Store) -> None:
        store.queue.ask(RepoId("nobody"), [MAIN])
        store.queue.ask(RepoId("nobody"), [MAIN], deep=True)
        assert store.state("branches") == {"branches": []}

    def test_deep_is_no_request_and_makes_the_next_claim_deep(self, store: Store) -> None:
        store.register()
        finish(store)
        store.queue.ask(REPO, [MAIN], deep=True)
        assert not status(store).is_waiting
        claim = store.due()
        assert claim is not None
        assert claim.deep
        store.configs.replace(claim, judgement(2), Change(), serve=commit(2))
        assert not store.claim().deep
        assert store.due() is None

    def test_deep_lets_a_push_go_first_and_stays_asked_for(self, store: Store) -> None:
        store.register()
        finish(store)
        store.queue.ask(REPO, [MAIN], deep=True)
        store.queue.request(delivery(), REPO, [MAIN])
        push = store.due()
        assert push is not None
        assert not push.deep
        store.configs.replace(push, judgement(2), Change(), serve=commit(2))
        deep = store.due()
        assert deep is not None
        assert deep.deep

    def test_deep_survives_a_failure_and_a_deferral(self, store: Store) -> None:
        store.register()
        finish(store)
        store.queue.ask(REPO, [MAIN], deep=True)
        for outcome in (STOPPED, BROKE):
            store.queue.settle(store.claim(), outcome)
            assert store.claim().deep
            expire_lease(store)

    def test_asked_while_a_deep_sync_runs_it_is_asked_for_no_more_once_that_ended(self, store: Store) -> None:
        store.register()
        finish(store)
        store.queue.ask(REPO, [MAIN], deep=True)
        claim = store.claim()
        store.queue.ask(REPO, [MAIN], deep=True)
        store.configs.replace(claim, judgement(2), Change(), serve=commit(2))
        assert store.due() is None


class TestClaim:
    def test_it_says_what_the_branch_was(self, store: Store) -> None:
        store.register()
        report = Report((BROKEN,), omitted=3)
        served = store.sync({"a.yaml": 1})
        store.queue.request(delivery(), REPO, [MAIN])
        rejected = judgement(2, report=report)
        store.configs.replace(store.claim(), rejected, Change(), serve=commit(1), accepted=False)
        store.queue.request(delivery(), REPO, [MAIN])
        sync_id = SyncId(uuid4())
        claim = store.queue.claim(REPO, MAIN, sync_id, Trigger.MANUAL)
        assert claim == Claim(
            sync_id=sync_id,
            repo_id=REPO,
            branch=MAIN,
            trigger=Trigger.MANUAL,
            seen=3,
            finished=2,
            deep=False,
            generation=served.generation,
            commit_id=commit(1),
            judged_commit=commit(2),
            judged_tree=rejected.tree_id,
            judged_ruleset=RULES,
            report=report,
            started_at=claim.started_at if isinstance(claim, Claim) else datetime.min,
            source_paused=False,
        )

    def test_a_second_one_is_busy(self, store: Store) -> None:
        store.register()
        store.claim()
        assert refusal(store) is DeferReason.BUSY
        assert refusal(store, probe=True) is DeferReason.BUSY

    def test_of_many_at_once_one_gets_it(self, store: Store) -> None:
        store.register()
        results = at_once(*[lambda: store.queue.claim(REPO, MAIN, SyncId(uuid4()), Trigger.WEBHOOK) for _ in range(8)])
        assert sum(isinstance(result, Claim) for result in results) == 1
        assert sum(isinstance(result, Deferred) and result.reason is DeferReason.BUSY for result in results) == 7

    def test_one_that_came_too_late_is_busy_even_when_the_other_has_just_ended(self, store: Store) -> None:
        store.register()
        with store.transaction() as execute:
            execute(
                "UPDATE branches SET lease_id = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 day'"
            )
            late = started(lambda: store.queue.claim(REPO, MAIN, SyncId(uuid4()), Trigger.WEBHOOK))
            store.wait_for_lock()
        assert late.result(PATIENCE) == store.queue.claim(REPO, MAIN, SyncId(uuid4()), Trigger.WEBHOOK)

    def test_an_expired_lease_can_be_taken_over_and_the_old_holder_has_lost(self, store: Store) -> None:
        store.register()
        old = store.claim()
        expire_lease(store)
        new = store.claim()
        before = store.state()
        for write in (
            lambda: store.queue.renew(old),
            lambda: store.queue.settle(old, BROKE),
            lambda: store.queue.settle(old, STOPPED),
            lambda: store.configs.replace(old, judgement(1), Change((config("a.yaml", 1),)), serve=commit(1)),
        ):
            with pytest.raises(ClaimLost):
                write()
        assert store.state() == before
        store.queue.renew(new)

    def test_suspended_paused_unknown_and_gone_are_told_apart(self, store: Store) -> None:
        store.register()
        store.register("resting", suspended="moving house")
        store.register("paused", source=SourceName("down"))
        store.queue.pause_source(SourceName("down"), SourceFailed("no answer"))
        before = store.state()
        assert refusal(store, "unknown") is DeferReason.NOT_NAMED
        assert refusal(store, repo_id="resting") is DeferReason.SUSPENDED
        assert refusal(store, repo_id="resting", probe=True) is DeferReason.SUSPENDED
        assert refusal(store, repo_id="paused") is DeferReason.SOURCE_PAUSED
        assert refusal(store, repo_id="nobody") is DeferReason.REPOSITORY_GONE
        assert store.state() == before, "Deferred wrote something"

    def test_the_refusal_says_why_somebody_suspended_or_the_source_is_paused(self, store: Store) -> None:
        store.register(suspended="moving house")
        store.register("paused", source=SourceName("down"))
        store.queue.pause_source(SourceName("down"), SourceFailed("no answer"))
        told = [
            store.queue.claim(RepoId(repo_id), MAIN, SyncId(uuid4()), Trigger.MANUAL) for repo_id in (REPO, "paused")
        ]
        assert [isinstance(one, Deferred) and one.message.split(": ")[1] for one in told] == [
            "moving house",
            "no answer",
        ]

    def test_a_probe_claims_where_the_source_is_paused(self, store: Store) -> None:
        store.register()
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        claim = store.claim(probe=True)
        assert claim.source_paused
        store.queue.settle(claim, STOPPED)
        end_pause(store)
        assert store.claim().source_paused

    def test_it_counts_the_attempt_and_sets_the_next_by_back_off_before_any_work(self, store: Store) -> None:
        store.register()
        for attempt in range(1, 11):
            claimed = datetime.now(UTC)
            store.claim()
            now = status(store)
            assert now.attempts == attempt
            assert now.next_attempt_at is not None
            full = min(BACK_OFF * 2 ** (attempt - 1), BACK_OFF_CAP)
            assert full * 0.5 <= now.next_attempt_at - claimed <= full + timedelta(seconds=2)
            expire_lease(store)
        assert store.due() is None, "a branch that kills its worker waits its turn"

    def test_a_finished_sync_starts_the_count_anew(self, store: Store) -> None:
        store.register()
        store.claim()
        expire_lease(store)
        finish(store)
        assert (status(store).attempts, status(store).next_attempt_at) == (0, None)


class TestClaimDue:
    def test_none_when_nothing_is_asked_for(self, store: Store) -> None:
        assert store.due() is None
        store.register()
        finish(store)
        assert store.due() is None

    def test_it_is_a_claim_like_any_other(self, store: Store) -> None:
        store.register()
        claim = store.due()
        assert claim is not None
        assert (claim.trigger, claim.seen, claim.source_paused) == (Trigger.SWEEP, 1, False)
        assert status(store).attempts == 1
        assert refusal(store) is DeferReason.BUSY
        assert store.configs.replace(claim, judgement(1), Change(), serve=commit(1)).more is False

    def test_fresh_requests_go_first_then_what_is_due_longest(self, store: Store) -> None:
        store.register(REPO, "fresh", "long", "short", "later")
        for branch, minutes in (("long", -9), ("short", -1), ("later", 1)):
            store.sql(
                "UPDATE branches SET next_attempt_at = clock_timestamp() + %s WHERE branch = %s",
                timedelta(minutes=minutes),
                branch,
            )
        claims = [store.due() for _ in range(4)]
        assert [claim and claim.branch for claim in claims] == ["fresh", "long", "short", None]

    def test_leased_branches_are_skipped_until_the_lease_ends(self, store: Store) -> None:
        store.register()
        first = store.claim()
        store.queue.request(delivery(), REPO, [MAIN])
        assert store.due() is None
        expire_lease(store)
        second = store.due()
        assert second is not None
        assert second.sync_id != first.sync_id

    def test_suspended_repositories_are_skipped(self, store: Store) -> None:
        store.register()
        suspend(store)
        assert store.due() is None
        suspend(store, None)
        assert store.due() is not None

    def test_paused_sources_are_skipped_and_others_are_not(self, store: Store) -> None:
        store.register()
        store.register("other", source=SourceName("elsewhere"))
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        claims = [store.due(), store.due()]
        assert [claim and claim.repo_id for claim in claims] == ["other", None]

    def test_after_a_pause_one_probe_is_let_through(self, store: Store) -> None:
        store.register(REPO, "a", "b", "c")
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        end_pause(store)
        probe = store.due()
        assert probe is not None
        assert probe.source_paused
        assert store.due() is None
        store.queue.resume_source(SOURCE)
        others = [store.due(), store.due()]
        assert all(other is not None and not other.source_paused for other in others)

    def test_a_probe_that_died_is_followed_by_another(self, store: Store) -> None:
        store.register(REPO, "a", "b")
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        end_pause(store)
        first = store.due()
        end_pause(store)
        second = store.due()
        assert first is not None
        assert second is not None
        assert {first.branch, second.branch} == {"a", "b"}

    def test_who_comes_second_to_a_probe_goes_on_to_another_source(self, store: Store) -> None:
        store.register()
        store.register("other", source=SourceName("elsewhere"))
        store.sql("UPDATE branches SET next_attempt_at = clock_timestamp() WHERE repo_id = 'other'")
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        end_pause(store)
        with store.transaction() as execute:
            execute("UPDATE sources SET paused_until = clock_timestamp() + interval '1 hour'")
            second = started(store.due)
            store.wait_for_lock()
        claim = second.result(PATIENCE)
        assert claim is not None
        assert claim.repo_id == "other"
        assert status(store).attempts == 0

    def test_many_at_once_get_different_branches(self, store: Store) -> None:
        names = [f"branch-{number}" for number in range(20)]
        store.register(REPO, *names)

        def worker() -> Sequence[str]:
            claimed = []
            while (claim := store.due()) is not None:
                claimed.append(claim.branch)
            return claimed

        results = at_once(*[worker for _ in range(6)])
        assert sorted(branch for result in results if isinstance(result, list) for branch in result) == sorted(names)


class TestRenew:
    def test_it_prolongs_the_lease_and_tells_the_requests_until_now(self, store: Store) -> None:
        store.register()
        claim = store.claim()
        assert store.queue.renew(claim) == 1
        store.queue.request(delivery(), REPO, [MAIN])
        store.sql("UPDATE branches SET lease_until = clock_timestamp() + interval '1 second'")
        assert store.queue.renew(claim) == 2
        left = store.branch()["lease_until"] - datetime.now(UTC)
        assert LEASE - timedelta(seconds=5) < left <= LEASE

    def test_an_expired_lease_that_nobody_took_is_good_again(self, store: Store) -> None:
        store.register()
        claim = store.claim()
        expire_lease(store)
        store.queue.renew(claim)
        assert refusal(store) is DeferReason.BUSY


class TestSettle:
    def test_deferred_is_due_now_and_was_no_attempt(self, store: Store) -> None:
        store.register()
        settled = store.queue.settle(store.claim(), STOPPED)
        assert not settled.more
        now = status(store)
        assert (now.attempts, now.is_waiting, now.syncing) == (0, True, False)
        assert due_in(now) <= timedelta()
        assert store.due() is not None

    def test_deferred_leaves_what_people_are_told(self, store: Store) -> None:
        store.register()
        store.queue.settle(store.claim(), BROKE)
        before = status(store)
        store.queue.settle(store.claim(), STOPPED)
        after = status(store)
        assert (after.condition, after.reason, after.message, after.since) == (
            before.condition,
            before.reason,
            before.message,
            before.since,
        )

    def test_failed_is_tried_again_after_a_back_off_that_grows_to_a_cap(self, store: Store) -> None:
        store.register()
        for attempt in range(1, 11):
            store.queue.settle(store.claim(), BROKE)
            now = status(store)
            assert (now.attempts, now.is_waiting) == (attempt, True)
            full = min(BACK_OFF * 2 ** (attempt - 1), BACK_OFF_CAP)
            assert full * 0.5 - timedelta(seconds=2) <= due_in(now) <= full

    def test_the_back_off_has_jitter(self, store: Store) -> None:
        names = [f"branch-{number}" for number in range(30)]
        store.register(REPO, *names)
        queue = PostgresQueue(store.pool, back_off=timedelta(minutes=2))
        for name in names:
            queue.settle(store.claim(name), BROKE)
        waits = [due_in(status).total_seconds() for status in store.queue.status(REPO)]
        assert max(waits) - min(waits) > 20

    def test_a_pause_decides_when_it_is_due(self, store: Store) -> None:
        store.register()
        for outcome in (BROKE, STOPPED):
            store.queue.settle(store.claim(), outcome, pause=timedelta(hours=3))
            assert timedelta(hours=2, minutes=59) < due_in(status(store)) <= timedelta(hours=3)

    @pytest.mark.parametrize("outcome", [BROKE, STOPPED])
    def test_a_request_during_the_sync_is_kept_told_and_due_now(self, store: Store, outcome: Failed | Deferred) -> None:
        store.register()
        claim = store.claim()
        store.queue.request(delivery(), REPO, [MAIN])
        assert store.queue.settle(claim, outcome, pause=timedelta(hours=1)).more
        again = store.due()
        assert again is not None
        assert (again.seen, again.finished) == (2, 0)

    def test_the_failure_of_a_sync_that_nobody_asked_for_is_tried_again(self, store: Store) -> None:
        store.register()
        finish(store)
        store.queue.settle(store.claim(), BROKE)
        assert status(store).is_waiting

    @pytest.mark.parametrize(
        ("error", "condition"),
        [
            (SourceFailed("no route", hint="try later"), Condition.FETCH_FAILED),
            (SourceRefused("no route", hint="try later"), Condition.AUTHENTICATION_FAILED),
            (
                SourceThrottled("no route", retry_after=timedelta(seconds=9), hint="try later"),
                Condition.THROTTLED,
            ),
        ],
    )
    def test_the_condition_names_the_kind_of_failure(
        self, store: Store, error: SourceFailed, condition: Condition
    ) -> None:
        store.register()
        store.queue.settle(store.claim(), Failed(error))
        now = status(store)
        assert (now.condition, now.reason, now.message) == (condition, type(error).__name__, "no route try later")

    def test_since_moves_only_when_the_condition_does(self, store: Store) -> None:
        store.register()
        times = []
        for error in (SourceFailed("a"), SourceFailed("b"), SourceRefused("c")):
            store.queue.settle(store.claim(), Failed(error))
            times.append(status(store).since)
        assert times[0] == times[1] < times[2]
        assert status(store).message == "c"

    def test_what_is_served_and_judged_stays(self, store: Store) -> None:
        store.register()
        finish(store)
        before = status(store)
        store.queue.ask(REPO, [MAIN])
        settled = store.queue.settle(store.claim(), BROKE)
        after = status(store)
        assert settled.generation == before.generation == after.generation
        assert (after.commit_id, after.judged_commit, after.synced_at) == (
            before.commit_id,
            before.judged_commit,
            before.synced_at,
        )
        assert store.served() == {"a.yaml": 1}

    def test_it_is_journalled_with_it(self, store: Store) -> None:
        store.register()
        failed = store.claim()
        store.queue.settle(failed, BROKE)
        deferred = store.claim()
        store.queue.settle(deferred, STOPPED)
        newest, oldest = store.journal.syncs(REPO, MAIN, 9)
        assert (newest.sync_id, newest.outcome, newest.reason, newest.message) == (
            deferred.sync_id,
            "deferred",
            "budget",
            "no time",
        )
        assert (oldest.sync_id, oldest.outcome, oldest.from_request, oldest.to_request) == (
            failed.sync_id,
            "failed",
            0,
            1,
        )
        assert store.configs.ended(failed.sync_id) is not None

    def test_an_expired_claim_that_nobody_took_can_still_settle(self, store: Store) -> None:
        store.register()
        claim = store.claim()
        expire_lease(store)
        store.queue.settle(claim, BROKE)
        assert status(store).condition is Condition.FETCH_FAILED

    def test_it_ends_the_claim(self, store: Store) -> None:
        store.register()
        claim = store.claim()
        store.queue.settle(claim, STOPPED)
        with pytest.raises(ClaimLost):
            store.queue.settle(claim, STOPPED)
        assert len(store.journal.syncs(REPO, MAIN, 9)) == 1

    def test_a_message_that_the_database_cannot_hold_is_told_all_the_same(self, store: Store) -> None:
        store.register()
        store.queue.settle(store.claim(), Failed(SourceFailed("fatal: \udcff\0")))
        assert status(store).message == "fatal: \ufffd\ufffd"


class TestSources:
    def paused_for(self, store: Store) -> timedelta:
        [(left,)] = store.sql("SELECT paused_until - clock_timestamp() FROM sources")
        assert isinstance(left, timedelta)
        return left

    def test_the_pause_doubles_with_each_failure_up_to_a_cap(self, store: Store) -> None:
        for failure in range(8):
            store.queue.pause_source(SOURCE, SourceFailed("no answer"))
            full = min(SOURCE_PAUSE * 2**failure, BACK_OFF_CAP)
            assert full - timedelta(seconds=2) < self.paused_for(store) <= full

    def test_a_given_pause_is_taken_and_never_shortens_one(self, store: Store) -> None:
        store.queue.pause_source(SOURCE, SourceFailed("no answer"), timedelta(hours=2))
        assert timedelta(hours=1, minutes=59) < self.paused_for(store) <= timedelta(hours=2)
        store.queue.pause_source(SOURCE, SourceFailed("no answer"), timedelta(minutes=2))
        assert self.paused_for(store) > timedelta(hours=1, minutes=59)

    def test_success_forgets_the_failures(self, store: Store) -> None:
        for _ in range(3):
            store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        store.queue.resume_source(SOURCE)
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        assert self.paused_for(store) <= SOURCE_PAUSE

    def test_a_reason_that_the_database_cannot_hold_pauses_all_the_same(self, store: Store) -> None:
        store.queue.pause_source(SOURCE, SourceFailed("\udcff"))
        assert store.sql("SELECT reason FROM sources") == [("\ufffd",)]

    def test_resume_makes_its_waiting_branches_due(self, store: Store) -> None:
        store.register(REPO, "failed", "done", "deep", "running", "died")
        store.register("other", source=SourceName("elsewhere"))
        finish(store, "done", "deep")
        store.queue.ask(REPO, [BranchName("deep")], deep=True)
        for branch in ("failed", "deep"):
            store.queue.settle(store.claim(branch), BROKE)
        store.queue.settle(store.claim(repo_id="other"), BROKE)
        store.claim("died")
        expire_lease(store)
        store.claim("running")
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        assert store.due() is None
        store.queue.resume_source(SOURCE)
        claims = [store.due() for _ in range(4)]
        assert {claim.branch for claim in claims if claim} == {"failed", "deep", "died"}
        assert claims[3] is None
        assert store.state("sources") == {"sources": []}

    def test_resuming_one_that_is_not_paused_changes_nothing(self, store: Store) -> None:
        store.register()
        store.queue.settle(store.claim(), BROKE)
        before = store.state()
        store.queue.resume_source(SOURCE)
        assert store.state() == before


class TestStatus:
    def test_it_lists_every_branch_that_was_ever_requested_by_name(self, store: Store) -> None:
        store.register(REPO, "release/1.0", "main", "Main")
        store.register("other")
        assert [status.branch for status in store.queue.status(REPO)] == ["Main", "main", "release/1.0"]
        assert store.queue.status(RepoId("nobody")) == []

    def test_a_new_branch_waits(self, store: Store) -> None:
        store.register()
        now = status(store)
        assert (now.condition, now.reason, now.is_waiting, now.syncing) == ("Syncing", "Requested", True, False)
        assert (now.configs, now.commit_id, now.synced_at, now.judged_commit) == (0, None, None, None)

    def test_a_running_sync_shows(self, store: Store) -> None:
        store.register()
        finish(store)
        store.claim()
        assert (status(store).condition, status(store).syncing) == (Condition.SYNCING, True)
        expire_lease(store)
        assert (status(store).condition, status(store).syncing) == (Condition.READY, False)

    def test_suspension_shows_before_all_else(self, store: Store) -> None:
        store.register()
        suspend(store)
        store.sql(
            "UPDATE branches SET lease_id = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 day'"
        )
        now = status(store)
        assert (now.condition, now.message) == (Condition.SUSPENDED, "moving house")

    def test_a_served_branch_shows_all_that_is_known(self, store: Store) -> None:
        store.register()
        warning = Finding(BROKEN.path, "near-miss", Severity.WARNING, "looks like one")
        report = Report((warning,))
        claim = store.claim()
        change = Change((config("a.yaml", 1), config("b.yaml", 2)))
        settled = store.configs.replace(claim, judgement(7, report=report), change, serve=commit(7))
        now = status(store)
        assert now == BranchStatus(
            repo_id=REPO,
            branch=MAIN,
            condition=Condition.READY,
            reason="Served",
            message="Commit 00000000 is served.",
            since=now.since,
            generation=settled.generation,
            commit_id=commit(7),
            synced_at=now.synced_at,
            judged_commit=commit(7),
            report=report,
            requested=1,
            finished=1,
            syncing=False,
            attempts=0,
            next_attempt_at=None,
            deep_synced_at=now.deep_synced_at,
            configs=2,
        )
        assert None not in (now.synced_at, now.deep_synced_at)
