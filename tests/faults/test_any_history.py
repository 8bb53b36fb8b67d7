"""Whatever happens, in whatever order: what is served is right after each step, and the head after a quiet sweep.

Hypothesis makes up histories of pushes, deliveries, sweeps, people, faults and workers that overtake each other. They
run over a real database, real Git and the HTTP app, beside the plain model of `support.history`. Each run of the tests
takes the same few histories. To look through many that nobody has seen before, for as long as it is left alone:

    pytest tests/faults/test_any_history.py --hypothesis-profile=long -o faulthandler_timeout=0
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support import postgres
from support.history import ERRORS, MAX_BYTES, PATTERNS, ROOTS, Ended, Key, Library, Model, Place, Read
from support.web import ADMIN_KEY, HOOK_KEY, READER_KEY, bearer
from support.world import budget
from werkzeug.test import TestResponse

from shared import documents, sync
from shared.errors import DatabaseUnavailable
from shared.model import ABSENT, BranchName, RefUpdate, Registration, RepoId, SourceName, Tree, Validation
from shared.postgres.pool import Pool
from shared.rules import Rules

ONE = RepoId("278d5cd2-584d-4b63-824a-2ba458937249")
TWO = RepoId("5b7c9a02-3f0e-4a4e-9d0c-3a8d3f6b1c55")
MAIN, DEV = BranchName("main"), BranchName("dev")
REPOSITORIES, BRANCHES = (ONE, TWO), (MAIN, DEV)
KEYS_OF_ALL: tuple[Key, ...] = tuple((repo_id, branch) for repo_id in REPOSITORIES for branch in BRANCHES)
NUMBER_OF_COMMITS = 13

SHORT = settings(max_examples=50, stateful_step_count=30, derandomize=True, database=None)


class Killed(BaseException):
    """The process of a worker ends here: it does nothing any more."""


# Most of what can go wrong goes wrong where a sync learns what it goes by, and just before it ends.
MOMENTS = (
    *[(("queue", "claim"), "before"), (("git", "head"), "after"), (("store", "stored"), "after")] * 2,
    *[(("store", "replace"), "before")] * 6,
    *((("git", call), when) for call in ("heads", "head", "tree_id", "tree", "blobs") for when in ("before", "after")),
    *((("queue", call), when) for call in ("request", "claim_due", "renew", "settle") for when in ("before", "after")),
    *((("store", call), when) for call in ("stored", "replace") for when in ("before", "after")),
)
repositories, branches = st.sampled_from(REPOSITORIES), st.sampled_from(BRANCHES)
heads = st.integers(0, NUMBER_OF_COMMITS)
"""The number of a commit; the one after the last is none, which deletes the branch."""
changes = st.fixed_dictionaries(
    {},
    optional={
        "pattern": st.sampled_from(PATTERNS),
        "root": st.sampled_from(ROOTS),
        "branches": st.sampled_from([BRANCHES, (MAIN,), (DEV,)]),
        "validation": st.sampled_from(Validation),
        "suspended": st.sampled_from([None, "moving house"]),
    },
)
wheres = st.sampled_from(["here", "here", "here", "other branch", "other repository"])
takeovers = st.tuples(wheres, heads, st.booleans())
# What can happen: the name of a method, and its arguments.
ARGUMENTS: Mapping[str, tuple[st.SearchStrategy[Any], ...]] = {
    "change": (repositories, changes),
    **dict.fromkeys(("register", "unregister", "register_anew"), (repositories,)),
    "overtake": (wheres, heads, st.booleans()),
    "push_meanwhile": (wheres, heads),
    "fail": (st.sampled_from(sorted(ERRORS)), st.none() | takeovers),
    **dict.fromkeys(("lose_the_database", "kill"), ()),
    "cut_off": (st.sampled_from(["blobs", "tree"]),),
}


def one_of(*names: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """A name that is given more often is chosen more often, which `st.one_of` would not do."""
    return st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), *ARGUMENTS[name]))


decisions = one_of("change", "change", "change", "register", "register", "unregister", "register_anew")
"""What owners do."""
often = ["overtake", "push_meanwhile"] * 4
happenings = one_of(*often, "fail", "fail", "lose_the_database", "kill", "cut_off", "change", "register_anew")
interruptions = st.lists(st.tuples(st.sampled_from(MOMENTS), happenings), max_size=2)
"""What happens in the middle of what is done next: before or after which call of a sync, once."""


class History(RuleBasedStateMachine):
    def __init__(self, pool: Pool, library: Library, rulebooks: Mapping[bool, Rules]) -> None:
        super().__init__()
        self.library = library
        self.git = library.git
        self.rulebooks = rulebooks
        self.model = Model(library)
        self.world = Place(pool, self.git.path.parents[1], rulebooks[False])
        self.client = self.world.client()
        self.strict = False
        self.at: Key = (ONE, MAIN)
        self.pushes: list[RefUpdate] = []
        self.ended: set[object] = set()
        self.marks: dict[Key, object] = {}
        self.wrong: Exception | None = None
        for branch in BRANCHES:
            self.git.delete(branch)

    @initialize(main=heads, dev=heads)
    def begin(self, main: int, dev: int) -> None:
        self.register(ONE)
        self.register(TWO)
        self.push(MAIN, main, ONE)
        self.push(DEV, dev, TWO)

    # -- Git and its deliveries --------------------------------------------------------------------------------------

    @rule(branch=branches, number=heads, told=repositories, meanwhile=interruptions)
    def push_and_tell(self, branch: BranchName, number: int, told: RepoId, meanwhile: list[Any]) -> None:
        self._interrupt(meanwhile)
        self.push(branch, number, told)

    @rule(branch=branches, number=heads)
    def push_unheard(self, branch: BranchName, number: int) -> None:
        self.push(branch, number, None)

    def push(self, branch: BranchName, number: int, told: RepoId | None) -> None:
        """A branch moves: on, back, by force, to the commit of another history; it comes into being, or is deleted."""
        before = self.model.heads[branch][-1]
        head = ABSENT if number == NUMBER_OF_COMMITS else self.library.commits[number]
        if head != before:
            self.model.note_requests(self.world.queue.status())
            self.git.delete(branch) if head == ABSENT else self.git.set_head(branch, head)
            self.model.move(branch, head)
            self.pushes.append(RefUpdate(branch, before, head))
        if told is not None:
            self.deliver(told, 0, "whole")

    @rule(
        repo_id=repositories,
        back=st.integers(0, 4),
        kind=st.sampled_from(["whole", "whole", "minimal", "nameless"]),
        meanwhile=interruptions,
    )
    def deliver_again(self, repo_id: RepoId, back: int, kind: str, meanwhile: list[Any]) -> None:
        self._interrupt(meanwhile)
        self.deliver(repo_id, back, kind)

    def deliver(self, repo_id: RepoId, back: int, kind: str) -> None:
        """Of one of the latest pushes: now, late, again, in another order, or not knowing what it is about."""
        if back >= len(self.pushes):
            return
        update = self.pushes[-1 - back]
        self.at = repo_id, update.branch
        push: dict[str, Any] = {"pushId": len(self.pushes) - back}
        if kind != "nameless":
            push["repository"] = {"id": repo_id, "name": "orders", "project": {"name": "etl"}}
            if repo_id not in self.model.registered:
                self.follow()  # Its first delivery registers it.
                self.model.register(repo_id, Registration("orders", SourceName(""), (MAIN,)))
        if kind == "whole":
            ref = {"name": f"refs/heads/{update.branch}", "oldObjectId": update.old, "newObjectId": update.new}
            push["refUpdates"] = [ref]
        answer = self._call("/webhooks/azure-devops", HOOK_KEY, {"eventType": "git.push", "resource": push})
        assert answer is None or answer.status_code in (200, 202, 503), answer.text

    # -- Work --------------------------------------------------------------------------------------------------------

    @rule(meanwhile=interruptions)
    def sweep(self, meanwhile: list[Any]) -> None:
        self._interrupt(meanwhile)
        with suppress(Killed, DatabaseUnavailable):
            self.world.sweep()

    @rule(repo_id=repositories, branch=branches, number=heads, deep=st.booleans(), meanwhile=interruptions)
    def sync_by_hand(self, repo_id: RepoId, branch: BranchName, number: int, deep: bool, meanwhile: list[Any]) -> None:
        self._interrupt(meanwhile)
        self.at = repo_id, branch
        path = f"/repositories/{repo_id}/sync?branch={branch}{'&deep=true' if deep else ''}"
        commit = {} if number == NUMBER_OF_COMMITS else {"commit": self.library.commits[number]}
        answer = self._call(path, ADMIN_KEY, commit)
        assert answer is None or answer.status_code != 500, answer.text

    def _call(self, path: str, key: str, body: object) -> TestResponse | None:
        """None when the process was killed before it could answer."""
        with suppress(Killed):
            return self.client.post(path, headers=bearer(key), json=body)
        return None

    # -- People and time ---------------------------------------------------------------------------------------------

    @rule(decision=decisions)
    def decide(self, decision: tuple[Any, ...]) -> None:
        name, *arguments = decision
        getattr(self, name)(*arguments)

    def register(self, repo_id: RepoId) -> None:
        if repo_id not in self.model.registered:
            registration = Registration(f"team-{repo_id[:4]}", SourceName(str(self.git.path)), BRANCHES)
            self.follow()
            self.world.registrar.put(repo_id, registration, expected=None)
            self.model.register(repo_id, registration)

    def unregister(self, repo_id: RepoId) -> None:
        if repo_id in self.model.registered:
            self.follow()
            self.world.registrar.remove(repo_id, expected=self.world.registry.get(repo_id).revision)
            self.model.remove(repo_id)

    def register_anew(self, repo_id: RepoId) -> None:
        self.unregister(repo_id)
        self.register(repo_id)

    def change(self, repo_id: RepoId, changes: Mapping[str, Any]) -> None:
        if repo_id in self.model.registered:
            self.follow()
            now = self.world.registry.get(repo_id)
            changed = replace(now.registration, **changes)
            self.world.registrar.put(repo_id, changed, expected=now.revision)
            # To ask for what is there already changes nothing, and nothing is judged again.
            if changed != now.registration:
                self.model.register(repo_id, changed)

    @rule(strict=st.booleans())
    def deploy(self, strict: bool) -> None:
        """Another version of the app, whose rules are others."""
        self.strict = strict
        self.model.strict.add(strict)
        self.world.use(self.rulebooks[strict])
        self.client = self.world.client()

    @rule(leases=st.booleans(), back_off=st.booleans(), heads=st.booleans())
    def time_passes(self, leases: bool = True, back_off: bool = True, heads: bool = True) -> None:
        if leases:
            self.world.execute("UPDATE branches SET lease_until = clock_timestamp() - interval '1 second'")
        if back_off:
            self.world.let_back_off_pass()
            self.world.execute("UPDATE sources SET paused_until = clock_timestamp() - interval '1 second'")
        if heads:
            self.world.make_head_checks_due()

    # -- In the middle of something ----------------------------------------------------------------------------------

    def _interrupt(self, interruptions: list[Any]) -> None:
        for ((part, call), when), happening in interruptions:
            if happening[0] != "fail" or part == "git":
                getattr(getattr(self.world, part), when)[call].append(partial(self._happen, *happening))

    def _happen(self, name: str, *arguments: Any) -> None:
        self._look()
        getattr(self, name)(*arguments)

    def _place(self, where: str) -> Key:
        """The branch that something is done about, or one beside it."""
        repo_id, branch = self.at
        if where == "other branch":
            return repo_id, DEV if branch == MAIN else MAIN
        return (TWO if repo_id == ONE else ONE) if where == "other repository" else repo_id, branch

    def push_meanwhile(self, where: str, number: int) -> None:
        repo_id, branch = self._place(where)
        self.push(branch, number, repo_id)

    def overtake(self, where: str, number: int, told: bool) -> None:
        """Whoever is at work stalls for longer than its lease. Somebody pushes, and another does the work."""
        repo_id, branch = self._place(where)
        self.time_passes(heads=False)
        self.push(branch, number, repo_id if told else None)
        if not told:
            with suppress(Killed, DatabaseUnavailable):
                self.world.sync.run_due(budget())

    def fail(self, how: str, takeover: tuple[str, int, bool] | None) -> None:
        """Git does, and may have taken its time."""
        if takeover:
            self.overtake(*takeover)
        raise ERRORS[how]()

    def lose_the_database(self) -> None:
        """After a call: what it says is done, and nobody was told."""
        raise DatabaseUnavailable("The connection is gone.")

    def kill(self) -> None:
        raise Killed

    def cut_off(self, answer: str) -> None:
        """The next answer of this kind is not all of it."""
        self.world.git.instead[answer] = getattr(self, f"_half_the_{answer}")

    def _half_the_blobs(self, *args: Any) -> Iterator[tuple[Any, Any]]:
        self.world.git.instead.pop("blobs", None)
        for blob_id, data in self.world.git.blobs(*args):
            yield blob_id, data[: len(data) // 2]

    def _half_the_tree(self, *args: Any) -> Tree:
        self.world.git.instead.pop("tree", None)
        tree: Tree = self.world.git.tree(*args)
        return replace(tree, entries=tree.entries[: len(tree.entries) // 2])

    # -- What holds --------------------------------------------------------------------------------------------------

    @rule()
    def a_quiet_sweep(self) -> None:
        """Nothing is in its way any more, and all that had to wait has waited."""
        for watched in (self.world.git, self.world.queue, self.world.store):
            for hooks in (watched.before, watched.after, watched.instead):
                hooks.clear()
        self.time_passes()
        self.world.execute("UPDATE branches SET announced_at = announced_at - interval '1 hour'")
        summary = self.world.sweep(600)
        assert summary.is_complete
        assert summary.heads_failed == 0
        self.follow()
        for status in self.world.queue.status():
            registration = self.model.registered[status.repo_id]
            if registration.suspended is None and status.branch in registration.branches:
                self.model.check_quiet(status, strict=self.strict)

    @invariant()
    def all_that_must_hold_holds(self) -> None:
        self._look()
        if self.wrong is not None:
            raise self.wrong

    def _look(self) -> None:
        """In the middle of a sync what is wrong is only noted: the sync would take it for its own defect."""
        try:
            self.follow()
            statuses = self.world.queue.status()
            self.model.note_requests(statuses)
            for status in statuses:
                self.model.check_status(status)
            marks = self.world.marks()
            for key in KEYS_OF_ALL:
                # To read all again where nothing moved would take half of the time.
                mark = marks.get(key), self.model.served.get(key)
                if mark != self.marks.get(key):
                    self.marks[key] = mark
                    self.model.check_read(key, self._read(key))
        except Exception as error:
            self.wrong = self.wrong or error

    def follow(self) -> None:
        """Take notice of the syncs that have ended, before what they went by changes."""
        try:
            for sync_id, repo_id, branch, *ended in self.world.syncs():
                if sync_id not in self.ended:
                    self.ended.add(sync_id)
                    self.model.end_sync((repo_id, branch), Ended(*ended))
        except Exception as error:
            self.wrong = self.wrong or error

    def _read(self, key: Key) -> Read:
        answer = self.client.get("/runtimes/{}/{}".format(*key), headers=bearer(READER_KEY))
        if answer.status_code == 404:
            return Read()
        assert answer.status_code == 200, answer.text
        return Read(answer.headers["X-Commit-Id"], int(answer.headers["X-Generation"]), answer.json)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(tmp_path_factory.mktemp("git") / "etl" / "orders")


@pytest.mark.timeout(0)  # Its length is chosen on the command line.
def test_what_is_served_is_right_whatever_happened(
    database: str, pool: Pool, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To wait for a host that lags behind takes no time here.
    monkeypatch.setattr(sync, "time", SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic))
    shipped = Rules.shipped()
    rulebooks = {False: shipped, True: Rules(shipped._validator, documents.Limits(max_bytes=MAX_BYTES))}
    is_long = settings.get_current_profile_name() == "long"
    chosen = settings(settings() if is_long else SHORT, suppress_health_check=list(HealthCheck))
    with postgres.Database(database) as cleaned:

        def history() -> History:
            cleaned.empty()
            return History(pool, library, rulebooks)

        run_state_machine_as_test(
            cast(Any, history), settings=settings(chosen, suppress_health_check=list(HealthCheck))
        )
