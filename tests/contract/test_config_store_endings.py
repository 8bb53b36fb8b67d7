"""What `ports.ConfigStore` promises about verdicts, the fence around them, and data that the database refuses."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from support.stores import (
    BROKEN,
    MAIN,
    PATIENCE,
    REPO,
    RULES,
    TWO,
    Store,
    commit,
    config,
    delivery,
    judgement,
    started,
)

from shared.errors import ClaimLost, DocumentRefused, SourceFailed
from shared.model import (
    BlobId,
    Change,
    CommitId,
    Condition,
    DeferReason,
    Deferred,
    Failed,
    FilePath,
    Finding,
    Judgement,
    Report,
    RuntimeConfig,
    Settled,
    Severity,
    SyncId,
)

WARNING = Finding(FilePath("a.yaml"), "near-miss", Severity.WARNING, "looks odd", line=2, column=1, pointer="/jobs/0")


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
        served.change()
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
        assert served.configs.replace(claim, judgement(2), Change(), serve=commit(2)).deep_waits
        deep = served.due()
        assert deep is not None
        assert deep.deep
        assert served.queue.settle(deep, Deferred(DeferReason.BUDGET, "no time")).deep_waits
        assert not served.configs.replace(served.claim(), judgement(2), Change(), serve=commit(2)).deep_waits

    def test_a_deep_sync_that_ended_was_the_deep_sync(self, served: Store) -> None:
        served.change()
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
            served.change(config("a.yaml", 9), config(long, 1))

    def test_a_path_listed_twice_is_refused(self, served: Store) -> None:
        with pytest.raises(DocumentRefused):
            served.change(config("c.yaml", 1), config("c.yaml", 2))
        assert served.served() == {"a.yaml": {"n": 1}, "b.yaml": {"n": 2}}


class TestEnded:
    def test_none_while_it_runs_and_for_one_that_never_was(self, served: Store) -> None:
        assert served.configs.ended(served.claim().sync_id) is None
        assert served.configs.ended(SyncId(uuid4())) is None

    def test_it_tells_what_replace_told(self, served: Store) -> None:
        claim = served.claim()
        settled = served.configs.replace(claim, judgement(2), Change(gone=(FilePath("a.yaml"),)), serve=commit(2))
        assert served.configs.ended(claim.sync_id) == settled
        served.queue.ask(REPO, [MAIN])
        unchanged = served.claim()
        settled = served.configs.replace(unchanged, judgement(3), Change(), serve=commit(3))
        assert served.configs.ended(unchanged.sync_id) == settled

    def test_it_tells_of_requests_that_came_in_meanwhile(self, served: Store) -> None:
        claim = served.claim()
        served.queue.ask(REPO, [MAIN])
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
