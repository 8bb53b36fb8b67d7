"""What `ports.Sweeps` promises."""

import hashlib
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from support.stores import MAIN, REPO, RULES, SOURCE, Store, at_once, commit, delivery, judgement

from shared.errors import SourceFailed
from shared.model import ABSENT, BranchName, Change, Failed, RefUpdate, RepoId, SourceName, SweepSummary
from shared.postgres.sweeps import HEAD_CHECK_INTERVAL

BUDGET = timedelta(seconds=50)
DONE = SweepSummary(started=True, heads_checked=3, outcomes={"Replaced": 2})


class TestOneAtATime:
    def test_a_second_sweep_waits_for_the_end_of_the_first(self, store: Store) -> None:
        first, second = uuid4(), uuid4()
        assert store.sweeps.begin(first, "timer", BUDGET)
        assert not store.sweeps.begin(second, "http", BUDGET)
        store.sweeps.end(first, DONE)
        assert store.sweeps.begin(second, "http", BUDGET)

    def test_of_many_at_once_one_begins(self, store: Store) -> None:
        began = at_once(*[lambda: store.sweeps.begin(uuid4(), "timer", BUDGET) for _ in range(6)])
        assert sorted(map(bool, began)) == [False] * 5 + [True]

    def test_the_claim_is_kept_a_little_longer_than_the_budget(self, store: Store) -> None:
        store.sweeps.begin(uuid4(), "timer", BUDGET)
        [(left,)] = store.sql("SELECT lease_until - clock_timestamp() FROM sweeps")
        assert BUDGET < left < BUDGET + timedelta(minutes=1)

    def test_one_that_died_is_followed_by_another_and_ends_nothing_any_more(self, store: Store) -> None:
        dead, alive = uuid4(), uuid4()
        store.sweeps.begin(dead, "timer", BUDGET)
        store.sql("UPDATE sweeps SET lease_until = clock_timestamp()")
        assert store.sweeps.begin(alive, "timer", BUDGET)
        store.sweeps.end(dead, DONE)
        assert store.sweeps.age() is None
        assert not store.sweeps.begin(uuid4(), "timer", BUDGET)

    def test_the_age_counts_from_the_end_of_the_last_sweep(self, store: Store) -> None:
        assert store.sweeps.age() is None
        sweep = uuid4()
        store.sweeps.begin(sweep, "timer", BUDGET)
        assert store.sweeps.age() is None
        store.sweeps.end(sweep, DONE)
        store.sql("UPDATE sweeps SET ended_at = ended_at - interval '5 minutes'")
        age = store.sweeps.age()
        assert age is not None
        assert timedelta(minutes=5) <= age < timedelta(minutes=6)

    def test_the_summary_is_kept_with_who_started_it(self, store: Store) -> None:
        sweep = uuid4()
        store.sweeps.begin(sweep, "timer", BUDGET)
        store.sweeps.end(sweep, DONE)
        [(started_by, summary)] = store.sql("SELECT started_by, summary FROM sweeps")
        assert started_by == "timer"
        assert (summary["heads_checked"], summary["outcomes"]) == (3, {"Replaced": 2})


