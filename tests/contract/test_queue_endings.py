"""What `ports.Queue` promises about running and ended syncs, sources, and what it tells of them."""

from datetime import UTC, datetime, timedelta

import pytest
from support.stores import (
    BROKEN,
    MAIN,
    REPO,
    SOURCE,
    Store,
    commit,
    config,
    delivery,
    judgement,
)

from shared.errors import ClaimLost, SourceFailed, SourceRefused, SourceThrottled
from shared.model import (
    BranchName,
    BranchStatus,
    Change,
    Condition,
    DeferReason,
    Deferred,
    Failed,
    Finding,
    RepoId,
    Report,
    Severity,
    SourceName,
)
from shared.postgres.queue import BACK_OFF, BACK_OFF_CAP, LEASE, SOURCE_PAUSE, PostgresQueue

BROKE = Failed(SourceFailed("broken"))
THROTTLED = SourceThrottled("slow down", retry_after=timedelta(seconds=1))
STOPPED = Deferred(DeferReason.BUDGET, "no time")
TAKE_LEASE = "UPDATE branches SET lease_id = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 day'"


def due_in(status: BranchStatus) -> timedelta:
    assert status.next_attempt_at is not None
    return status.next_attempt_at - datetime.now(UTC)


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
        store.expire_leases()
        store.queue.renew(claim)
        assert store.refusal() is DeferReason.BUSY


