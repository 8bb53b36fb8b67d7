"""What `ports.ConfigStore` promises: the one statement that replaces a set and ends its sync."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import (
    BROKEN,
    MAIN,
    PATIENCE,
    REPO,
    RULES,
    Store,
    commit,
    config,
    delivery,
    judgement,
    started,
)

from shared.errors import ClaimLost, DocumentRefused, SourceFailed
from shared.model import (
    ABSENT,
    BlobId,
    BranchName,
    Change,
    CommitId,
    Condition,
    DeferReason,
    Deferred,
    Failed,
    FilePath,
    Finding,
    JsonValue,
    Judgement,
    Report,
    Ruleset,
    RuntimeConfig,
    Settled,
    Severity,
    SyncId,
)

WARNING = Finding(FilePath("a.yaml"), "near-miss", Severity.WARNING, "looks odd", line=2, column=1, pointer="/jobs/0")
TWO = Change((config("a.yaml", {"n": 1}), config("b.yaml", {"n": 2})))


def ask(store: Store) -> None:
    store.queue.ask(REPO, [MAIN])


def change(
    store: Store, *configs: RuntimeConfig, gone: tuple[str, ...] = (), number: int = 7, ruleset: str = RULES
) -> Settled:
    claim = store.claim()
    paths = tuple(map(FilePath, gone))
    return store.configs.replace(
        claim, judgement(number, ruleset=ruleset), Change(configs, paths), serve=commit(number)
    )


@pytest.fixture
def served(store: Store) -> Store:
    """`main` serves a.yaml and b.yaml at commit 1."""
    store.register()
    store.configs.replace(store.claim(), judgement(1), TWO, serve=commit(1))
    ask(store)
    return store


class TestStored:
    def test_it_tells_blob_ruleset_and_findings_by_path(self, store: Store) -> None:
        store.register()
        first, second = config("a.yaml", 1, WARNING), config("b.yaml", 2)
        change(store, first, second)
        stored = store.configs.stored(REPO, MAIN)
        assert set(stored) == {"a.yaml", "b.yaml"}
        assert stored[first.path] == (first.blob_id, RULES, (WARNING,), True)
        assert stored[second.path] == (second.blob_id, RULES, (), True)

    def test_it_is_of_that_branch_alone(self, served: Store) -> None:
        assert served.configs.stored(REPO, BranchName("release")) == {}

    def test_verify_finds_rows_that_somebody_edited_by_hand(self, served: Store) -> None:
        change(served, config("c.yaml", 3), config("d.yaml", 4))
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
        settled = change(served, config("a.yaml", {"n": 5}), config("b.yaml", {"n": 2}))
        after = served.rows()
        assert (settled.written, settled.removed) == (1, 0)
        assert after["b.yaml"] == before["b.yaml"]
        assert after["a.yaml"]["id"] == before["a.yaml"]["id"]
        assert after["a.yaml"]["created_at"] == before["a.yaml"]["created_at"]
        assert after["a.yaml"]["updated_at"] > before["a.yaml"]["updated_at"]
        assert after["a.yaml"]["generation"] == settled.generation > after["b.yaml"]["generation"]

    def test_gone_paths_are_removed_and_only_they(self, served: Store) -> None:
        settled = change(served, config("c.yaml", 3), gone=("a.yaml", "never-there.yaml"))
        assert (settled.written, settled.removed, settled.changed) == (1, 1, True)
        assert served.served() == {"b.yaml": {"n": 2}, "c.yaml": 3}

    def test_all_gone_is_an_empty_set_that_is_served(self, served: Store) -> None:
        settled = change(served, gone=("a.yaml", "b.yaml"))
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
        ask(served)
        assert served.claim().judged_tree is None

    def test_a_commit_that_changes_no_content_moves_commit_and_time_but_no_generation(self, served: Store) -> None:
        [before] = served.queue.status(REPO)
        rows = served.rows()
        settled = change(served)
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
        change(served, config("a.yaml", 9), gone=("b.yaml",))
        assert [served.rows(branch, "other") for branch in ("main", "release")] == before

    def test_a_rename_may_differ_in_case_only(self, served: Store) -> None:
        settled = change(served, config("A.yaml", {"n": 1}), gone=("a.yaml",))
        assert (settled.written, settled.removed) == (1, 1)
        assert served.served() == {"A.yaml": {"n": 1}, "b.yaml": {"n": 2}}


class TestWhatCountsAsAChange:
    def same(self, store: Store, *configs: RuntimeConfig, ruleset: str = RULES) -> bool:
        before = store.branch()["generation"]
        settled = change(store, *configs, ruleset=ruleset)
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
        change(served, RuntimeConfig(FilePath("c.yaml"), blob, '{"x": 1, "y": 2}'))
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

    def test_generations_never_repeat_nor_go_back(self, served: Store) -> None:
        seen = [served.branch()["generation"]]
        seen += [change(served, config("a.yaml", number + 10)).generation for number in range(5)]
        assert seen == sorted(set(seen))
        served.sql("UPDATE branches SET generation = generation + 1000000000000")
        ahead = served.branch()["generation"]
        assert change(served, config("a.yaml", 99)).generation == ahead + 1
        assert ahead < 2**53, "JSON numbers hold it"

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


class TestVerdictsThatReject:
    def reject(self, store: Store, number: int = 2) -> Settled:
        verdict = judgement(number, report=Report((BROKEN, WARNING), omitted=4))
        return store.configs.replace(store.claim(), verdict, Change(), serve=commit(1), accepted=False)

    def test_what_was_served_still_is(self, served: Store) -> None:
        rows, [before] = served.rows(), served.queue.status(REPO)
        settled = self.reject(served)
        [after] = served.queue.status(REPO)
        assert not settled.changed
        assert served.rows() == rows
        assert (after.generation, after.commit_id, after.synced_at) == (
            before.generation,
            before.commit_id,
            before.synced_at,
        )

    def test_the_request_is_answered_and_the_verdict_kept(self, served: Store) -> None:
        self.reject(served)
        [status] = served.queue.status(REPO)
        assert not status.is_waiting
        assert served.due() is None
        assert (status.judged_commit, status.report) == (commit(2), Report((BROKEN, WARNING), omitted=4))
        claim = served.claim()
        assert (claim.judged_commit, claim.judged_ruleset, claim.report) == (commit(2), RULES, status.report)
        assert not claim.judged_and_accepted

    def test_people_are_told_the_place_and_what_stays_served(self, served: Store) -> None:
        self.reject(served)
        [status] = served.queue.status(REPO)
        assert (status.condition, status.reason) == (Condition.INVALID, "Rejected")
        assert status.message == ("Commit 00000000 is not served (commit 00000000 stays served): a.yaml:3:7: not YAML")
        [record] = served.journal.syncs(REPO, MAIN, 1)
        assert (record.outcome, record.commit_id, record.report) == ("rejected", commit(2), status.report)

    def test_a_branch_that_was_never_accepted_serves_nothing(self, store: Store) -> None:
        store.register()
        verdict = judgement(2, report=Report((BROKEN,)))
        store.configs.replace(store.claim(), verdict, Change(), serve=None, accepted=False)
        [status] = store.queue.status(REPO)
        assert store.served() is None
        assert status.synced_at is None
        assert "nothing is served" in status.message

    def test_a_deep_sync_heals_rows_under_a_rejected_head(self, served: Store) -> None:
        self.reject(served)
        served.sql("UPDATE runtime_configs SET config = '666' WHERE filepath = 'a.yaml'")
        served.queue.ask(REPO, [MAIN], deep=True)
        claim = served.claim()
        verdict = Judgement(commit(2), claim.judged_tree, claim.judged_ruleset, claim.report)
        heal = Change((config("a.yaml", {"n": 1}),))
        settled = served.configs.replace(claim, verdict, heal, serve=commit(1), accepted=False)
        assert (settled.changed, settled.written) == (True, 1)
        assert served.served() == {"a.yaml": {"n": 1}, "b.yaml": {"n": 2}}
        [status] = served.queue.status(REPO)
        assert (status.condition, status.commit_id, status.judged_commit) == ("Invalid", commit(1), commit(2))

    def test_since_moves_only_when_the_condition_does(self, served: Store) -> None:
        times = []
        for _ in range(2):
            self.reject(served)
            times.append(served.queue.status(REPO)[0].since)
        change(served)
        times.append(served.queue.status(REPO)[0].since)
        assert times[0] == times[1] < times[2]

    def test_findings_that_the_database_cannot_hold_are_kept_all_the_same(self, served: Store) -> None:
        odd = Finding(FilePath("\udcff.yaml"), "path", Severity.ERROR, "NUL: \0", pointer="/\ud800")
        verdict = judgement(2, report=Report((odd,)))
        served.configs.replace(served.claim(), verdict, Change(), serve=commit(1), accepted=False)
        [status] = served.queue.status(REPO)
        [finding] = status.report.findings
        assert (finding.path, finding.message, finding.pointer) == ("\ufffd.yaml", "NUL: \ufffd", "/\ufffd")
        assert status.message.endswith("\ufffd.yaml: NUL: \ufffd")


class TestRequestsDuringASync:
    def test_they_are_kept_and_told(self, served: Store) -> None:
        claim = served.claim()
        served.queue.request(delivery(), REPO, [MAIN])
        settled = served.configs.replace(claim, judgement(2), Change(), serve=commit(2))
        assert settled.more
        [status] = served.queue.status(REPO)
        assert (status.requested, status.finished, status.is_waiting) == (3, 2, True)
        again = served.due()
        assert again is not None
        assert (again.seen, again.finished) == (3, 2)
        assert not served.configs.replace(again, judgement(3), Change(), serve=commit(3)).more

    def test_one_that_waits_for_the_replace_is_kept_too(self, served: Store) -> None:
        claim = served.claim()
        with served.transaction() as execute:
            execute("UPDATE branches SET requested = requested + 1")
            ending = started(lambda: served.configs.replace(claim, judgement(2), TWO, serve=commit(2)))
            served.wait_for_lock()
        assert ending.result(PATIENCE).more

    def test_deep_asked_for_meanwhile_stays_asked_for(self, served: Store) -> None:
        claim = served.claim()
        served.queue.ask(REPO, [MAIN], deep=True)
        served.configs.replace(claim, judgement(2), Change(), serve=commit(2))
        deep = served.due()
        assert deep is not None
        assert deep.deep

    def test_a_deep_sync_that_ended_was_the_deep_sync(self, served: Store) -> None:
        change(served)
        served.sql("UPDATE branches SET deep_synced_at = deep_synced_at - interval '1 day'")
        served.queue.ask(REPO, [MAIN], deep=True)
        claim = served.claim()
        served.configs.replace(claim, judgement(7), Change(), serve=commit(7))
        deep_synced_at = served.queue.status(REPO)[0].deep_synced_at
        assert deep_synced_at is not None
        assert datetime.now(UTC) - deep_synced_at < timedelta(minutes=1)
        assert not served.claim().deep


class TestTheFence:
    @pytest.mark.parametrize(
        "loss",
        [
            "UPDATE branches SET lease_id = gen_random_uuid()",
            "UPDATE branches SET lease_id = NULL, lease_until = NULL",
            "DELETE FROM branches",
        ],
        ids=["taken over", "taken away", "branch removed"],
    )
    def test_a_claim_that_is_gone_writes_nothing(self, served: Store, loss: str) -> None:
        claim = served.claim()
        served.sql(loss)
        before = served.state()
        everything = Change((config("a.yaml", 9), config("c.yaml", 9)), (FilePath("b.yaml"),))
        with pytest.raises(ClaimLost):
            served.configs.replace(claim, judgement(2), everything, serve=commit(2))
        assert served.state() == before

    def test_a_claim_lost_while_it_waited_writes_nothing(self, served: Store) -> None:
        claim = served.claim()
        everything = Change((config("a.yaml", 9), config("c.yaml", 9)), (FilePath("b.yaml"),))
        with served.transaction() as execute:
            execute("UPDATE branches SET lease_id = gen_random_uuid()")
            late = started(lambda: served.configs.replace(claim, judgement(2), everything, serve=commit(2)))
            served.wait_for_lock()
        assert isinstance(late.exception(PATIENCE), ClaimLost)
        assert served.served() == {"a.yaml": {"n": 1}, "b.yaml": {"n": 2}}
        assert len(served.journal.syncs(REPO, MAIN, 9)) == 1

    def test_it_waits_for_the_branch_before_it_touches_any_row(self, served: Store) -> None:
        claim = served.claim()
        everything = Change((config("a.yaml", 9),), (FilePath("b.yaml"),))
        with served.transaction() as execute:
            execute("SELECT FROM branches FOR UPDATE")
            waiting = started(lambda: served.configs.replace(claim, judgement(2), everything, serve=commit(2)))
            served.wait_for_lock()
            assert len(execute("SELECT 1 FROM runtime_configs FOR UPDATE NOWAIT")) == 2
        assert waiting.result(PATIENCE).changed

    def test_an_expired_claim_that_nobody_took_can_still_end(self, served: Store) -> None:
        claim = served.claim()
        served.sql("UPDATE branches SET lease_until = clock_timestamp() - interval '1 hour'")
        assert served.configs.replace(claim, judgement(2), TWO, serve=commit(2)).generation
        assert served.branch()["commit_id"] == commit(2)


class TestRefusedDocuments:
    @pytest.mark.parametrize(
        "text",
        ['{"a": "\\u0000"}', '{"a": "\\ud800"}', '{"a": 1e999999}', '{"a": }', '{"a": "\udcff"}', '"\0"', "[" * 99_999],
        ids=["NUL", "lone surrogate", "number", "no JSON", "not UTF-8", "raw NUL", "too deep"],
    )
    def test_the_document_is_named_and_nothing_is_written(self, served: Store, text: str) -> None:
        claim = served.claim()
        before = served.state()
        refused = RuntimeConfig(FilePath("bad.yaml"), BlobId("b" * 40), text)
        with pytest.raises(DocumentRefused, match="PostgreSQL refuses") as caught:
            served.configs.replace(claim, judgement(2), Change((config("a.yaml", 9), refused)), serve=commit(2))
        assert caught.value.path == "bad.yaml"
        assert served.state() == before
        served.configs.replace(claim, judgement(2), Change(), serve=commit(2))

    def test_a_path_that_no_index_holds_is_refused(self, served: Store) -> None:
        long = "".join(f"{number:x}" for number in range(4_000))
        with pytest.raises(DocumentRefused):
            change(served, config("a.yaml", 9), config(long, 1))

    def test_a_path_listed_twice_is_refused(self, served: Store) -> None:
        with pytest.raises(DocumentRefused):
            change(served, config("c.yaml", 1), config("c.yaml", 2))
        assert served.served() == {"a.yaml": {"n": 1}, "b.yaml": {"n": 2}}


class TestEnded:
    def test_none_while_it_runs_and_for_one_that_never_was(self, served: Store) -> None:
        assert served.configs.ended(served.claim().sync_id) is None
        assert served.configs.ended(SyncId(uuid4())) is None

    def test_it_tells_what_replace_told(self, served: Store) -> None:
        claim = served.claim()
        settled = served.configs.replace(claim, judgement(2), Change(gone=(FilePath("a.yaml"),)), serve=commit(2))
        assert served.configs.ended(claim.sync_id) == settled
        ask(served)
        unchanged = served.claim()
        settled = served.configs.replace(unchanged, judgement(3), Change(), serve=commit(3))
        assert served.configs.ended(unchanged.sync_id) == settled

    def test_it_tells_of_requests_that_came_in_meanwhile(self, served: Store) -> None:
        claim = served.claim()
        ask(served)
        served.configs.replace(claim, judgement(2), Change(), serve=commit(2))
        ended = served.configs.ended(claim.sync_id)
        assert ended is not None
        assert ended.more

    @pytest.mark.parametrize("outcome", [Deferred(DeferReason.BUDGET, ""), Failed(SourceFailed("broken"))])
    def test_it_tells_what_settle_told(self, served: Store, outcome: Deferred | Failed) -> None:
        claim = served.claim()
        settled = served.queue.settle(claim, outcome)
        assert served.configs.ended(claim.sync_id) == settled
        assert not settled.more


def test_a_commit_id_is_what_is_served_not_what_was_judged(served: Store) -> None:
    verdict = judgement(2, report=Report((BROKEN,)))
    served.configs.replace(served.claim(), verdict, Change(), serve=CommitId(commit(1)), accepted=False)
    generation = served.reader.generation(REPO, MAIN)
    assert generation is not None
    assert generation.commit_id == commit(1)
