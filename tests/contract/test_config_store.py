"""What `ports.ConfigStore` promises: the one statement that replaces a set and ends its sync."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import (
    MAIN,
    REPO,
    RULES,
    TWO,
    Store,
    commit,
    config,
    judgement,
)

from shared.errors import ClaimLost
from shared.model import (
    ABSENT,
    BlobId,
    BranchName,
    Change,
    Condition,
    FilePath,
    Finding,
    JsonValue,
    Judgement,
    Report,
    Ruleset,
    RuntimeConfig,
    Severity,
)

WARNING = Finding(FilePath("a.yaml"), "near-miss", Severity.WARNING, "looks odd", line=2, column=1, pointer="/jobs/0")


class TestStored:
    def test_it_tells_blob_ruleset_and_findings_by_path(self, store: Store) -> None:
        store.register()
        first, second = config("a.yaml", 1, WARNING), config("b.yaml", 2)
        store.change(first, second)
        stored = store.configs.stored(REPO, MAIN)
        assert set(stored) == {"a.yaml", "b.yaml"}
        assert stored[first.path] == (first.blob_id, RULES, (WARNING,), True)
        assert stored[second.path] == (second.blob_id, RULES, (), True)

    def test_it_is_of_that_branch_alone(self, served: Store) -> None:
        assert served.configs.stored(REPO, BranchName("release")) == {}

    def test_verify_finds_rows_that_somebody_edited_by_hand(self, served: Store) -> None:
        served.change(config("c.yaml", 3), config("d.yaml", 4))
        assert all(row.is_intact for row in served.configs.stored(REPO, MAIN, verify=True).values())
        served.sql("UPDATE runtime_configs SET config = '{\"n\": 1.0}' WHERE filepath = 'a.yaml'")
        served.sql("UPDATE runtime_configs SET filepath = 'moved.yaml' WHERE filepath = 'b.yaml'")
        served.sql("UPDATE runtime_configs SET blob_id = 'x' WHERE filepath = 'c.yaml'")
        intact = {path: row.is_intact for path, row in served.configs.stored(REPO, MAIN, verify=True).items()}
        assert intact == {"a.yaml": False, "moved.yaml": False, "c.yaml": False, "d.yaml": True}
        assert served.configs.stored(REPO, MAIN)[FilePath("a.yaml")].is_intact, "only verify looks"


class TestReplace:
    def test_rows_branch_requests_condition_and_journal_move_together(self, store: Store) -> None:
        store.register()
        claim = store.claim()
        settled = store.configs.replace(claim, judgement(1), TWO, serve=commit(1))
        assert (settled.changed, settled.written, settled.removed, settled.more) == (True, 2, 0, False)
        [status] = store.queue.status(REPO)
        assert (status.generation, status.commit_id, status.judged_commit) == (
            settled.generation,
            commit(1),
            commit(1),
        )
        assert (status.condition, status.reason, status.message) == (
            Condition.READY,
            "Served",
            "Commit 00000000 is served.",
        )
        assert (status.requested, status.finished, status.syncing, status.attempts, status.next_attempt_at) == (
            1,
            1,
            False,
            0,
            None,
        )
        assert status.synced_at is not None
        assert timedelta() <= datetime.now(UTC) - status.synced_at < timedelta(minutes=1)
        [record] = store.journal.syncs(REPO, MAIN, 9)
        assert (record.sync_id, record.outcome, record.written, record.generation) == (
            claim.sync_id,
            "replaced",
            2,
            settled.generation,
        )
        assert (record.from_request, record.to_request, record.started_at) == (0, 1, claim.started_at)
        assert store.served() == {"a.yaml": {"n": 1}, "b.yaml": {"n": 2}}

    def test_it_ends_the_claim(self, served: Store) -> None:
        claim = served.claim()
        served.configs.replace(claim, judgement(2), Change(), serve=commit(2))
        with pytest.raises(ClaimLost):
            served.configs.replace(claim, judgement(3), Change(), serve=commit(3))
        with pytest.raises(ClaimLost):
            served.queue.renew(claim)
        assert served.branch()["commit_id"] == commit(2)

    def test_rows_that_do_not_differ_are_not_written(self, served: Store) -> None:
        before = served.rows()
        settled = served.change(config("a.yaml", {"n": 5}), config("b.yaml", {"n": 2}))
        after = served.rows()
        assert (settled.written, settled.removed) == (1, 0)
        assert after["b.yaml"] == before["b.yaml"]
        assert after["a.yaml"]["id"] == before["a.yaml"]["id"]
        assert after["a.yaml"]["created_at"] == before["a.yaml"]["created_at"]
        assert after["a.yaml"]["updated_at"] > before["a.yaml"]["updated_at"]
        assert after["a.yaml"]["generation"] == settled.generation > after["b.yaml"]["generation"]

    def test_gone_paths_are_removed_and_only_they(self, served: Store) -> None:
        settled = served.change(config("c.yaml", 3), gone=("a.yaml", "never-there.yaml"))
        assert (settled.written, settled.removed, settled.changed) == (1, 1, True)
        assert served.served() == {"b.yaml": {"n": 2}, "c.yaml": 3}

    def test_all_gone_is_an_empty_set_that_is_served(self, served: Store) -> None:
        settled = served.change(gone=("a.yaml", "b.yaml"))
        assert (settled.removed, settled.changed) == (2, True)
        assert served.served() == {}

    def test_serving_nothing_says_that_the_branch_is_gone(self, served: Store) -> None:
        gone = Change(gone=(FilePath("a.yaml"), FilePath("b.yaml")))
        absent = Judgement(ABSENT, None, Ruleset(RULES), Report())
        settled = served.configs.replace(served.claim(), absent, gone, serve=None)
        [status] = served.queue.status(REPO)
        assert settled.changed
        assert served.served() is None
        assert (status.commit_id, status.judged_commit, status.configs) == (None, ABSENT, 0)
        assert (status.condition, status.reason) == (Condition.READY, "BranchGone")
        served.queue.ask(REPO, [MAIN])
        assert served.claim().judged_tree is None

    def test_a_commit_that_changes_no_content_moves_commit_and_time_but_no_generation(self, served: Store) -> None:
        [before] = served.queue.status(REPO)
        rows = served.rows()
        settled = served.change()
        [after] = served.queue.status(REPO)
        assert (settled.changed, settled.written, settled.removed) == (False, 0, 0)
        assert settled.generation == before.generation == after.generation
        assert after.commit_id == commit(7)
        assert after.synced_at is not None
        assert before.synced_at is not None
        assert after.synced_at > before.synced_at
        assert served.rows() == rows
        assert served.journal.syncs(REPO, MAIN, 1)[0].outcome == "unchanged"

    def test_other_branches_and_repositories_stay_as_they_are(self, served: Store) -> None:
        served.register("other", "main", "release")
        for branch in ("main", "release"):
            served.sync({"a.yaml": "other"}, branch=branch, repo_id="other")
        before = [served.rows(branch, "other") for branch in ("main", "release")]
        served.change(config("a.yaml", 9), gone=("b.yaml",))
        assert [served.rows(branch, "other") for branch in ("main", "release")] == before

    def test_a_rename_may_differ_in_case_only(self, served: Store) -> None:
        settled = served.change(config("A.yaml", {"n": 1}), gone=("a.yaml",))
        assert (settled.written, settled.removed) == (1, 1)
        assert served.served() == {"A.yaml": {"n": 1}, "b.yaml": {"n": 2}}


class TestWhatCountsAsAChange:
    def same(self, store: Store, *configs: RuntimeConfig, ruleset: str = RULES) -> bool:
        before = store.branch()["generation"]
        settled = store.change(*configs, ruleset=ruleset)
        assert settled.changed == (settled.generation != before) == (settled.generation > before)
        return not settled.changed

    def test_the_same_bytes_are_no_change(self, served: Store) -> None:
        assert self.same(served, config("a.yaml", {"n": 1}))

    def test_another_blob_with_the_same_json_is_one(self, served: Store) -> None:
        assert not self.same(served, config("a.yaml", {"n": 1}, blob="b" * 40))
        assert served.configs.stored(REPO, MAIN)[FilePath("a.yaml")].blob_id == "b" * 40

    def test_another_json_from_the_same_blob_is_one(self, served: Store) -> None:
        blob = config("a.yaml", {"n": 1}).blob_id
        assert not self.same(served, config("a.yaml", {"n": 2}, blob=blob))

    def test_an_integer_that_became_a_decimal_is_one(self, served: Store) -> None:
        blob = config("a.yaml", {"n": 1}).blob_id
        assert not self.same(served, config("a.yaml", {"n": 1.0}, blob=blob))
        assert served.sql("SELECT config::text FROM runtime_configs WHERE filepath = 'a.yaml'") == [('{"n": 1.0}',)]

    def test_the_order_of_keys_is_none(self, served: Store) -> None:
        blob = BlobId("c" * 40)
        served.change(RuntimeConfig(FilePath("c.yaml"), blob, '{"x": 1, "y": 2}'))
        assert self.same(served, RuntimeConfig(FilePath("c.yaml"), blob, '{"y":2,"x":1}'))

    def test_other_rules_are_none_and_leave_the_rows_times(self, served: Store) -> None:
        before = served.rows()
        warned = config("a.yaml", {"n": 1}, WARNING)
        assert self.same(served, warned, config("b.yaml", {"n": 2}), ruleset="rules-2")
        after = served.rows()
        for path in ("a.yaml", "b.yaml"):
            for column in ("id", "config", "created_at", "updated_at", "generation", "blob_id", "digest"):
                assert after[path][column] == before[path][column]
        stored = served.configs.stored(REPO, MAIN)
        assert stored[warned.path] == (warned.blob_id, "rules-2", (WARNING,), True)
        assert served.branch()["judged_ruleset"] == "rules-2"

    def test_a_row_edited_by_hand_is_healed_as_one(self, served: Store) -> None:
        served.sql("UPDATE runtime_configs SET config = '{\"n\": 666}' WHERE filepath = 'a.yaml'")
        assert not self.same(served, config("a.yaml", {"n": 1}), config("b.yaml", {"n": 2}))
        assert served.served() == {"a.yaml": {"n": 1}, "b.yaml": {"n": 2}}
        assert all(row.is_intact for row in served.configs.stored(REPO, MAIN, verify=True).values())

    def test_so_is_one_whose_digest_was(self, served: Store) -> None:
        served.sql("UPDATE runtime_configs SET digest = 'x' WHERE filepath = 'a.yaml'")
        assert not served.configs.stored(REPO, MAIN, verify=True)[FilePath("a.yaml")].is_intact
        served.change(config("a.yaml", {"n": 1}))
        assert served.configs.stored(REPO, MAIN, verify=True)[FilePath("a.yaml")].is_intact

    def test_generations_never_repeat_nor_go_back(self, served: Store) -> None:
        seen = [served.branch()["generation"]]
        seen += [served.change(config("a.yaml", number + 10)).generation for number in range(5)]
        assert seen == sorted(set(seen))
        served.sql("UPDATE branches SET generation = generation + 1000000000000")
        ahead = served.branch()["generation"]
        assert served.change(config("a.yaml", 99)).generation == ahead + 1
        assert ahead < 2**53, "JSON numbers hold it"

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        sets=st.lists(
            st.dictionaries(st.sampled_from(["a", "b", "c/d", "c/é"]), st.sampled_from([1, 1.0, "1", None, [1]])),
            max_size=6,
        )
    )
    def test_whatever_is_pushed_is_served_and_the_generation_tells_every_change(
        self, store: Store, sets: list[dict[str, JsonValue]]
    ) -> None:
        repo_id = f"repo-{uuid4()}"
        store.register(repo_id)
        shown: Mapping[str, JsonValue] | None = {}
        generation = store.branch(repo_id=repo_id)["generation"]
        for files in sets:
            before = store.rows(repo_id=repo_id)
            settled = store.sync(files, repo_id=repo_id)
            moved = settled.generation != generation
            assert moved == settled.changed == (repr(sorted(files.items())) != repr(sorted((shown or {}).items())))
            shown, generation = store.served(repo_id=repo_id), settled.generation
            assert repr(sorted((shown or {}).items())) == repr(sorted(files.items()))
            for path, row in store.rows(repo_id=repo_id).items():
                if row["generation"] != generation or not moved:
                    assert row == before[path]