class TestSettle:
    def test_deferred_is_due_now_and_was_no_attempt(self, store: Store) -> None:
        store.register()
        settled = store.queue.settle(store.claim(), STOPPED)
        assert not settled.more
        now = store.status()
        assert (now.attempts, now.is_waiting, now.syncing) == (0, True, False)
        assert due_in(now) <= timedelta()
        assert store.due() is not None

    def test_deferred_leaves_what_people_are_told(self, store: Store) -> None:
        store.register()
        store.queue.settle(store.claim(), BROKE)
        before = store.status()
        store.queue.settle(store.claim(), STOPPED)
        after = store.status()
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
            now = store.status()
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
            assert timedelta(hours=2, minutes=59) < due_in(store.status()) <= timedelta(hours=3)

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
        store.finish()
        store.queue.settle(store.claim(), BROKE)
        assert store.status().is_waiting

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
        now = store.status()
        assert (now.condition, now.reason, now.message) == (condition, type(error).__name__, "no route. try later.")

    def test_since_moves_only_when_the_condition_does(self, store: Store) -> None:
        store.register()
        times = []
        for error in (SourceFailed("a"), SourceFailed("b"), SourceRefused("c")):
            store.queue.settle(store.claim(), Failed(error))
            times.append(store.status().since)
        assert times[0] == times[1] < times[2]
        assert store.status().message == "c"

    def test_what_is_served_and_judged_stays(self, store: Store) -> None:
        store.register()
        store.finish()
        before = store.status()
        store.queue.ask(REPO, [MAIN])
        settled = store.queue.settle(store.claim(), BROKE)
        after = store.status()
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
        store.expire_leases()
        store.queue.settle(claim, BROKE)
        assert store.status().condition is Condition.FETCH_FAILED

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
        assert store.status().message == "fatal: \ufffd\ufffd"


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
            store.end_pauses()

    def test_what_was_on_its_way_when_the_pause_began_does_not_prolong_it(self, store: Store) -> None:
        for _ in range(8):
            store.queue.pause_source(SOURCE, SourceRefused("The token has expired."))
        assert self.paused_for(store) <= SOURCE_PAUSE

    def test_the_probe_that_fails_does(self, store: Store) -> None:
        store.register()
        store.queue.pause_source(SOURCE, SourceRefused("The token has expired."))
        store.end_pauses()
        probe = store.due()
        assert probe is not None
        store.queue.pause_source(SOURCE, SourceRefused("It still has."), until=probe.paused_until)
        assert store.sql("SELECT failures FROM sources") == [(2,)]

    def test_a_refusal_during_a_short_wish_is_a_failure(self, store: Store) -> None:
        store.queue.pause_source(SOURCE, THROTTLED, timedelta(seconds=1))
        store.queue.pause_source(SOURCE, SourceRefused("The token has expired."))
        assert self.paused_for(store) > timedelta(seconds=20)

    def test_a_given_pause_is_taken_and_never_shortens_one(self, store: Store) -> None:
        store.queue.pause_source(SOURCE, SourceFailed("no answer"), timedelta(hours=2))
        assert timedelta(hours=1, minutes=59) < self.paused_for(store) <= timedelta(hours=2)
        store.queue.pause_source(SOURCE, SourceFailed("no answer"), timedelta(minutes=2))
        assert self.paused_for(store) > timedelta(hours=1, minutes=59)

    def test_success_forgets_the_failures(self, store: Store) -> None:
        for _ in range(3):
            store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        store.end_pauses()
        store.queue.resume_source(SOURCE)
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        assert self.paused_for(store) <= SOURCE_PAUSE

    def test_a_reason_that_the_database_cannot_hold_pauses_all_the_same(self, store: Store) -> None:
        store.queue.pause_source(SOURCE, SourceFailed("\udcff"))
        assert store.sql("SELECT reason FROM sources") == [("\ufffd",)]

    def test_resume_makes_its_waiting_branches_due(self, store: Store) -> None:
        store.register(REPO, "failed", "done", "deep", "running", "died")
        store.register("other", source=SourceName("elsewhere"))
        store.finish("done", "deep")
        store.queue.ask(REPO, [BranchName("deep")], deep=True)
        for branch in ("failed", "deep"):
            store.queue.settle(store.claim(branch), BROKE)
        store.queue.settle(store.claim(repo_id="other"), BROKE)
        store.claim("died")
        store.expire_leases()
        store.claim("running")
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        assert store.due() is None
        store.end_pauses()
        store.queue.resume_source(SOURCE)
        claims = [store.due() for _ in range(4)]
        assert {claim.branch for claim in claims if claim} == {"failed", "deep", "died"}
        assert claims[3] is None
        assert store.state("sources") == {"sources": []}

    def test_a_wish_that_came_with_an_answer_outlives_the_probe(self, store: Store) -> None:
        store.register()
        store.queue.pause_source(SOURCE, SourceRefused("c"))
        store.end_pauses()
        probe = store.due()
        assert probe
        assert probe.paused_until
        store.queue.pause_source(SOURCE, THROTTLED, timedelta(seconds=1))
        store.queue.resume_source(SOURCE, probe.paused_until)
        assert self.paused_for(store) > timedelta(seconds=60)

    def test_a_wish_is_no_failure(self, store: Store) -> None:
        for _ in range(5):
            store.queue.pause_source(SOURCE, THROTTLED, timedelta(seconds=1))
        store.queue.pause_source(SOURCE, SourceRefused("c"))
        assert self.paused_for(store) <= SOURCE_PAUSE

    def test_resuming_one_that_is_not_paused_changes_nothing(self, store: Store) -> None:
        store.register()
        store.queue.settle(store.claim(), BROKE)
        before = store.state()
        store.end_pauses()
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
        now = store.status()
        assert (now.condition, now.reason, now.is_waiting, now.syncing) == ("Syncing", "Requested", True, False)
        assert (now.configs, now.commit_id, now.synced_at, now.judged_commit) == (0, None, None, None)

    def test_a_running_sync_shows(self, store: Store) -> None:
        store.register()
        store.finish()
        store.claim()
        assert (store.status().condition, store.status().syncing) == (Condition.SYNCING, True)
        store.expire_leases()
        assert (store.status().condition, store.status().syncing) == (Condition.READY, False)

    def test_suspension_shows_before_all_else(self, store: Store) -> None:
        store.register()
        store.suspend()
        store.sql(
            "UPDATE branches SET lease_id = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 day'"
        )
        now = store.status()
        assert (now.condition, now.message) == (Condition.SUSPENDED, "moving house")

    def test_a_served_branch_shows_all_that_is_known(self, store: Store) -> None:
        store.register()
        warning = Finding(BROKEN.path, "near-miss", Severity.WARNING, "looks like one")
        report = Report((warning,))
        claim = store.claim()
        change = Change((config("a.yaml", 1), config("b.yaml", 2)))
        settled = store.configs.replace(claim, judgement(7, report=report), change, serve=commit(7))
        now = store.status()
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
