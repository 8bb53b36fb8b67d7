"""What a commit is told, in words that fit on one line."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from support.git_sources import registered

from shared.model import (
    BranchName,
    CommitId,
    CommitStatus,
    Deadline,
    FilePath,
    Finding,
    Generation,
    Report,
    Repository,
    Severity,
    SourceName,
    SyncId,
    SyncRecord,
    Trigger,
    Unposted,
)
from shared.statuses import Statuses


@dataclass
class OneSync:
    """An outbox with one sync in it, and the board that its status is posted to."""

    unposted: Unposted
    shown: list[CommitStatus] = field(default_factory=list)

    def claim(self, source: SourceName) -> Unposted | None:
        return None if self.shown else self.unposted

    def posted(self, unposted: Unposted, told: str | None) -> None:
        assert told == self.shown[-1].told

    def post(self, repository: Repository, status: CommitStatus, deadline: Deadline) -> None:
        self.shown.append(status)


class TestDescriptions:
    def described(
        self, outcome: str, *findings: Finding, omitted: int = 0, message: str = "", configs: int = 14
    ) -> str:
        now = datetime.now(UTC)
        repository = registered("https://dev.azure.com/contoso")
        main = BranchName("main")
        sync = SyncRecord(
            SyncId(uuid4()), repository.repo_id, main, Trigger.WEBHOOK, outcome, now, now, 0, 1, CommitId("1" * 40),
            Generation(1), 0, 0, "", message, Report(findings, omitted),
        )  # fmt: skip
        one = OneSync(Unposted(uuid4(), repository, sync, None, configs, False, False))
        queue: Any = None
        source = repository.source
        Statuses(one, one, queue, source=source, public_url=None).announce(Deadline.after(timedelta(seconds=9)))
        [status] = one.shown
        assert status.link is None
        assert status.description == " ".join(status.description.split())
        assert len(status.description) <= 200
        return status.description

    def finding(self, message: str, path: str = "sales/orders_runtime.yaml", line: int | None = 12) -> Finding:
        return Finding(FilePath(path), "type", Severity.ERROR, message, line, 5 if line else None)

    def test_a_rejection_is_said_as_compilers_do(self) -> None:
        three = [self.finding("expected a string, found a number")] * 4
        assert (
            self.described("rejected", *three)
            == "sales/orders_runtime.yaml:12:5: expected a string, found a number (+3 more)"
        )
        assert self.described("rejected", three[0]) == (
            "sales/orders_runtime.yaml:12:5: expected a string, found a number"
        )

    def test_what_the_report_does_not_list_counts_and_what_rejects_nothing_does_not(self) -> None:
        note = Finding(FilePath("x"), "near-miss", Severity.WARNING, "almost")
        assert self.described("rejected", self.finding("no"), note, omitted=100).endswith(": no (+100 more)")
        assert self.described("rejected", self.finding("no"), note).endswith(": no")

    def test_a_finding_about_no_line_or_no_file_says_no_more_than_it_knows(self) -> None:
        assert self.described("rejected", self.finding("large", line=None)) == "sales/orders_runtime.yaml: large"
        assert self.described("rejected", self.finding("too many", path="", line=None)) == "too many"

    def test_notes_are_no_findings_to_look_at(self) -> None:
        note = Finding(FilePath("x"), "not-a-file", Severity.NOTE, "a link")
        warning = Finding(FilePath("x"), "type", Severity.WARNING, "no")
        assert self.described("replaced", note) == "14 configs served"
        assert self.described("unchanged", warning, warning, note, omitted=3) == "14 configs served, 5 findings"
        assert self.described("replaced", configs=0) == "0 configs served"

    def test_a_long_message_keeps_its_place_and_how_many_more(self) -> None:
        described = self.described("rejected", self.finding("ö" * 500), self.finding("no"))
        assert described.startswith("sales/orders_runtime.yaml:12:5: öööö")
        assert described.endswith("ö… (+1 more)")
        assert len(described) == 200

    def test_a_long_path_keeps_its_end(self) -> None:
        described = self.described("rejected", self.finding("expected a string", path=f"{'ä/' * 300}b_runtime.yaml"))
        assert described.startswith("…")
        assert described.endswith("ä/b_runtime.yaml:12:5: expected a string")

    def test_letters_are_not_torn_from_their_accents_nor_symbols_in_two(self) -> None:
        accented = "e\N{COMBINING ACUTE ACCENT}\N{COMBINING TILDE}"
        for shift in range(4):
            described = self.described("rejected", self.finding("x" * shift + accented * 200, path="a"))
            assert described.removesuffix("…").endswith(accented)
        described = self.described("rejected", self.finding("\N{PARTY POPPER}" * 500))
        assert described.endswith("\N{PARTY POPPER}…")
        described.encode("utf-16")

    def test_what_cannot_be_shown_on_one_line_is_replaced(self) -> None:
        assert self.described("failed", message="no\n route\tto \x1b[31mhost\u202e") == (
            "waiting: no route to \ufffd[31mhost\ufffd"
        )
