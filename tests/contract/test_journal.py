"""What `ports.Journal` promises."""

from datetime import timedelta
from uuid import uuid4

import pytest
from support.stores import BROKEN, MAIN, REPO, Store, commit, config, delivery, judgement

from shared.errors import SchemaOutdated, SourceFailed, SourceRefused
from shared.model import (
    BranchName,
    Change,
    Condition,
    Decision,
    Delivery,
    Event,
    Failed,
    Overview,
    RefUpdate,
    RepoId,
    Report,
    SweepSummary,
    SyncId,
    SyncRecord,
    Trigger,
)

HOUR = timedelta(hours=1)


class TestDeliveries:
    def test_the_newest_come_first_and_no_more_than_asked_for(self, store: Store) -> None:
        store.register()
        sent = [store.queue.request(delivery(), REPO, [MAIN]) for _ in range(4)]
        store.queue.request(delivery(), RepoId("other"), [])
        assert store.journal.deliveries(REPO, 3) == sent[:0:-1]

    @pytest.mark.parametrize(
        "event",
        [
            Event(None),
            Event("git.push", updates=()),
            Event("git.push", problem="no repository"),
            Event("tfvc.checkin", is_test=True),
            Event(
                "git.push",
                event_id="event-1",
                subscription_id="subscription-1",
                repo_id=REPO,
                repository="Orders",
                project="Sales & Söhne",
                organisation="https://dev.azure.com/company",
                push_id=14,
                pushed_by="Ada Löwe",
                updates=(RefUpdate(MAIN, commit(0), commit(1)), RefUpdate(BranchName("a/b"), commit(1), commit(0))),
            ),
        ],
    )
    def test_an_event_is_kept_as_it_was_read(self, store: Store, event: Event) -> None:
        received = store.queue.request(Delivery(uuid4(), Decision.IGNORED_BRANCH, event), REPO, [])
        assert store.journal.deliveries(REPO, 9) == [received]
        assert received.event == event


class TestSyncs:
    def test_a_record_tells_everything_about_a_sync(self, store: Store) -> None:
        store.register()
        store.queue.ask(REPO, [MAIN])
        claim = store.claim()
        report = Report((BROKEN,), omitted=2)
        change = Change((config("a.yaml", 1), config("b.yaml", 2)))
        settled = store.configs.replace(claim, judgement(7, report=report), change, serve=commit(7))
        [record] = store.journal.syncs(REPO, MAIN, 9)
        assert record == SyncRecord(
            sync_id=claim.sync_id,
            repo_id=REPO,
            branch=MAIN,
            trigger=Trigger.WEBHOOK,
            outcome="replaced",
            started_at=claim.started_at,
            ended_at=record.ended_at,
            from_request=0,
            to_request=2,
            commit_id=commit(7),
            generation=settled.generation,
            written=2,
            removed=0,
            reason="Served",
            message="Commit 00000000 is served.",
            report=report,
        )
        assert timedelta() < record.ended_at - record.started_at < timedelta(minutes=1)

    def test_each_pass_is_one_record_the_newest_first(self, store: Store) -> None:
        store.register(REPO, "main", "release")
        ended: list[SyncId] = []
        for branch in ("main", "release", "main"):
            claim = store.claim(branch)
            store.queue.settle(claim, Failed(SourceFailed("broken")))
            ended.append(claim.sync_id)
        assert [record.sync_id for record in store.journal.syncs(REPO, None, 9)] == ended[::-1]
        assert [record.sync_id for record in store.journal.syncs(REPO, MAIN, 9)] == [ended[2], ended[0]]
        assert [record.sync_id for record in store.journal.syncs(REPO, None, 1)] == [ended[2]]
        assert store.journal.syncs(RepoId("nobody"), None, 9) == []

    def test_a_delivery_finds_its_sync_by_its_request_number(self, store: Store) -> None:
        store.register()
        first = store.queue.request(delivery(), REPO, [MAIN])
        claim = store.claim()
        second = store.queue.request(delivery(), REPO, [MAIN])
        store.configs.replace(claim, judgement(1), Change(), serve=commit(1))
        store.sync({})
        newest, oldest = store.journal.syncs(REPO, MAIN, 9)
        assert oldest.from_request < first.requests[MAIN] <= oldest.to_request < second.requests[MAIN]
        assert newest.from_request < second.requests[MAIN] <= newest.to_request

    def test_they_outlive_the_repository(self, store: Store) -> None:
        store.register()
        store.sync({"a.yaml": 1})
        store.registry.remove(REPO, expected=1)
        assert len(store.journal.syncs(REPO, None, 9)) == 1


