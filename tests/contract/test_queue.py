"""What `ports.Queue` promises about requests and claims."""

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

from shared.errors import ClaimLost, DatabaseUnavailable, SourceFailed
from shared.model import (
    BranchName,
    Change,
    Claim,
    DeferReason,
    Deferred,
    Failed,
    RefUpdate,
    RepoId,
    Report,
    SourceName,
    SyncId,
    Trigger,
)
from shared.postgres.queue import BACK_OFF, BACK_OFF_CAP

BROKE = Failed(SourceFailed("broken"))
STOPPED = Deferred(DeferReason.BUDGET, "no time")
TAKE_LEASE = "UPDATE branches SET lease_id = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 day'"


class TestRequest:
    def test_each_request_of_a_branch_gets_the_next_number(self, store: Store) -> None:
        store.register(REPO, "main", "release")
        first = store.queue.request(delivery(), REPO, [MAIN])
        second = store.queue.request(delivery(), REPO, [BranchName("release"), MAIN])
        assert first.requests == {"main": 2}
        assert second.requests == {"main": 3, "release": 2}
        assert store.status().requested == 3

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
        assert store.status().requested == 2

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
        store.finish("main", "release")
        store.queue.ask(REPO, [MAIN])
        assert (store.status().requested, store.status().is_waiting) == (2, True)
        assert not store.status("release").is_waiting
        assert store.state("deliveries") == {"deliveries": []}

    def test_an_unregistered_repository_gets_none(self, store: Store) -> None:
        store.queue.ask(RepoId("nobody"), [MAIN])
        store.queue.ask(RepoId("nobody"), [MAIN], deep=True)
        assert store.state("branches") == {"branches": []}

    def test_deep_is_no_request_and_makes_the_next_claim_deep(self, store: Store) -> None:
        store.register()
        store.finish()
        store.queue.ask(REPO, [MAIN], deep=True)
        assert not store.status().is_waiting
        claim = store.due()
        assert claim is not None
        assert claim.deep
        store.configs.replace(claim, judgement(2), Change(), serve=commit(2))
        assert not store.claim().deep
        assert store.due() is None

    def test_deep_lets_a_push_go_first_and_stays_asked_for(self, store: Store) -> None:
        store.register()
        store.finish()
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
        store.finish()
        store.queue.ask(REPO, [MAIN], deep=True)
        for outcome in (STOPPED, BROKE):
            store.queue.settle(store.claim(), outcome)
            assert store.claim().deep
            store.expire_leases()

    def test_asked_while_a_deep_sync_runs_it_is_asked_for_no_more_once_that_ended(self, store: Store) -> None:
        store.register()
        store.finish()
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
            announced=None,
        )

    def test_a_second_one_is_busy(self, store: Store) -> None:
        store.register()
        store.claim()
        assert store.refusal() is DeferReason.BUSY
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        assert store.refusal(probe=True) is DeferReason.BUSY, "a probe does not mind the pause"

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

    def test_one_for_a_request_that_another_has_answered_is_busy(self, store: Store) -> None:
        store.register()
        number = store.claim().seen
        store.expire_leases()
        assert isinstance(store.claim(request=number), Claim)
        store.expire_leases()
        store.finish()
        assert store.refusal(request=number) is DeferReason.BUSY
        store.queue.ask(REPO, [MAIN])
        assert store.refusal(request=number) is DeferReason.BUSY
        assert isinstance(store.claim(request=number + 1), Claim)

    def test_an_expired_lease_can_be_taken_over_and_the_old_holder_has_lost(self, store: Store) -> None:
        store.register()
        old = store.claim()
        store.expire_leases()
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
        assert store.refusal("unknown") is DeferReason.NOT_NAMED
        assert store.refusal(repo_id="resting") is DeferReason.SUSPENDED
        assert store.refusal(repo_id="resting", probe=True) is DeferReason.SUSPENDED
        assert store.refusal(repo_id="paused") is DeferReason.SOURCE_PAUSED
        assert store.refusal(repo_id="nobody") is DeferReason.REPOSITORY_GONE
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
        assert claim.paused_until
        store.queue.settle(claim, STOPPED)
        store.end_pauses()
        assert store.claim().paused_until

    def test_it_counts_the_attempt_and_sets_the_next_by_back_off_before_any_work(self, store: Store) -> None:
        store.register()
        for attempt in range(1, 11):
            claimed = datetime.now(UTC)
            store.claim()
            now = store.status()
            assert now.attempts == attempt
            assert now.next_attempt_at is not None
            full = min(BACK_OFF * 2 ** (attempt - 1), BACK_OFF_CAP)
            assert full * 0.5 <= now.next_attempt_at - claimed <= full + timedelta(seconds=2)
            store.expire_leases()
        assert store.due() is None, "a branch that kills its worker waits its turn"

    def test_a_finished_sync_starts_the_count_anew(self, store: Store) -> None:
        store.register()
        store.claim()
        store.expire_leases()
        store.finish()
        assert (store.status().attempts, store.status().next_attempt_at) == (0, None)


