"""A source in trouble is a condition of its branches."""

from datetime import timedelta

import pytest
from support.stores import MAIN, REPO, SOURCE, Store

from shared.errors import SourceError, SourceRefused, SourceThrottled
from shared.model import BranchName, Condition, DeferReason, Deferred, Failed, RepoId, SourceName

HOUR = timedelta(hours=1)
IDLE, WAITING, FAILED = (BranchName(name) for name in ("idle", "waiting", "failed"))
REFUSED = SourceRefused("The token has expired.", hint="Renew it.")
THROTTLED = SourceThrottled("Too many requests.", retry_after=HOUR)


@pytest.fixture
def store(store: Store) -> Store:
    """One branch of each kind, of a source that was never in trouble."""
    store.register(REPO, IDLE, WAITING, FAILED)
    for branch in (IDLE, WAITING):
        store.sync({}, branch=branch)
    store.queue.ask(REPO, [WAITING])
    store.queue.settle(store.claim(FAILED), Failed(SourceRefused("No right to this one.")))
    return store


def conditions(store: Store) -> dict[str, str]:
    return {status.branch: status.condition for status in store.queue.status(REPO)}


def end_pauses(store: Store) -> None:
    store.sql("UPDATE sources SET paused_until = clock_timestamp()")


BEFORE = {IDLE: "Ready", WAITING: "Syncing", FAILED: "AuthenticationFailed"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (REFUSED, dict.fromkeys(BEFORE, "AuthenticationFailed")),
        (THROTTLED, {IDLE: "Ready", WAITING: "Throttled", FAILED: "Throttled"}),
    ],
)
def test_refused_it_is_one_of_all_branches_and_throttled_of_those_that_wait(
    store: Store, error: SourceError, told: dict[str, str]
) -> None:
    assert conditions(store) == BEFORE
    store.queue.pause_source(SOURCE, error)
    assert conditions(store) == told
    counted = store.journal.overview().conditions
    assert counted == {Condition(one): list(told.values()).count(one) for one in told.values()}
    end_pauses(store)
    store.queue.resume_source(SOURCE)
    assert conditions(store) == BEFORE


def test_it_says_why_and_since_when(store: Store) -> None:
    store.queue.pause_source(SOURCE, REFUSED)
    first = store.status(IDLE)
    assert (first.reason, first.message) == ("SourcePaused", "The token has expired. Renew it.")
    store.queue.pause_source(SOURCE, SourceRefused("It still has."))
    again = store.status(IDLE)
    assert (again.message, again.since) == ("It still has.", first.since)
    store.queue.pause_source(SOURCE, THROTTLED)
    assert store.status(WAITING).since > first.since


def test_other_sources_and_what_is_suspended_have_their_own(store: Store) -> None:
    store.queue.pause_source(SourceName("https://elsewhere"), REFUSED)
    assert conditions(store) == BEFORE
    store.queue.pause_source(SOURCE, REFUSED)
    store.register("resting", MAIN, suspended="moving house")
    assert {one.condition for one in store.queue.status(RepoId("resting"))} == {Condition.SUSPENDED}


def test_a_sync_that_runs_is_told_as_one(store: Store) -> None:
    store.queue.pause_source(SOURCE, REFUSED)
    store.sql("UPDATE branches SET lease_id = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 minute'")
    assert set(conditions(store).values()) == {"Syncing"}


def test_an_answer_ends_a_pause_that_is_over_and_not_one_that_was_just_asked_for(store: Store) -> None:
    store.queue.pause_source(SOURCE, THROTTLED, HOUR)
    store.queue.resume_source(SOURCE)
    assert conditions(store)[WAITING] == "Throttled"
    end_pauses(store)
    store.queue.resume_source(SOURCE)
    assert conditions(store) == BEFORE


def test_a_branch_that_is_served_and_asked_for_says_why_it_waits(store: Store) -> None:
    assert "A newer request waits." in store.status(WAITING).message
    store.queue.settle(store.claim(WAITING), Deferred(DeferReason.BUDGET, "No time."))
    waiting = store.status(WAITING)
    assert (waiting.condition, waiting.reason) == (Condition.SYNCING, "Requested")
    assert waiting.message.endswith("is served. A newer request waits. No time.")
    store.sync({}, branch=WAITING)
    assert store.status(WAITING).message.endswith("is served.")