class TestHeadChecks:
    def test_a_new_repository_is_due_once(self, store: Store) -> None:
        store.register()
        [repository] = store.sweeps.claim_head_checks(9)
        assert repository.repo_id == REPO
        assert repository.heads_checked_at is not None
        assert store.registry.get(REPO) == repository
        assert store.sweeps.claim_head_checks(9) == []

    def test_each_is_due_again_within_an_interval(self, store: Store) -> None:
        for number in range(5):
            store.register(f"repo-{number}")
        self.checked_ago(store, HEAD_CHECK_INTERVAL + timedelta(seconds=1))
        assert len(store.sweeps.claim_head_checks(9)) == 5
        assert store.sweeps.claim_head_checks(9) == []

    def test_their_moments_are_spread_over_the_interval(self, store: Store) -> None:
        store.sql(
            "INSERT INTO repositories (repo_id, name, source, root, pattern, branches, validation)"
            " SELECT n, n, '', '', '', '{}', 'enforce' FROM (SELECT 'repo-' || generate_series(1, 400)) AS r (n)"
        )
        for part in (4, 2):
            self.checked_ago(store, HEAD_CHECK_INTERVAL / part)
            due = len(store.sweeps.claim_head_checks(999))
            assert 0.6 < due / (400 / part) < 1.4, f"{due} of 400 within 1/{part} of the interval"

    def test_the_oldest_go_first_and_no_more_than_asked_for(self, store: Store) -> None:
        for repo_id, hours in (("a", 1), ("b", 3), ("c", 2)):
            store.register(repo_id)
            self.checked_ago(store, timedelta(hours=hours), repo_id)
        store.register("new")
        claimed = [store.sweeps.claim_head_checks(1) for _ in range(5)]
        assert [[repository.repo_id for repository in one] for one in claimed] == [["new"], ["b"], ["c"], ["a"], []]

    def test_many_workers_share_them(self, store: Store) -> None:
        for number in range(12):
            store.register(f"repo-{number}")
        shares = at_once(*[lambda: store.sweeps.claim_head_checks(3) for _ in range(4)])
        claimed = [repository.repo_id for share in shares if isinstance(share, list) for repository in share]
        assert len(claimed) == len(set(claimed))
        rest = [repository.repo_id for repository in store.sweeps.claim_head_checks(12)]
        assert sorted(claimed + rest) == sorted(f"repo-{number}" for number in range(12))

    def test_suspended_repositories_are_skipped(self, store: Store) -> None:
        store.register(suspended="moving house")
        assert store.sweeps.claim_head_checks(9) == []

    def test_paused_sources_are_skipped_until_the_pause_ends(self, store: Store) -> None:
        store.register()
        store.register("other", source=SourceName("elsewhere"))
        store.queue.pause_source(SOURCE, SourceFailed("no answer"))
        assert [repository.repo_id for repository in store.sweeps.claim_head_checks(9)] == ["other"]
        store.sql("UPDATE sources SET paused_until = clock_timestamp()")
        assert [repository.repo_id for repository in store.sweeps.claim_head_checks(9)] == [REPO]

    def checked_ago(self, store: Store, ago: timedelta, repo_id: str | None = None) -> None:
        store.sql(
            "UPDATE repositories SET heads_checked_at = clock_timestamp() - %s WHERE %s::text IS NULL OR repo_id = %s",
            ago,
            repo_id,
            repo_id,
        )


class TestDeepSyncs:
    def test_every_served_branch_is_asked_for_once_a_day(self, store: Store) -> None:
        store.register(REPO, "main", "release", "never-accepted")
        for branch in ("main", "release"):
            store.sync({"a.yaml": 1}, branch=branch)
        assert store.sweeps.ask_due_deep_syncs() == 0
        self.deep_synced_ago(store, timedelta(hours=24, seconds=1))
        assert store.sweeps.ask_due_deep_syncs() == 2
        assert store.sweeps.ask_due_deep_syncs() == 0
        claim = store.claim()
        assert claim.deep
        store.configs.replace(claim, judgement(1), Change(), serve=commit(1))
        assert store.sweeps.ask_due_deep_syncs() == 0

    def test_a_first_accepted_commit_counts_as_deeply_synced(self, store: Store) -> None:
        store.register()
        store.sync({"a.yaml": 1})
        first = store.branch()["deep_synced_at"]
        store.queue.ask(REPO, [MAIN])
        store.sync({"a.yaml": 2})
        assert store.branch()["deep_synced_at"] == first
        assert timedelta() <= datetime.now(UTC) - first < timedelta(minutes=1)

    def test_suspended_repositories_are_skipped(self, store: Store) -> None:
        store.register()
        store.sync({"a.yaml": 1})
        self.deep_synced_ago(store, timedelta(days=2))
        store.sql("UPDATE repositories SET suspended = 'moving house'")
        assert store.sweeps.ask_due_deep_syncs() == 0

    def test_each_repository_has_its_own_minute_of_the_night(self, store: Store) -> None:
        names = [f"repo-{number}" for number in range(200)]
        store.sql(
            "INSERT INTO repositories (repo_id, name, source, root, pattern, branches, validation)"
            " SELECT n, n, '', '', '', '{main}', 'enforce' FROM unnest(%s::text[]) AS r (n)",
            names,
        )
        now: datetime = store.sql("SELECT clock_timestamp()")[0][0]
        deep_synced_at = now - timedelta(hours=14)
        store.sql(
            "INSERT INTO branches (repo_id, branch, commit_id, deep_synced_at) SELECT n, 'main', 'c', %s"
            " FROM unnest(%s::text[]) AS r (n)",
            deep_synced_at,
            names,
        )
        store.sweeps.ask_due_deep_syncs()
        asked = {repo_id for (repo_id,) in store.sql("SELECT repo_id FROM branches WHERE deep_requested")}
        planned = {name: self.last_planned(name, now) for name in names}
        assert asked == {name for name in names if deep_synced_at < planned[name]}
        assert len({(at.hour, at.minute) for at in planned.values()}) > 120
        assert {at.hour for at in planned.values()} == {0, 1, 2, 3, 4}

    def last_planned(self, repo_id: str, now: datetime) -> datetime:
        minute = int(hashlib.md5(repo_id.encode(), usedforsecurity=False).hexdigest()[:7], 16) % 300
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(minutes=minute)
        return today if today <= now else today - timedelta(days=1)

    def deep_synced_ago(self, store: Store, ago: timedelta) -> None:
        store.sql("UPDATE branches SET deep_synced_at = clock_timestamp() - %s WHERE commit_id IS NOT NULL", ago)


