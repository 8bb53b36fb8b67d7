"""Many at once, on one branch and on many: losers touch nothing, readers see whole sets, and nobody deadlocks."""

import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from support.stores import MAIN, REPO, Store, at_once, commit, config, delivery, judgement

from shared.errors import ClaimLost, RepositoryNotFound
from shared.model import BranchName, Change, Claim, CommitId, FilePath, Generation, Listing, SyncId, Trigger
from shared.postgres.pool import Pool
from shared.postgres.queue import PostgresQueue

PATHS = [f"folder/{letter}.yaml" for letter in "abcdefghij"]
DURATION = 4.0
SEED = 20250101


@pytest.fixture
def races(own_database: str, caplog: pytest.LogCaptureFixture) -> Iterator[Store]:
    """A store whose statements must never have to be repeated, nor deadlock."""
    caplog.set_level(logging.INFO, "shared.postgres")
    with closing(Pool(own_database, size=20)) as pool:
        store = Store(pool, own_database)
        yield store
        assert store.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]
    assert "statement repeated" not in caplog.text


def files(number: int) -> dict[str, int | str]:
    """What commit `number` holds: some of the paths, each saying the number, and one file that never changes."""
    chosen = random.Random(number).sample(PATHS, k=4)
    return {**dict.fromkeys(chosen, number), "same.yaml": "always the same"}