class TestClaimDue:
    def test_none_when_nothing_is_asked_for(self, store: Store) -> None:
        assert store.due() is None
        store.register()
        store.finish()
        assert store.due() is None

    def test_it_is_a_claim_like_any_other(self, store: Store) -> None:
        store.register()
        claim = store.due()
        assert claim is not None
        assert (claim.trigger, claim.seen, claim.paused_until) == (Trigger.SWEEP, 1, None)
        assert store.status().attempts == 1
        assert store.refusal() is DeferReason.BUSY
        assert store.configs.replace(claim, judgement(1), Change(), serve=commit(1)).more is False

    def test_fresh_requests_go_first_then_what_is_due_longest(self, own_store: Store) -> None:
        own_store.sql("DROP INDEX branches_due")  # its order would hide that nobody asked for one
        own_store.register(REPO, "a later", "b short", "c long", "d fresh")
        for branch, minutes in (("a later", 1), ("b short", -1), ("c long", -9)):
            own_store.sql(
                "UPDATE branches SET next_attempt_at = clock_timestamp() + %s WHERE branch = %s",
                timedelta(minutes=minutes),
                branch,
            )
        claims = [own_store.due() for _ in range(4)]
        assert [claim and claim.branch for claim in claims] == ["d fresh", "c long", "b short", None]

    def test_leased_branches_are_skipped_until_the_lease_ends(self, store: Store) -> None:
        store.register()
        first = store.claim()
        store.queue.request(delivery(), REPO, [MAIN])
        assert store.due() is None
        store.expire_leases()
        second = store.due()
        assert second is not None
        assert second.sync_id != first.sync_id

    def test_suspended_repositories_are_skipped(self, store: Store) -> None:
        store.register()
        store.suspend()
        assert store.due() is None
        store.suspend(None)
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
        store.end_pauses()
        probe = store.due()
        assert probe is not None
        assert probe.paused_until
        assert store.due() is None
        store.queue.resume_source(SOURCE, probe.paused_until)
        others = [store.due(), store.due()]
        assert all(other is not None and not other.paused_until for other in others)

    def test_a_branch_that_somebody_is_just_claiming_is_skipped_without_waiting(self, store: Store) -> None:
        store.register(REPO, "a", "b")
        with store.transaction() as execute:
            execute("SELECT 1 FROM branches WHERE branch = 'a' FOR NO KEY UPDATE")
            claim = started(store.due).result(PATIENCE)
            assert claim is not None
            assert claim.branch == "b"
            assert started(store.due).result(PATIENCE) is None

    def test_a_probe_that_died_is_followed_by_another(self, store: Store) -> None:
        store.register(REPO, "a", "b")
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        store.end_pauses()
        first = store.due()
        store.end_pauses()
        second = store.due()
        assert first is not None
        assert second is not None
        assert {first.branch, second.branch} == {"a", "b"}

    def test_who_comes_second_to_a_probe_goes_on_to_another_source(self, store: Store) -> None:
        store.register()
        store.register("other", source=SourceName("elsewhere"))
        store.sql("UPDATE branches SET next_attempt_at = clock_timestamp() WHERE repo_id = 'other'")
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        store.end_pauses()
        with store.transaction() as execute:
            execute("UPDATE sources SET paused_until = clock_timestamp() + interval '1 hour'")
            second = started(store.due)
            store.wait_for_lock()
        claim = second.result(PATIENCE)
        assert claim is not None
        assert claim.repo_id == "other"
        assert store.status().attempts == 0

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
