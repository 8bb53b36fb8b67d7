"""A source in trouble is left alone, costs little, delays nobody else, and is back at once when it is well.

What it costs is counted where it arrives, at the organisation. Time passes in the database, minute by minute.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from emulators.azure_devops import Fault
from support.contoso import A, Contoso, whole_app
from support.git import GitRepository
from support.load import delivery
from support.processes import eventually
from support.world import workflow

from shared.model import BranchName, Budget, Deadline, Registration, RepoId, SourceName
from shared.postgres.queue import BACK_OFF, BACK_OFF_CAP

MINUTE = timedelta(minutes=1)
WORKERS = 4


@pytest.fixture
def whole(database: str, tmp_path: Path) -> Iterator[Contoso]:
    folder = tmp_path / "organisation"
    with whole_app(database, folder, COMMIT_STATUSES="false", RECONCILE_WORKERS=str(WORKERS)) as whole:
        yield whole


def pass_time(whole: Contoso, duration: timedelta) -> None:
    """Everything that the database remembers has happened, or is planned, so much earlier; but for head checks, which
    are planned by the clock on the wall."""
    for table, columns in {
        "sources": ("paused_until", "since"),
        "branches": ("next_attempt_at", "lease_until", "announced_at"),
        "sweeps": ("lease_until", "ended_at"),
    }.items():
        for column in columns:
            whole.execute(f"UPDATE {table} SET {column} = {column} - %s", duration)


def calls(whole: Contoso) -> int:
    return len(whole.emulator.calls)


def sweeps(whole: Contoso, count: int, period: timedelta = MINUTE) -> list[int]:
    """What each of so many sweeps cost, with a period after each."""
    costs = []
    for _ in range(count):
        before = calls(whole)
        assert whole.app.sweep().started
        costs.append(calls(whole) - before)
        pass_time(whole, period)
    return costs


def register(whole: Contoso, repositories: Sequence[str], *branches: str) -> None:
    """With requests for their branches, and with heads that were checked just now."""
    whole.execute(
        "INSERT INTO repositories (repo_id, name, source, root, pattern, branches, validation, heads_checked_at)"
        " SELECT id, 'repository-' || id, %s, '', '*runtime*.yaml', %s, 'enforce', clock_timestamp()"
        " FROM unnest(%s::text[]) AS id",
        whole.emulator.url,
        list(branches or ("main",)),
        list(repositories),
    )
    whole.execute(
        "INSERT INTO branches (repo_id, branch, requested)"
        " SELECT repo_id, unnest(branches), 1 FROM repositories ON CONFLICT DO NOTHING"
    )


def missing(count: int) -> list[str]:
    """Ids that the organisation does not know."""
    return [str(UUID(int=number + 1)) for number in range(count)]


THOUSAND = [f"branch-{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("fault", "details"),
    [(Fault.UNAUTHORIZED, {}), (Fault.SIGN_IN, {}), (Fault.THROTTLED, {"retry_after": 420})],
    ids=["refused", "signed out", "throttled"],
)
def test_a_thousand_branches_of_an_organisation_that_does_not_want_us_cost_a_handful_of_calls(
    whole: Contoso, fault: Fault, details: dict[str, Any]
) -> None:
    register(whole, missing(100), *THOUSAND)
    whole.emulator.misbehave(fault, **details)
    first, *soon = sweeps(whole, 10)
    later = sweeps(whole, 10, 5 * MINUTE)
    # Every worker may be on its way when the first is refused; after that there is one probe for each pause.
    assert 1 <= first <= WORKERS
    assert {*soon, *later} == {0, 1}
    assert 1 <= sum(soon) <= 5
    assert 2 <= sum(later) <= 7


def test_deliveries_do_not_disturb_a_source_that_is_left_alone(whole: Contoso) -> None:
    hosted = whole.repository()
    whole.sweep()
    whole.emulator.misbehave(Fault.UNAUTHORIZED)
    whole.hook.post("/webhooks/azure-devops", data=delivery(hosted))
    before = calls(whole)
    for _ in range(50):
        told = whole.hook.post("/webhooks/azure-devops", data=delivery(hosted))
        answer: Any = told.json
        assert (told.status_code, answer["branches"][0]["reason"]) == (202, "source-paused")
    assert calls(whole) == before


def test_one_success_releases_a_thousand_branches(whole: Contoso) -> None:
    hosted = whole.repository()
    register(whole, missing(100), *THOUSAND)
    whole.emulator.misbehave(Fault.UNAUTHORIZED)
    sweeps(whole, 3)
    whole.emulator.behave()
    whole.execute("UPDATE sources SET paused_until = clock_timestamp()")
    whole.execute("UPDATE branches SET next_attempt_at = clock_timestamp() + interval '15 minutes', requested = 2")
    whole.execute("UPDATE branches SET next_attempt_at = NULL WHERE repo_id = %s", hosted.id)
    assert whole.app.sync.run_due(Budget(Deadline.after(MINUTE)))
    assert whole.served() == {A: "workflow-1"}
    assert whole.execute("SELECT source FROM sources") == []
    due = "requested > finished AND (next_attempt_at IS NULL OR next_attempt_at <= clock_timestamp())"
    assert whole.execute(f"SELECT count(*) FROM branches WHERE {due}") == [(1000,)]


class TestRepositoriesThatAreMissing:
    """Which looks the same as disabled, and as forbidden to us."""

    def test_wait_longer_with_each_attempt_and_each_for_a_time_of_its_own(self, whole: Contoso) -> None:
        register(whole, missing(20))
        last = "SELECT max(ended_at) FROM syncs AS s WHERE s.repo_id = b.repo_id"
        for attempt in range(9):
            whole.app.sweep()
            waited = [wait for (wait,) in whole.execute(f"SELECT next_attempt_at - ({last}) FROM branches AS b")]
            full = min(BACK_OFF * 2**attempt, BACK_OFF_CAP)
            assert full / 2 - timedelta(seconds=1) <= min(waited) <= max(waited) <= full
            assert max(waited) - min(waited) > full / 10
            whole.execute("UPDATE branches SET next_attempt_at = clock_timestamp()")
        assert full == BACK_OFF_CAP

    def test_start_anew_once_they_are_there(self, whole: Contoso) -> None:
        hosted = whole.repository()
        whole.emulator.disable(hosted)
        for _ in range(5):
            whole.app.sweep()
            whole.execute("UPDATE branches SET next_attempt_at = clock_timestamp()")
        assert whole.execute("SELECT attempts FROM branches") == [(5,)]
        whole.emulator.disable(hosted, is_disabled=False)
        whole.app.sweep()
        assert whole.served() == {A: "workflow-1"}
        assert whole.execute("SELECT attempts, next_attempt_at FROM branches") == [(0, None)]


class TestOneSource:
    @pytest.mark.parametrize("fault", [Fault.HANG, Fault.UNAUTHORIZED, Fault.THROTTLED, Fault.NOT_FOUND])
    def test_in_trouble_does_not_delay_another(self, whole: Contoso, tmp_path: Path, fault: Fault) -> None:
        """Not even one that hangs, and has more branches waiting than there are workers."""
        register(whole, missing(20))
        whole.emulator.misbehave(fault)
        other = GitRepository(tmp_path / "elsewhere")
        other.commit({A: workflow(1)})
        registration = Registration("elsewhere", SourceName(str(other.path)), (BranchName("main"),))
        whole.app.registry.put(RepoId("elsewhere"), registration, expected=None)
        whole.execute("UPDATE branches SET next_attempt_at = clock_timestamp() - interval '1 minute'")
        whole.execute("UPDATE branches SET next_attempt_at = clock_timestamp() WHERE repo_id = 'elsewhere'")
        sweep = Thread(target=whole.app.sweep)
        sweep.start()
        try:
            eventually(lambda: whole.served("elsewhere"), "the sync of the other source", 30)
        finally:
            whole.emulator.behave()
            sweep.join()