class Hammer:
    """Everything that happens to one branch, at once, until the time is over."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # Far below the stalls, so that losing a lease is common.
        self.queue = PostgresQueue(store.pool, lease=timedelta(milliseconds=15))
        self.over = threading.Event()
        self.commits = iter(range(1, 10**9))
        self.won: dict[Generation, int] = {}
        self.seen: dict[Generation, CommitId] = {}
        self.counts: Counter[str] = Counter()

    def until_over(self, one: Callable[[random.Random], None]) -> Callable[[], None]:
        def work() -> None:
            chance = random.Random(SEED + threading.get_ident())
            try:
                while not self.over.is_set():
                    one(chance)
            finally:
                self.over.set()

        return work

    def run(self, *work: Callable[[random.Random], None]) -> None:
        timer = threading.Timer(DURATION, self.over.set)
        timer.start()
        errors = [error for error in at_once(*map(self.until_over, work)) if error is not None]
        timer.cancel()
        assert errors == []

    def write(self, chance: random.Random) -> None:
        claim = self.queue.claim(REPO, MAIN, SyncId(uuid4()), Trigger.WEBHOOK)
        if not isinstance(claim, Claim):
            self.counts["busy"] += 1
            return
        number = next(self.commits)
        wanted = files(number)
        stored = self.store.configs.stored(REPO, MAIN)
        self.over.wait(chance.choice([0, 0, 0.005, 0.02, 0.04]))
        configs = tuple(config(path, value) for path, value in chance.sample(list(wanted.items()), k=len(wanted)))
        gone = tuple(path for path in stored if path not in wanted)
        try:
            settled = self.store.configs.replace(claim, judgement(number), Change(configs, gone), serve=commit(number))
        except ClaimLost:
            self.counts["lost"] += 1
        else:
            assert settled.changed
            assert settled.generation not in self.won
            self.won[settled.generation] = number

    def request(self, chance: random.Random) -> None:
        self.store.queue.request(delivery(), REPO, [MAIN])
        self.counts["requested"] += 1

    def change_registration(self, chance: random.Random) -> None:
        self.over.wait(0.1)
        current = self.store.registry.get(REPO)
        changed = replace(current.registration, root=f"root-{current.revision}")
        self.store.registry.put(REPO, changed, expected=current.revision)
        self.counts["requested"] += 1

    def read(self, chance: random.Random) -> None:
        listing = self.store.reader.listing(REPO, MAIN)
        page = self.store.reader.page(REPO, MAIN, "", None, 99)
        for one in (listing, page):
            self.check(one)
        found = self.store.reader.item(REPO, MAIN, FilePath("same.yaml"))
        assert found is not None
        assert found[1] is not None, "a file that every commit has was missing"
        self.note(found[0].generation, found[0].commit_id)
        found = self.store.reader.item(REPO, MAIN, FilePath(chance.choice(PATHS)))
        assert found is not None
        if found[1] is not None:
            assert commit(json.loads(found[1].config)) == found[0].commit_id
        self.counts["read"] += 1

    def check(self, listing: Listing | None) -> None:
        assert listing is not None
        shown = {item.filepath: json.loads(item.config) for item in listing.items}
        [number] = {value for value in shown.values() if isinstance(value, int)}
        assert shown == files(number)
        assert listing.served.commit_id == commit(number)
        self.note(listing.served.generation, listing.served.commit_id)

    def note(self, generation: Generation, commit_id: CommitId) -> None:
        assert self.seen.setdefault(generation, commit_id) == commit_id


def test_hammered_by_many_a_branch_is_always_one_commit(races: Store) -> None:
    races.register()
    hammer = Hammer(races)
    first = races.sync(files(1))
    hammer.won[first.generation] = next(hammer.commits)
    hammer.run(*[hammer.write] * 5, *[hammer.request] * 2, hammer.change_registration, *[hammer.read] * 2)

    last = max(hammer.won)
    row = races.branch()
    assert hammer.counts["lost"] > 10, hammer.counts
    assert len(hammer.won) > 10, hammer.counts
    assert (row["generation"], row["commit_id"]) == (last, commit(hammer.won[last]))
    assert races.served() == files(hammer.won[last])
    assert row["requested"] == 1 + hammer.counts["requested"], "a request was lost"
    assert hammer.seen.items() <= {generation: commit(number) for generation, number in hammer.won.items()}.items()
    journalled = races.sql("SELECT generation, commit_id FROM syncs WHERE outcome = 'replaced'")
    assert dict(journalled) == {generation: commit(number) for generation, number in hammer.won.items()}
    assert len(journalled) == len(hammer.won), "a loser wrote to the journal"


def test_pushes_that_name_the_same_branches_in_any_order_are_all_kept(races: Store) -> None:
    names = [BranchName(f"branch-{number}") for number in range(12)]
    races.register(REPO, *names)

    def push(order: list[BranchName]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(40):
                races.queue.request(delivery(), REPO, order)
                races.sweeps.moved(REPO, dict.fromkeys(order, commit(1)))
                races.queue.ask(REPO, order)

        return work

    assert at_once(push(names), push(names[::-1]), push(names[6:] + names[:6])) == [None] * 3
    assert {status.requested for status in races.queue.status(REPO)} == {1 + 3 * 40 * 3}


@pytest.mark.parametrize("rounds", [40])
def test_removing_against_replacing_leaves_nothing_behind(races: Store, rounds: int) -> None:
    for _ in range(rounds):
        races.register()
        races.sync(dict.fromkeys(PATHS, "old"))
        claim = races.claim()
        change = Change(tuple(config(path, "new") for path in reversed(PATHS)), (FilePath("same.yaml"),))
        removed, replaced = at_once(
            lambda: races.registry.remove(REPO, expected=1),
            lambda claim=claim, change=change: races.configs.replace(claim, judgement(2), change, serve=commit(2)),
        )
        assert removed is None
        assert isinstance(replaced, ClaimLost) or replaced.changed
        assert races.state("branches", "runtime_configs") == {"branches": [], "runtime_configs": []}


@pytest.mark.parametrize("rounds", [40])
def test_removing_against_pushes_to_old_and_new_branches_loses_neither(races: Store, rounds: int) -> None:
    old = [BranchName(f"old-{number}") for number in range(4)]
    new = [BranchName(f"a-new-{number}") for number in range(4)]
    for _ in range(rounds):
        races.register(REPO, *old, *new)
        races.sql("DELETE FROM branches WHERE branch LIKE 'a-new-%'")  # so that a request makes their rows
        removed, *pushed = at_once(
            lambda: races.registry.remove(REPO, expected=1),
            lambda: races.queue.request(delivery(), REPO, old + new),
            lambda: races.queue.request(delivery(), REPO, new[::-1] + old[::-1]),
            lambda: races.sweeps.moved(REPO, dict.fromkeys(new, commit(1))),
        )
        assert removed is None
        assert all(len(one.requests) in (0, 8) for one in pushed[:2])
        assert pushed[2] is None
        assert races.state("branches", "unannounced") == {"branches": [], "unannounced": []}
    assert races.sql("SELECT count(*) FROM deliveries") == [(2 * rounds,)]


def test_changing_against_everything_else_deadlocks_with_nothing(races: Store) -> None:
    """The order of locks: repositories, then branches by name, then rows."""
    names = [BranchName(name) for name in ("a", "b", "c", "d")]
    races.register(REPO, *names)
    over = time.monotonic() + 2.0

    def again(one: Callable[[random.Random], object]) -> Callable[[], None]:
        def work() -> None:
            chance = random.Random(SEED)
            while time.monotonic() < over:
                one(chance)

        return work

    def sync(chance: random.Random) -> None:
        claim = races.due()
        if claim is not None:
            change = Change(tuple(config(path, chance.random()) for path in chance.sample(PATHS, k=5)))
            try:
                races.configs.replace(claim, judgement(1), change, serve=commit(1))
            except ClaimLost:
                return

    def put(chance: random.Random) -> None:
        try:
            current = races.registry.get(REPO)
            branches = tuple(chance.sample(names, k=3))
            races.registry.put(REPO, replace(current.registration, branches=branches), expected=current.revision)
        except RepositoryNotFound:
            return

    assert (
        at_once(
            *[again(sync)] * 3,
            again(put),
            again(lambda chance: races.queue.request(delivery(), REPO, chance.sample(names, k=4), all_heads=True)),
            again(lambda chance: races.queue.ask(REPO, chance.sample(names, k=4), deep=True)),
            again(lambda chance: races.sweeps.claim_head_checks(1)),
            again(lambda chance: races.sweeps.ask_due_deep_syncs()),
            again(lambda chance: races.queue.status(REPO)),
        )
        == [None] * 9
    )