class TestMovedHeads:
    def unannounced(self, store: Store) -> Collection[tuple[str, str, bool]]:
        rows = store.sql("SELECT branch, commit_id, announced_at IS NOT NULL FROM unannounced ORDER BY branch")
        return [(branch, commit_id, is_announced) for branch, commit_id, is_announced in rows]

    def settled(self, store: Store) -> None:
        store.register(REPO, "main", "release")
        for branch in ("main", "release"):
            store.sync({"a.yaml": 1}, branch=branch)

    def test_judged_leaves_out_branches_that_wait(self, store: Store) -> None:
        self.settled(store)
        store.queue.ask(REPO, [BranchName("release")])
        assert store.sweeps.judged(REPO) == {MAIN: (commit(1), RULES)}
        assert store.sweeps.judged(RepoId("nobody")) == {}

    def test_judged_knows_a_branch_that_was_absent(self, store: Store) -> None:
        store.register()
        absent = judgement(0)
        assert absent.commit_id == ABSENT
        store.configs.replace(store.claim(), absent, Change(), serve=None)
        assert store.sweeps.judged(REPO) == {MAIN: (ABSENT, RULES)}

    def test_moved_heads_are_requested_and_noted_as_unannounced(self, store: Store) -> None:
        self.settled(store)
        store.sweeps.moved(REPO, {MAIN: commit(8)})
        assert [(status.branch, status.is_waiting) for status in store.queue.status(REPO)] == [
            ("main", True),
            ("release", False),
        ]
        assert self.unannounced(store) == [("main", commit(8), False)]

    def test_a_branch_that_the_registration_does_not_name_is_not_requested(self, store: Store) -> None:
        store.register()
        store.sweeps.moved(REPO, {BranchName("new"): commit(8)})
        assert {status.branch for status in store.queue.status(REPO)} == {"main"}

    def test_heads_that_a_delivery_named_are_not_noted(self, store: Store) -> None:
        self.settled(store)
        store.queue.request(delivery(RefUpdate(MAIN, commit(1), commit(8))), REPO, [])
        store.queue.request(delivery(RefUpdate(MAIN, commit(1), commit(9))), RepoId("another"), [])
        store.sweeps.moved(REPO, {MAIN: commit(8), BranchName("release"): commit(9)})
        assert self.unannounced(store) == [("release", commit(9), False)]

    def test_a_delivery_that_comes_later_announces_them(self, store: Store) -> None:
        self.settled(store)
        store.sweeps.moved(REPO, {MAIN: commit(8), BranchName("release"): commit(9)})
        store.queue.request(delivery(RefUpdate(MAIN, commit(1), commit(8))), REPO, [MAIN])
        assert self.unannounced(store) == [("main", commit(8), True), ("release", commit(9), False)]

    def test_seen_twice_they_are_noted_once(self, store: Store) -> None:
        self.settled(store)
        for _ in range(2):
            store.sweeps.moved(REPO, {MAIN: commit(8)})
        assert len(self.unannounced(store)) == 1

    def test_a_back_off_stays(self, store: Store) -> None:
        store.register()
        store.queue.settle(store.claim(), Failed(SourceFailed("broken")))
        store.sweeps.moved(REPO, {MAIN: commit(8)})
        assert store.due() is None

    def test_an_unknown_repository_gets_nothing(self, store: Store) -> None:
        store.sweeps.moved(RepoId("nobody"), {MAIN: commit(8)})
        assert store.state("branches") == {"branches": []}
        assert self.unannounced(store) == []
