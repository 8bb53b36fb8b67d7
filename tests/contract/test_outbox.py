"""What `ports.Outbox` promises."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any, LiteralString

import pytest
from support import postgres
from support.stores import BROKEN, MAIN, REPO, SOURCE, TWO, Store, at_once, commit, judgement

from shared.errors import SourceFailed, SourceThrottled
from shared.model import (
    ABSENT,
    BranchName,
    Change,
    CommitId,
    DeferReason,
    Deferred,
    Failed,
    Report,
    SourceName,
    SyncId,
    Unposted,
)
from shared.postgres.migrate import migrate, read_migrations
from shared.postgres.outbox import LEASE, PostgresOutbox
from shared.postgres.pool import Pool

BROKE = Failed(SourceFailed("no route"))
STOPPED = Deferred(DeferReason.BUDGET, "no time")
SERVED = "succeeded: 2 configs served"
WAITING = "pending: waiting: no route"


@pytest.fixture
def registered(store: Store) -> Store:
    store.register(REPO, "main", "release")
    return store


def serve(store: Store, number: int, branch: str = MAIN, repo_id: str = REPO) -> SyncId:
    """A sync that ends with two configs served at that commit."""
    claim = store.claim(branch, repo_id)
    store.configs.replace(claim, judgement(number), TWO, serve=commit(number))
    return claim.sync_id


def fail(store: Store, number: int | None, branch: str = MAIN, ended: Failed | Deferred = BROKE) -> SyncId:
    """A sync that ends without a verdict, about that commit."""
    claim = store.claim(branch)
    store.queue.settle(claim, ended, head=None if number is None else commit(number))
    return claim.sync_id


def claimed(store: Store) -> Unposted:
    unposted = store.outbox.claim(SOURCE)
    assert unposted is not None
    return unposted


def tell(store: Store, told: str) -> Unposted:
    unposted = claimed(store)
    store.outbox.posted(unposted, told)
    return unposted


def end_leases(store: Store) -> None:
    store.sql(
        "UPDATE branches SET posting_until = clock_timestamp() - interval '1 second' WHERE posting_id IS NOT NULL"
    )


def told(store: Store) -> dict[str, str]:
    return dict(store.sql("SELECT commit_id, told FROM syncs WHERE told IS NOT NULL"))


class TestWhatWaits:
    def test_it_is_the_ended_sync_as_the_journal_has_it_with_its_repository(self, registered: Store) -> None:
        serve(registered, 1)
        unposted = claimed(registered)
        assert [unposted.sync] == registered.journal.syncs(REPO, MAIN, 9)
        assert unposted.repository == registered.registry.get(REPO)
        assert (unposted.told, unposted.configs, unposted.is_judged, unposted.is_passed_over) == (None, 2, True, False)

    def test_a_rejection_comes_with_its_report(self, registered: Store) -> None:
        report = Report((BROKEN,), omitted=2)
        registered.configs.replace(
            registered.claim(), judgement(1, report=report), Change(), serve=None, accepted=False
        )
        unposted = claimed(registered)
        assert (unposted.sync.outcome, unposted.sync.report) == ("rejected", report)
        assert (unposted.configs, unposted.is_judged) == (None, True)

    @pytest.mark.parametrize("ended", [BROKE, STOPPED])
    def test_a_sync_without_a_verdict_is_about_the_head_that_it_looked_at(
        self, registered: Store, ended: Failed | Deferred
    ) -> None:
        serve(registered, 1)
        tell(registered, SERVED)
        fail(registered, 2, ended=ended)
        unposted = claimed(registered)
        assert unposted.sync.commit_id == commit(2)
        assert (unposted.configs, unposted.is_judged, unposted.is_passed_over) == (None, False, False)

    def test_a_head_that_was_not_known_is_told_nothing(self, registered: Store) -> None:
        serve(registered, 1)
        tell(registered, SERVED)
        fail(registered, None)
        assert registered.journal.syncs(REPO, MAIN, 1)[0].commit_id is None
        assert registered.outbox.claim(SOURCE) is None

    def test_the_absence_of_a_branch_ends_the_waiting_of_its_commits(self, registered: Store) -> None:
        fail(registered, 1)
        tell(registered, WAITING)
        verdict = replace(judgement(1), commit_id=ABSENT, tree_id=None)
        registered.configs.replace(registered.claim(), verdict, Change(), serve=None)
        gone = claimed(registered)
        assert gone.sync.commit_id == ABSENT
        registered.outbox.posted(gone, None)
        waited = claimed(registered)
        assert (waited.sync.commit_id, waited.told, waited.is_passed_over) == (commit(1), WAITING, True)

    def test_only_one_source_is_looked_at(self, registered: Store) -> None:
        serve(registered, 1)
        assert registered.outbox.claim(SourceName("https://dev.azure.com/contoso")) is None
        assert registered.outbox.claim(SOURCE) is not None

    def test_a_paused_source_is_left_alone_until_its_pause_ends(self, registered: Store) -> None:
        serve(registered, 1)
        pause = timedelta(minutes=5)
        registered.queue.pause_source(SOURCE, SourceThrottled("too much", retry_after=pause), pause)
        assert registered.outbox.claim(SOURCE) is None
        registered.end_pauses()
        assert registered.outbox.claim(SOURCE) is not None

    def test_what_is_older_than_a_day_is_old_news(self, registered: Store) -> None:
        serve(registered, 1)
        registered.sql("UPDATE syncs SET ended_at = clock_timestamp() - interval '24 hours 1 second'")
        assert registered.outbox.claim(SOURCE) is None
        registered.sql("UPDATE syncs SET ended_at = clock_timestamp() - interval '23 hours 59 minutes'")
        assert registered.outbox.claim(SOURCE) is not None

    def test_the_syncs_of_a_repository_that_is_gone_are_told_to_nobody(self, registered: Store) -> None:
        serve(registered, 1)
        unposted = claimed(registered)
        registered.registry.remove(REPO, expected=1)
        registered.outbox.posted(unposted, SERVED)
        assert registered.outbox.claim(SOURCE) is None
        assert told(registered) == {}

    def test_the_newest_of_a_commit_stands_for_all_and_the_newest_commit_comes_first(self, registered: Store) -> None:
        fail(registered, 1)
        last = fail(registered, 1)
        newest = serve(registered, 2)
        assert tell(registered, SERVED).sync.sync_id == newest
        assert tell(registered, WAITING).sync.sync_id == last
        assert registered.outbox.claim(SOURCE) is None

    def test_a_commit_that_is_served_no_more_has_no_number_of_configs(self, registered: Store) -> None:
        serve(registered, 1)
        serve(registered, 2)
        tell(registered, SERVED)
        unposted = claimed(registered)
        assert unposted.sync.commit_id == commit(1)
        assert (unposted.configs, unposted.is_judged, unposted.is_passed_over) == (None, False, True)

    def test_what_a_failure_left_unknown_passes_no_commit_over(self, registered: Store) -> None:
        fail(registered, 1)
        fail(registered, None)
        assert not claimed(registered).is_passed_over


class TestPosted:
    def test_it_is_done_with_and_remembered_for_the_next_time(self, registered: Store) -> None:
        serve(registered, 1)
        tell(registered, SERVED)
        assert registered.outbox.claim(SOURCE) is None
        serve(registered, 1)
        assert tell(registered, SERVED).told == SERVED
        assert registered.outbox.claim(SOURCE) is None

    def test_one_row_remembers_for_each_commit(self, registered: Store) -> None:
        for number in (1, 1, 2, 1):
            serve(registered, number)
            tell(registered, f"succeeded: {number}")
        assert registered.sql("SELECT commit_id, told FROM syncs WHERE told IS NOT NULL ORDER BY 1") == [
            (commit(1), "succeeded: 1"),
            (commit(2), "succeeded: 2"),
        ]
        serve(registered, 2)
        assert claimed(registered).told == "succeeded: 2"

    def test_a_commit_of_two_branches_has_one_status(self, registered: Store) -> None:
        serve(registered, 1)
        tell(registered, SERVED)
        fail(registered, 1, "release")
        other = claimed(registered)
        assert (other.told, other.is_judged) == (SERVED, True)

    def test_what_ended_after_the_claim_waits_for_the_next(self, registered: Store) -> None:
        fail(registered, 1)
        first = claimed(registered)
        later = serve(registered, 1)
        registered.outbox.posted(first, WAITING)
        second = claimed(registered)
        assert (second.sync.sync_id, second.told) == (later, WAITING)

    def test_a_commit_that_waits_comes_up_again_when_its_branch_has_gone_on(self, registered: Store) -> None:
        fail(registered, 1)
        tell(registered, WAITING)
        serve(registered, 2)
        tell(registered, SERVED)
        again = claimed(registered)
        assert (again.sync.commit_id, again.told, again.is_passed_over) == (commit(1), WAITING, True)
        registered.outbox.posted(again, "notApplicable: gone on")
        assert registered.outbox.claim(SOURCE) is None

    def test_the_newest_commit_waits_on_when_an_older_one_is_told_later(self, registered: Store) -> None:
        fail(registered, 1)
        fail(registered, 2)
        assert tell(registered, WAITING).sync.commit_id == commit(2)
        assert tell(registered, "notApplicable: gone on").sync.commit_id == commit(1)
        assert registered.outbox.claim(SOURCE) is None

    @pytest.mark.parametrize("verdict", [SERVED, "failed: a.yaml:1:1: no"])
    def test_a_commit_that_has_its_verdict_does_not(self, registered: Store, verdict: str) -> None:
        serve(registered, 1)
        tell(registered, verdict)
        serve(registered, 2)
        tell(registered, SERVED)
        assert registered.outbox.claim(SOURCE) is None


class TestTheRightToPost:
    def test_one_posts_for_a_branch_at_a_time(self, registered: Store) -> None:
        serve(registered, 1)
        serve(registered, 1, "release")
        assert {claimed(registered).sync.branch, claimed(registered).sync.branch} == {"main", "release"}
        serve(registered, 2)
        assert registered.outbox.claim(SOURCE) is None

    def test_many_at_once_get_different_branches(self, store: Store) -> None:
        names = [f"branch-{number}" for number in range(5)]
        store.register(REPO, *names)
        for name in names:
            serve(store, 1, name)
            serve(store, 2, name)
        got = at_once(*[lambda: store.outbox.claim(SOURCE)] * 8)
        branches = [unposted.sync.branch for unposted in got if isinstance(unposted, Unposted)]
        assert sorted(branches) == names
        assert got.count(None) == 3

    def test_it_ends_by_the_clock_of_the_database_so_that_a_killed_poster_is_replaced(self, registered: Store) -> None:
        """Killed after its post, too: the same is posted twice, and never lost."""
        serve(registered, 1)
        killed = claimed(registered)
        assert registered.outbox.claim(SOURCE) is None
        [(left,)] = registered.sql(
            "SELECT posting_until - clock_timestamp() FROM branches WHERE posting_id IS NOT NULL"
        )
        assert LEASE - timedelta(seconds=10) < left <= LEASE
        end_leases(registered)
        assert claimed(registered).sync == killed.sync

    def test_whoever_lost_it_changes_nothing(self, registered: Store) -> None:
        serve(registered, 1)
        late = claimed(registered)
        end_leases(registered)
        holder = claimed(registered)
        before = registered.state("branches", "syncs")
        registered.outbox.posted(late, SERVED)
        assert registered.state("branches", "syncs") == before
        registered.outbox.posted(holder, SERVED)
        assert told(registered) == {commit(1): SERVED}

    def test_a_branch_that_was_tried_in_vain_comes_after_the_others(self, registered: Store) -> None:
        serve(registered, 1, "release")
        serve(registered, 1)
        in_vain = claimed(registered).sync.branch
        end_leases(registered)
        serve(registered, 2, in_vain)
        assert tell(registered, SERVED).sync.branch != in_vain
        assert claimed(registered).sync.branch == in_vain

    def test_a_sync_is_not_in_its_way_nor_it_in_a_syncs(self, registered: Store) -> None:
        serve(registered, 1)
        unposted = claimed(registered)
        running = registered.claim()
        registered.queue.renew(running)
        registered.outbox.posted(unposted, SERVED)
        registered.configs.replace(running, judgement(2), TWO, serve=commit(2))
        assert claimed(registered).sync.sync_id == running.sync_id

    def test_a_branch_that_a_sync_is_writing_to_is_passed_over_not_waited_for(self, registered: Store) -> None:
        serve(registered, 1)
        serve(registered, 1, "release")
        with registered.transaction() as execute:
            execute("UPDATE branches SET message = message WHERE branch = 'main'")
            assert claimed(registered).sync.branch == "release"
            assert registered.outbox.claim(SOURCE) is None


class Outrun(Pool):
    """Everything is posted by another just after this one claimed it: so does a claim end whose view of what waits is
    older than the last post."""

    def rows(self, statement: LiteralString, parameters: Any = None, *, binary: bool = False) -> list[Any]:
        super().write("UPDATE syncs SET posted_at = clock_timestamp() RETURNING sync_id", {})
        return super().rows(statement, parameters, binary=binary)


class TestRaces:
    def test_a_claim_that_was_outrun_gives_its_right_back(self, registered: Store) -> None:
        serve(registered, 1)
        with closing(Outrun(registered.conninfo)) as pool:
            assert PostgresOutbox(pool).claim(SOURCE) is None
        serve(registered, 2)
        assert claimed(registered).sync.commit_id == commit(2)

    def test_what_was_posted_last_is_what_ended_last(self, store: Store) -> None:
        """Posters and syncs at once: no branch has two posters, and no commit is told something older than it was."""
        names = ["one", "two"]
        store.register(REPO, *names)
        posts: dict[tuple[str, CommitId | None], list[Unposted]] = defaultdict(list)
        posting: set[str] = set()
        ended = threading.Event()
        lock = threading.Lock()

        def post() -> None:
            while True:
                is_last = ended.is_set()
                unposted = store.outbox.claim(SOURCE)
                if unposted is None:
                    if is_last:
                        return
                    continue
                with lock:
                    assert unposted.sync.branch not in posting
                    posting.add(unposted.sync.branch)
                posts[unposted.sync.branch, unposted.sync.commit_id].append(unposted)
                with lock:
                    posting.remove(unposted.sync.branch)
                store.outbox.posted(unposted, str(unposted.sync.sync_id))

        def sync(branch: str) -> None:
            for number in range(40):
                fail(store, 1 + number % 3, branch)

        def sync_all() -> None:
            try:
                at_once(*[lambda name=name: sync(name) for name in names])
            finally:
                ended.set()

        assert at_once(sync_all, post, post, post, post) == [None] * 5
        for (branch, commit_id), told_in_order in posts.items():
            times = [unposted.sync.ended_at for unposted in told_in_order]
            assert times == sorted(times)
            records = store.journal.syncs(REPO, BranchName(branch), 100)
            newest = next(record for record in records if record.commit_id == commit_id)
            assert told_in_order[-1].sync == newest
        assert len(posts) == 6


class TestMigration:
    @pytest.fixture
    def first_version(self, postgres_server: postgres.Server) -> Iterator[str]:
        with postgres_server.clone("template0") as conninfo:
            migrate(conninfo, migrations=read_migrations()[:1])
            yield conninfo

    def test_what_ended_before_it_is_told_to_nobody(self, first_version: str) -> None:
        with closing(Pool(first_version)) as pool:
            store = Store(pool, first_version)
            store.sql(
                "INSERT INTO repositories (repo_id, name, source, root, pattern, branches, validation)"
                f" VALUES ('{REPO}', 'x', '{SOURCE}', '', '*', '{{main}}', 'enforce');"
                f" INSERT INTO branches (repo_id, branch) VALUES ('{REPO}', 'main');"
                " INSERT INTO syncs (sync_id, repo_id, branch, trigger, outcome, started_at, from_request, to_request,"
                "                    commit_id, generation)"
                f" SELECT gen_random_uuid(), '{REPO}', 'main', 'webhook', 'failed', clock_timestamp(), 0, 1,"
                f"       '{commit(1)}', 1 FROM generate_series(1, 3)"
            )
            migrate(first_version)
            assert store.outbox.claim(SOURCE) is None
            serve(store, 2)
            assert claimed(store).sync.commit_id == commit(2)
