"""Whoever pushed sees at the commit what became of it; and nothing waits for that."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator, Fault
from support.world import INVALID, NOT_YAML, Team, Watched, World, budget, workflow

from shared import statuses
from shared.azure_devops.client import Organisation
from shared.azure_devops.source import AzureDevOpsSource
from shared.azure_devops.statuses import AzureDevOpsStatuses
from shared.bootstrap import announcer_from
from shared.errors import DatabaseUnavailable
from shared.model import (
    ABSENT,
    BranchName,
    Budget,
    CommitId,
    Deadline,
    Deferred,
    Event,
    Failed,
    Receipt,
    RefUpdate,
    Registration,
    Rejected,
    Replaced,
    RepoId,
    Unchanged,
    Validation,
)
from shared.postgres.outbox import PostgresOutbox
from shared.rules import Rules
from shared.settings import load
from shared.statuses import Statuses

A, B = "a_runtime.yaml", "etl/b_runtime.yaml"
URL = "https://runtime.example"


@dataclass
class Contoso:
    """An organisation, and what a delivery and a sweep tell the commits in it."""

    emulator: Emulator
    world: World

    def __post_init__(self) -> None:
        self.organisation = Organisation(
            self.emulator.url, authorization=lambda: EMULATOR_AUTHORIZATION, timeout=timedelta(seconds=20)
        )
        self.local_git = self.world.git
        self.world.git = Watched(AzureDevOpsSource(self.organisation))
        self.world.use(Rules.shipped())
        self.outbox = Watched(PostgresOutbox(self.world.pool))
        board = AzureDevOpsStatuses(self.organisation, environment="prod")
        self.statuses = Statuses(
            self.outbox,
            board,
            self.world.queue,
            source=self.organisation.url,
            public_url=URL,
        )
        self.world.tell = self.statuses.announce

    def team(self, name: str = "orders", *branches: str, **more: Any) -> Team:
        hosted = self.emulator.repository("etl", name)
        names = tuple(map(BranchName, branches or ("main",)))
        registration = Registration(name, self.organisation.url, names, **more)
        return Team(self.world, hosted.git, self.world.registrar.put(RepoId(hosted.id), registration, expected=None))

    def announce(self) -> None:
        self.statuses.announce(Deadline.after(timedelta(seconds=20)))

    def shown(self, team: Team, commit: CommitId) -> list[tuple[str, str]]:
        """Every status that the commit got, the oldest first."""
        with self.organisation.git(Deadline.after(timedelta(seconds=20))) as git:
            found = git.get_statuses(commit, team.repo_id)
        return [(one["state"], one["description"]) for one in reversed(found)]

    @property
    def posts(self) -> int:
        return sum(call.route == "statuses" and call.method == "POST" for call in self.emulator.calls)

    def end_leases(self) -> None:
        self.world.execute("UPDATE branches SET posting_until = clock_timestamp() WHERE posting_id IS NOT NULL")


@pytest.fixture
def contoso(world: World, tmp_path: Path) -> Iterator[Contoso]:
    world.sweep()  # Else each delivery would find it overdue.
    with Emulator(tmp_path / "organisation") as emulator:
        yield Contoso(emulator, world)


def push(team: Team, files: dict[str, bytes], *, within: Budget | None = None) -> tuple[CommitId, Receipt]:
    """Commit, and deliver the event of the push."""
    commit = team.git.commit(files)
    updates = (RefUpdate(BranchName("main"), ABSENT, commit),)
    event = Event("git.push", repo_id=team.repo_id, updates=updates)
    return commit, team.world.intake.receive(event, within or budget())


class TestWhatACommitIsTold:
    def test_that_it_is_served_with_the_number_of_its_configs(self, contoso: Contoso) -> None:
        team = contoso.team()
        commit, _ = push(team, {A: workflow(1)})
        assert contoso.shown(team, commit) == [("succeeded", "1 config served")]
        commit, _ = push(team, {B: workflow(2)})
        assert contoso.shown(team, commit) == [("succeeded", "2 configs served")]

    def test_that_it_is_rejected_with_the_first_finding_and_its_place(self, contoso: Contoso) -> None:
        team = contoso.team()
        commit, receipt = push(team, {A: INVALID, B: NOT_YAML})
        [outcome] = receipt.outcomes.values()
        assert isinstance(outcome, Rejected)
        first = outcome.report.findings[0]
        more = len(outcome.report.findings) - 1
        described = f"{A}:{first.line}:{first.column}: {first.message} (+{more} more)"
        assert contoso.shown(team, commit) == [("failed", described)]

    def test_what_was_found_where_findings_only_report(self, contoso: Contoso) -> None:
        team = contoso.team(validation=Validation.REPORT)
        commit, _ = push(team, {A: INVALID, B: workflow(1)})
        assert contoso.shown(team, commit) == [("succeeded", "2 configs served, 1 finding")]

    def test_that_it_waits_and_then_what_came_of_it(self, contoso: Contoso) -> None:
        team = contoso.team()
        files = {f"{n}_runtime.yaml": workflow(n) for n in range(3)}
        commit, receipt = push(team, files, within=budget(files=2))
        assert isinstance(receipt.outcomes[BranchName("main")], Deferred)
        waiting = ("pending", "waiting: More files changed than a webhook may fetch; the timer goes on with it.")
        assert contoso.shown(team, commit) == [waiting]
        contoso.world.sweep()
        assert contoso.shown(team, commit) == [waiting, ("succeeded", "3 configs served")]

    def test_why_it_waits_when_git_failed_after_the_head_was_known(self, contoso: Contoso) -> None:
        team = contoso.team()
        contoso.emulator.misbehave(Fault.WRONG_BYTES)
        commit, receipt = push(team, {A: workflow(1)})
        assert isinstance(receipt.outcomes[BranchName("main")], Failed)
        [(state, description)] = contoso.shown(team, commit)
        assert state == "pending"
        assert description.startswith("waiting: The bytes of blob ")
        contoso.emulator.behave()
        contoso.world.let_back_off_pass()
        contoso.world.sweep()
        assert contoso.shown(team, commit)[1:] == [("succeeded", "1 config served")]

    def test_nothing_when_the_head_was_not_known(self, contoso: Contoso) -> None:
        team = contoso.team()
        push(team, {A: workflow(1)})
        contoso.emulator.misbehave(Fault.ERROR, route="refs")
        commit, receipt = push(team, {A: workflow(2)})
        assert isinstance(receipt.outcomes[BranchName("main")], Failed)
        [newest, *_] = contoso.world.journal.syncs(team.repo_id, None, 1)
        assert (newest.outcome, newest.commit_id) == ("failed", None)
        assert (contoso.shown(team, commit), contoso.posts) == ([], 1)

    def test_that_its_branch_went_on_before_it_had_a_verdict(self, contoso: Contoso) -> None:
        team = contoso.team()
        first, _ = push(team, {A: workflow(1), B: workflow(1)}, within=budget(files=1))
        second, _ = push(team, {B: None})  # type: ignore[dict-item]
        gone_on = "main went on to another commit before this one was judged"
        assert [state for state, _ in contoso.shown(team, first)] == ["pending", "notApplicable"]
        assert contoso.shown(team, first)[1] == ("notApplicable", gone_on)
        assert contoso.shown(team, second) == [("succeeded", "1 config served")]

    def test_nothing_of_waiting_when_the_branch_has_gone_on_already(self, contoso: Contoso) -> None:
        team = contoso.team()
        contoso.world.tell = lambda deadline: None
        first, _ = push(team, {A: workflow(1), B: workflow(1)}, within=budget(files=1))
        push(team, {A: workflow(2)})
        contoso.announce()
        assert (contoso.shown(team, first), contoso.posts) == ([], 1)

    def test_each_commit_for_itself_when_several_wait(self, contoso: Contoso) -> None:
        team = contoso.team()
        contoso.world.tell = lambda deadline: None
        one, _ = push(team, {A: workflow(1)})
        two, _ = push(team, {A: INVALID})
        contoso.announce()
        assert contoso.shown(team, one) == [("succeeded", "1 config served")]
        assert [state for state, _ in contoso.shown(team, two)] == ["failed"]

    def test_a_commit_that_was_served_says_so_without_a_number(self, contoso: Contoso) -> None:
        team = contoso.team()
        contoso.world.tell = lambda deadline: None
        one, _ = push(team, {A: workflow(1)})
        push(team, {A: workflow(2)})
        contoso.announce()
        assert contoso.shown(team, one) == [("succeeded", "was served, and is not any more")]

    def test_where_to_read_more(self, contoso: Contoso) -> None:
        team = contoso.team()
        commit, _ = push(team, {A: workflow(1)})
        with contoso.organisation.git(Deadline.after(timedelta(seconds=20))) as git:
            [status] = git.get_statuses(commit, team.repo_id)
        assert status["targetUrl"] == f"{URL}/repositories/{team.repo_id}"
        assert status["context"] == {"genre": "runtime-store", "name": "prod"}


class TestNothingNew:
    def test_a_sync_that_finds_what_it_found_posts_nothing(self, contoso: Contoso) -> None:
        team = contoso.team()
        push(team, {A: workflow(1)})
        assert contoso.posts == 1
        assert isinstance(team.sync(), Unchanged)
        team.ask(deep=True)
        team.run(deep=True)
        contoso.announce()
        assert team.outcomes() == ["replaced", "unchanged", "unchanged"]
        assert contoso.outbox.claim(contoso.organisation.url) is None
        assert contoso.posts == 1

    def test_nor_does_the_same_verdict_by_other_rules(self, contoso: Contoso) -> None:
        team = contoso.team()
        commit, _ = push(team, {A: INVALID})
        team.change(pattern="*_runtime.yaml")
        contoso.world.sweep()
        assert team.outcomes() == ["rejected", "rejected"]
        assert len(contoso.shown(team, commit)) == 1

    def test_another_verdict_about_the_same_commit_is_news(self, contoso: Contoso) -> None:
        team = contoso.team()
        commit, _ = push(team, {A: INVALID})
        team.change(validation=Validation.REPORT)
        contoso.world.sweep()
        assert [state for state, _ in contoso.shown(team, commit)] == ["failed", "succeeded"]

    def test_that_a_commit_is_served_no_more_is_no_news_of_its_own(self, contoso: Contoso) -> None:
        team = contoso.team()
        commit, _ = push(team, {A: workflow(1)})
        contoso.world.tell = lambda deadline: None
        assert isinstance(team.sync(), Unchanged)
        push(team, {A: workflow(2)})
        contoso.announce()
        assert contoso.shown(team, commit) == [("succeeded", "1 config served")]
        assert contoso.posts == 2

    def test_a_commit_that_has_its_verdict_is_not_told_that_a_later_look_waits(self, contoso: Contoso) -> None:
        team = contoso.team()
        commit, _ = push(team, {A: workflow(1)})
        team.change(root="etl")
        contoso.emulator.misbehave(Fault.ERROR, route="tree")
        contoso.world.sweep()
        assert team.outcomes()[-1] == "failed"
        assert contoso.shown(team, commit) == [("succeeded", "1 config served")]

    def test_a_deep_sync_that_fails_is_about_no_head(self, contoso: Contoso) -> None:
        team = contoso.team()
        push(team, {A: workflow(1)})
        team.ask(deep=True)
        contoso.emulator.misbehave(Fault.ERROR, route="tree")
        assert isinstance(team.run(deep=True), Failed)
        [newest, *_] = contoso.world.journal.syncs(team.repo_id, None, 1)
        assert (newest.outcome, newest.commit_id) == ("failed", None)

    def test_a_failure_that_repeats_is_told_once(self, contoso: Contoso) -> None:
        team = contoso.team()
        contoso.emulator.misbehave(Fault.WRONG_BYTES)
        commit, _ = push(team, {A: workflow(1)})
        for _ in range(3):
            contoso.world.let_back_off_pass()
            contoso.world.sweep()
        assert len(team.outcomes()) == 4
        assert len(contoso.shown(team, commit)) == 1

    def test_a_sweep_with_nothing_to_tell_asks_once(self, contoso: Contoso) -> None:
        contoso.team()
        contoso.world.sweep()
        contoso.outbox.calls.clear()
        contoso.world.sweep()
        assert contoso.outbox.calls == {"claim": 1}


class TestTrouble:
    def test_a_commit_that_is_gone_is_done_with_and_the_others_are_told(self, contoso: Contoso) -> None:
        teams = [contoso.team(name) for name in ("orders", "sales")]
        contoso.world.tell = lambda deadline: None
        commits = [push(team, {A: workflow(1)})[0] for team in teams]
        contoso.world.execute("UPDATE syncs SET commit_id = %s WHERE repo_id = %s", "5" * 40, teams[1].repo_id)
        contoso.announce()
        assert contoso.shown(teams[0], commits[0]) == [("succeeded", "1 config served")]
        assert contoso.posts == 2
        contoso.announce()
        assert contoso.posts == 2

    def test_a_refusal_ends_the_round_is_logged_once_and_stops_no_sync(
        self, contoso: Contoso, caplog: pytest.LogCaptureFixture
    ) -> None:
        teams = [contoso.team(f"team{number}") for number in range(6)]
        contoso.emulator.misbehave(Fault.FORBIDDEN, route="statuses")
        contoso.world.tell = lambda deadline: None
        commits = [push(team, {A: workflow(1)})[0] for team in teams]
        contoso.announce()
        assert contoso.posts == 1
        [record] = [record for record in caplog.records if record.name == "shared.statuses"]
        assert "Code (status)" in record.__dict__["hint"]
        assert isinstance(teams[0].sync(), Unchanged)
        contoso.emulator.behave()
        contoso.end_leases()
        contoso.announce()
        for team, commit in zip(teams, commits, strict=True):
            assert contoso.shown(team, commit) == [("succeeded", "1 config served")]

    def test_a_throttle_pauses_the_source_as_for_everything_else(self, contoso: Contoso) -> None:
        team = contoso.team()
        contoso.emulator.misbehave(Fault.THROTTLED, route="statuses", retry_after=900, times=1)
        commit, receipt = push(team, {A: workflow(1)})
        assert isinstance(receipt.outcomes[BranchName("main")], Replaced)
        with contoso.world.pool.connection() as connection:
            [row] = connection.execute("SELECT source, paused_until - clock_timestamp() FROM sources").fetchall()
        assert row[0] == contoso.organisation.url
        assert timedelta(minutes=14) < row[1] <= timedelta(minutes=15)
        contoso.end_leases()
        contoso.announce()
        assert contoso.posts == 1
        contoso.world.execute("UPDATE sources SET paused_until = clock_timestamp()")
        contoso.announce()
        assert contoso.shown(team, commit) == [("succeeded", "1 config served")]

    @pytest.mark.parametrize("fault", [Fault.HANG, Fault.ERROR, Fault.RESET, Fault.SIGN_IN, Fault.CUT])
    def test_a_delivery_is_answered_within_its_budget_with_what_became_of_it(
        self, contoso: Contoso, fault: Fault
    ) -> None:
        team = contoso.team()
        push(team, {A: workflow(1)})
        contoso.emulator.misbehave(fault, route="statuses")
        started = monotonic()
        _, receipt = push(team, {A: workflow(2)}, within=budget(1.5))
        assert monotonic() - started < 10
        assert isinstance(receipt.outcomes[BranchName("main")], Replaced)
        assert team.numbers() == {A: "workflow-2"}
        assert team.status().condition == "Ready"

    def test_telling_takes_three_seconds_of_a_long_budget_at_most(self, contoso: Contoso) -> None:
        given: list[float] = []
        contoso.world.tell = lambda deadline: given.append(deadline.remaining)
        push(contoso.team(), {A: workflow(1)}, within=budget(60))
        [seconds] = given
        assert 2 < seconds <= 3

    def test_a_delivery_that_syncs_nothing_tells_nobody(self, contoso: Contoso) -> None:
        contoso.world.intake.receive(Event("git.push", is_test=True), budget())
        assert contoso.outbox.calls == {}

    def test_a_sweep_syncs_first_and_ends_with_its_budget(self, contoso: Contoso) -> None:
        teams = [contoso.team(f"team{number}") for number in range(3)]
        for team in teams:
            team.git.commit({A: workflow(1)})
        contoso.emulator.misbehave(Fault.HANG, route="statuses")
        started = monotonic()
        summary = contoso.world.sweep(4)
        assert (summary.outcomes, summary.is_complete) == ({"Replaced": 3}, True)
        assert monotonic() - started < 15

    def test_no_time_left_is_no_reason_to_begin(self, contoso: Contoso) -> None:
        contoso.world.tell = lambda deadline: None
        push(contoso.team(), {A: workflow(1)})
        contoso.statuses.announce(Deadline.after(timedelta(seconds=0.4)))
        assert contoso.outbox.calls == {}

    def test_a_poster_that_dies_after_its_post_posts_twice_and_loses_nothing(self, contoso: Contoso) -> None:
        team = contoso.team()
        contoso.outbox.before["posted"].append(partial(_raise, DatabaseUnavailable("gone")))
        commit, receipt = push(team, {A: workflow(1)})
        assert isinstance(receipt.outcomes[BranchName("main")], Replaced)
        contoso.announce()
        assert len(contoso.shown(team, commit)) == 1
        contoso.end_leases()
        contoso.announce()
        assert contoso.shown(team, commit) == [("succeeded", "1 config served")] * 2
        contoso.announce()
        assert contoso.posts == 2

    def test_a_database_that_is_gone_fails_neither_delivery_nor_sweep(
        self, contoso: Contoso, caplog: pytest.LogCaptureFixture
    ) -> None:
        team = contoso.team()
        contoso.outbox.instead["claim"] = partial(_raise, DatabaseUnavailable("gone"))
        _, receipt = push(team, {A: workflow(1)})
        assert isinstance(receipt.outcomes[BranchName("main")], Replaced)
        assert contoso.world.sweep().is_complete
        assert "A round of commit statuses broke" in caplog.messages


def _raise(error: Exception, *_: object) -> None:
    raise error


class TestRounds:
    def test_workers_share_a_round_and_every_commit_is_told_once(self, contoso: Contoso) -> None:
        contoso.world.tell = lambda deadline: None
        teams = [contoso.team(f"team{number}") for number in range(8)]
        commits = [push(team, {A: workflow(number)})[0] for number, team in enumerate(teams)]
        contoso.statuses.announce(Deadline.after(timedelta(seconds=20)), workers=4)
        assert contoso.posts == 8
        for team, commit in zip(teams, commits, strict=True):
            assert contoso.shown(team, commit) == [("succeeded", "1 config served")]

    def test_a_refusal_ends_it_for_all_workers_with_one_line_in_the_log(
        self, contoso: Contoso, caplog: pytest.LogCaptureFixture
    ) -> None:
        contoso.world.tell = lambda deadline: None
        for number in range(20):
            push(contoso.team(f"team{number}"), {A: workflow(1)})
        contoso.emulator.misbehave(Fault.UNAUTHORIZED, route="statuses")
        contoso.statuses.announce(Deadline.after(timedelta(seconds=20)), workers=3)
        assert contoso.posts <= 6
        assert [record.name for record in caplog.records].count("shared.statuses") == 1

    def test_a_throttle_of_one_worker_ends_it_for_the_others(self, contoso: Contoso) -> None:
        contoso.world.tell = lambda deadline: None
        for number in range(20):
            push(contoso.team(f"team{number}"), {A: workflow(1)})
        contoso.emulator.misbehave(Fault.THROTTLED, route="statuses", times=1)
        contoso.statuses.announce(Deadline.after(timedelta(seconds=20)), workers=2)
        assert contoso.posts < 20

    def test_a_round_has_an_end(self, contoso: Contoso, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(statuses, "MOST_AT_ONCE", 3)
        contoso.world.tell = lambda deadline: None
        for number in range(5):
            push(contoso.team(f"team{number}"), {A: workflow(1)})
        contoso.statuses.announce(Deadline.after(timedelta(seconds=20)), workers=2)
        assert contoso.posts == 3
        contoso.announce()
        assert contoso.posts == 5

    def test_repositories_of_other_sources_are_told_nothing(self, contoso: Contoso) -> None:
        contoso.world.git = contoso.local_git
        contoso.world.use(Rules.shipped())
        team = contoso.world.repository()
        _, receipt = push(team, {A: workflow(1)})
        assert isinstance(receipt.outcomes[BranchName("main")], Replaced)
        contoso.announce()
        assert contoso.emulator.calls == []


class TestSettings:
    @pytest.mark.parametrize(("setting", "claims"), [("true", 1), ("false", 0)])
    def test_statuses_are_off_where_the_settings_say_so(self, contoso: Contoso, setting: str, claims: int) -> None:
        settings = load({"DATABASE_URL": "postgresql://127.0.0.1/x", "COMMIT_STATUSES": setting})
        outbox: Any = contoso.outbox
        queue: Any = contoso.world.queue
        announce = announcer_from(settings, contoso.organisation, outbox, queue)
        announce(Deadline.after(timedelta(seconds=9)), workers=1)
        assert contoso.outbox.calls["claim"] == claims

    def test_and_where_there_is_no_organisation(self, contoso: Contoso) -> None:
        unused: Any = None
        announcer_from(load({"DATABASE_URL": "postgresql://127.0.0.1/x"}), None, unused, unused)(
            Deadline.after(timedelta(seconds=9))
        )