class TestOverview:
    def test_nothing_is_nothing(self, store: Store) -> None:
        assert store.journal.overview() == Overview({}, waiting=0, missed=0, sweep_age=None)

    def test_it_counts_conditions_and_branches_that_wait(self, store: Store) -> None:
        store.register(REPO, "a", "b", "c", "d")
        store.register("resting", "a", "b", suspended="moving house")
        store.sync({}, branch="a")
        store.sync({}, branch="b")
        store.queue.ask(REPO, [BranchName("b")])
        store.queue.settle(store.claim("c"), Failed(SourceRefused("no right")))
        overview = store.journal.overview()
        assert overview.conditions == {
            Condition.READY: 1,
            Condition.AUTHENTICATION_FAILED: 1,
            Condition.SYNCING: 2,
            Condition.SUSPENDED: 2,
        }
        assert overview.waiting == 5

    def test_a_head_that_nobody_announced_within_an_hour_was_missed(self, store: Store) -> None:
        store.register(REPO, "main", "release", "late")
        for branch, number in (("main", 1), ("release", 2), ("late", 3)):
            store.sweeps.moved(REPO, {BranchName(branch): commit(number)})
        assert store.journal.overview().missed == 0
        store.sql("UPDATE unannounced SET seen_at = seen_at - interval '61 minutes' WHERE branch <> 'late'")
        assert store.journal.overview().missed == 2
        store.queue.request(delivery(RefUpdate(MAIN, commit(0), commit(1))), REPO, [MAIN])
        assert store.journal.overview().missed == 1

    def test_it_tells_how_long_ago_a_sweep_ended(self, store: Store) -> None:
        sweep = uuid4()
        store.sweeps.begin(sweep, "timer", HOUR)
        store.sweeps.end(sweep, SweepSummary(started=True))
        store.sql("UPDATE sweeps SET ended_at = ended_at - interval '1 hour'")
        age = store.journal.overview().sweep_age
        assert age is not None
        assert HOUR <= age < HOUR + timedelta(minutes=1)

    def test_a_database_without_our_tables_is_told(self, own_store: Store) -> None:
        own_store.journal.overview()
        own_store.sql("DROP TABLE unannounced")
        with pytest.raises(SchemaOutdated) as caught:
            own_store.journal.overview()
        assert caught.value.hint == "Run `runtime-store migrate`."


class TestPrune:
    @pytest.fixture
    def old(self, store: Store) -> Store:
        """One sync, one delivery and one unannounced head of 31 days ago, and one of each of today."""
        store.register()
        for moved in ("31 days", "0 days"):
            store.queue.request(delivery(), REPO, [MAIN])
            store.sync({})
            store.sweeps.moved(REPO, {MAIN: commit(len(moved))})
            for table, column in (("syncs", "ended_at"), ("deliveries", "received_at"), ("unannounced", "seen_at")):
                store.sql(f"UPDATE {table} SET {column} = {column} - %s::interval", moved)
        return store

    def test_it_drops_what_is_older_than_the_retention(self, old: Store) -> None:
        assert old.journal.prune(timedelta(days=32)) == 0
        assert old.journal.prune(timedelta(days=30)) == 3
        assert old.journal.prune(timedelta(days=30)) == 0
        assert len(old.journal.syncs(REPO, None, 9)) == len(old.journal.deliveries(REPO, 9)) == 1
        assert old.sql("SELECT count(*) FROM unannounced") == [(1,)]

    def test_it_is_bounded_and_comes_to_an_end(self, store: Store) -> None:
        store.sql(
            "INSERT INTO deliveries (delivery_id, decision, event, received_at)"
            " SELECT gen_random_uuid(), 'test', '{}', clock_timestamp() - interval '1 year'"
            " FROM generate_series(1, 2500)"
        )
        dropped = [store.journal.prune(timedelta(days=30)) for _ in range(4)]
        assert dropped == [1000, 1000, 500, 0]

    def test_what_is_served_stays(self, old: Store) -> None:
        before = old.state("branches", "runtime_configs", "repositories")
        old.journal.prune(timedelta())
        assert old.state("branches", "runtime_configs", "repositories") == before
