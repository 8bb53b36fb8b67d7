"""What `ports.Registry` promises."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from support.stores import MAIN, PATIENCE, REPO, Store, at_once, config, delivery, judgement, started

from shared.errors import ClaimLost, InvalidRequest, NameTaken, RepositoryNotFound, RevisionMoved, SourceFailed
from shared.model import (
    BranchName,
    Change,
    DeferReason,
    Deferred,
    Failed,
    Registration,
    RepoId,
    Repository,
    SourceName,
    SyncId,
    Trigger,
    Validation,
)

EVERYTHING = Registration(
    name="Orders.Europe",
    source=SourceName("https://dev.azure.com/company/Sales/_git/Orders"),
    branches=(BranchName("release/1.0"), BranchName("main")),
    project="Sales & Söhne",
    root="pipelines/etl",
    pattern="*.runtime.yaml",
    validation=Validation.REPORT,
    suspended="moving house",
)


class TestReading:
    def test_every_field_comes_back_as_it_was_put(self, store: Store) -> None:
        put = store.registry.put(REPO, EVERYTHING, expected=None)
        assert put.registration == EVERYTHING
        assert store.registry.get(REPO) == put
        assert put.revision == 1
        assert put.heads_checked_at is None
        assert timedelta() <= datetime.now(UTC) - put.created_at < timedelta(minutes=1)

    def test_get_raises_for_an_unknown_id(self, store: Store) -> None:
        store.register(name="other-name")
        with pytest.raises(RepositoryNotFound, match="'nobody'"):
            store.registry.get(RepoId("nobody"))
        with pytest.raises(RepositoryNotFound):
            store.registry.get(RepoId("other-name"))

    def test_find_takes_an_id_or_a_name(self, store: Store) -> None:
        one = store.register("id-1", name="one")
        assert store.registry.find("id-1") == one
        assert store.registry.find("one") == one
        assert store.registry.find("two") is None

    def test_where_a_name_is_another_ones_id_the_id_wins(self, store: Store) -> None:
        named = store.register("id-1", name="both")
        identified = store.register("both", name="second")
        assert store.registry.find("both") == identified
        assert store.registry.names().repositories == {"id-1": "id-1", "both": "both", "second": "both"}
        store.registry.remove(identified.repo_id, expected=1)
        assert store.registry.find("both") == named

    def test_list_is_in_the_order_of_names(self, store: Store) -> None:
        for number, name in enumerate(["b", "a", "B"]):
            store.register(f"id-{number}", name=name)
        assert [repository.name for repository in store.registry.list()] == ["B", "a", "b"]

    def test_names_list_only_branches_that_are_served_the_longest_first(self, store: Store) -> None:
        store.register(REPO, "main", "release", "release/1.0", "never", name="the-name")
        store.register("empty", name="nothing-yet")
        for branch in ("main", "release", "release/1.0"):
            store.sync({"a.yaml": 1}, branch=branch)
        gone = store.claim("release")
        store.configs.replace(gone, judgement(0), Change(gone=("a.yaml",)), serve=None)
        names = store.registry.names()
        assert names.branches == {REPO: ("release/1.0", "main"), "empty": ()}
        assert names.repositories == {REPO: REPO, "the-name": REPO, "empty": "empty", "nothing-yet": "empty"}


class TestAdding:
    def test_it_requests_every_named_branch(self, store: Store) -> None:
        store.register(REPO, "main", "release/1.0")
        asked = store.queue.status(REPO)
        assert [(status.branch, status.requested, status.is_waiting) for status in asked] == [
            ("main", 1, True),
            ("release/1.0", 1, True),
        ]
        assert {claim.branch for claim in (store.due(), store.due()) if claim} == {"main", "release/1.0"}

    def test_a_known_id_is_taken(self, store: Store) -> None:
        store.register(REPO, name="one")
        before = store.state()
        with pytest.raises(NameTaken, match="id 'orders'"):
            store.register(REPO, name="another")
        assert store.state() == before

    def test_a_known_name_is_taken(self, store: Store) -> None:
        store.register(REPO, name="one")
        before = store.state()
        with pytest.raises(NameTaken, match="called 'one'"):
            store.register("another", name="one")
        assert store.state() == before

    def test_of_two_at_once_one_wins(self, store: Store) -> None:
        results = at_once(*[lambda: store.register(REPO, name="one") for _ in range(4)])
        assert sorted(type(result).__name__ for result in results) == ["NameTaken"] * 3 + ["Repository"]
        assert store.branch()["requested"] == 1


class TestChanging:
    def change(self, store: Store, **changes: object) -> Repository:
        current = store.registry.get(REPO)
        registration = replace(current.registration, **changes)
        return store.registry.put(REPO, registration, expected=current.revision)

    def test_it_moves_the_revision_and_the_time_of_change_only(self, store: Store) -> None:
        before = store.register()
        after = self.change(store, root="folder")
        assert after.registration == replace(before.registration, root="folder")
        assert after.revision == before.revision + 1
        assert after.updated_at > before.updated_at
        assert after.created_at == before.created_at
        assert store.registry.get(REPO) == after

    def test_a_revision_that_moved_on_is_refused(self, store: Store) -> None:
        before = store.register()
        self.change(store, root="folder")
        state = store.state()
        with pytest.raises(RevisionMoved, match="is 2, not 1"):
            store.registry.put(REPO, before.registration, expected=before.revision)
        assert store.state() == state

    def test_of_two_at_once_one_wins(self, store: Store) -> None:
        current = store.register()

        def put(root: str) -> Repository:
            return store.registry.put(REPO, replace(current.registration, root=root), expected=1)

        results = at_once(*[lambda root=root: put(root) for root in "abcd"])
        assert sorted(type(result).__name__ for result in results) == ["Repository"] + ["RevisionMoved"] * 3
        assert store.registry.get(REPO).revision == 2

    def test_an_unknown_id_is_not_added(self, store: Store) -> None:
        with pytest.raises(RepositoryNotFound):
            store.registry.put(REPO, EVERYTHING, expected=1)
        assert store.registry.list() == []

    @pytest.mark.parametrize("name", ["free", "taken"])
    def test_a_name_is_set_once(self, store: Store, name: str) -> None:
        store.register(name="first")
        store.register("other", name="taken")
        before = store.state()
        with pytest.raises(InvalidRequest, match="called 'first'") as caught:
            self.change(store, name=name, branches=(BranchName("release"),))
        assert caught.value.field == "name"
        assert store.state() == before

    def test_who_read_an_old_revision_learns_that_first(self, store: Store) -> None:
        before = store.register()
        self.change(store, root="folder")
        with pytest.raises(RevisionMoved):
            store.registry.put(REPO, replace(before.registration, name="free"), expected=before.revision)

    def test_a_put_that_changes_nothing_changes_nothing(self, store: Store) -> None:
        current = store.register()
        store.sync({"a.yaml": 1})
        claim = store.claim()
        before = store.state()
        assert store.registry.put(REPO, current.registration, expected=1) == current
        assert store.state() == before
        assert store.queue.renew(claim) == 1

    def test_it_asks_for_every_named_branch_again_and_forgets_verdicts_and_back_off(self, store: Store) -> None:
        store.register(REPO, "main", "release")
        store.sync({"a.yaml": 1})
        for _ in range(3):
            store.queue.settle(store.claim(), Failed(SourceFailed("broken")))
        self.change(store, branches=(MAIN, BranchName("release"), BranchName("new")))
        asked = {status.branch: status for status in store.queue.status(REPO)}
        assert all(status.is_waiting and status.next_attempt_at is None for status in asked.values())
        assert set(asked) == {"main", "new", "release"}
        assert asked[MAIN].attempts == 0
        claim = store.claim()
        assert (claim.judged_ruleset, claim.judged_tree) == (None, None)
        assert claim.commit_id == claim.judged_commit is not None

    def test_it_fences_a_running_sync(self, store: Store) -> None:
        store.register()
        store.sync({"a.yaml": 1})
        claim = store.claim()
        self.change(store, pattern="*.json")
        before = store.state()
        with pytest.raises(ClaimLost):
            store.queue.renew(claim)
        with pytest.raises(ClaimLost):
            store.queue.settle(claim, Failed(SourceFailed("late")))
        with pytest.raises(ClaimLost):
            store.configs.replace(claim, judgement(9), Change((config("b.yaml", 2),)), serve=judgement(9).commit_id)
        assert store.state() == before
        assert store.claim().sync_id != claim.sync_id

    def test_a_replace_that_waits_for_the_change_is_fenced_too(self, store: Store) -> None:
        store.register()
        store.sync({"a.yaml": 1})
        claim = store.claim()

        change = Change((config("a.yaml", 2), config("b.yaml", 2)), ("a.yaml",))
        with store.transaction() as execute:
            execute("UPDATE branches SET lease_id = NULL, lease_until = NULL")
            late = started(lambda: store.configs.replace(claim, judgement(9), change, serve=judgement(9).commit_id))
            store.wait_for_lock()
        ended = late.exception(PATIENCE)
        assert isinstance(ended, ClaimLost)
        assert store.served() == {"a.yaml": 1}
        assert store.configs.ended(claim.sync_id) is None

    @pytest.mark.parametrize("is_removal", [False, True])
    def test_it_waits_for_a_branch_before_it_touches_its_rows(self, store: Store, is_removal: bool) -> None:
        """The order in which a replace locks them: else one day they wait for each other."""
        current = store.register(REPO, "main", "release")
        store.sync({"a.yaml": 1}, branch="release")

        def work() -> None:
            if is_removal:
                store.registry.remove(REPO, expected=1)
            else:
                store.registry.put(REPO, replace(current.registration, branches=(MAIN,)), expected=1)

        with store.transaction() as execute:
            execute("SELECT 1 FROM branches WHERE branch = 'release' FOR NO KEY UPDATE")
            waiting = started(work)
            store.wait_for_lock()
            assert len(execute("SELECT 1 FROM runtime_configs FOR UPDATE NOWAIT")) == 1
        assert waiting.result(PATIENCE) is None
        assert store.rows("release") == {}


class TestBranchesThatAreNotNamedAnyMore:
    @pytest.fixture
    def dropped(self, store: Store) -> Store:
        """`release` was served and being synced when the registration stopped to name it."""
        current = store.register(REPO, "main", "release")
        for branch in ("main", "release"):
            store.sync({"a.yaml": 1}, branch=branch)
        store.queue.ask(REPO, [BranchName("release")], deep=True)
        self.running = store.claim("release")
        self.generation = self.running.generation
        store.registry.put(REPO, replace(current.registration, branches=(MAIN,)), expected=1)
        return store

    def test_they_lose_their_configs_and_the_others_do_not(self, dropped: Store) -> None:
        assert dropped.served("release") is None
        assert dropped.rows("release") == {}
        assert dropped.reader.generation(REPO, BranchName("release")) is None
        assert dropped.served("main") == {"a.yaml": 1}
        assert dropped.registry.names().branches == {REPO: ("main",)}

    def test_their_generation_moves_on(self, dropped: Store) -> None:
        assert dropped.branch("release")["generation"] > self.generation

    def test_nothing_is_due_for_them_and_the_status_says_why(self, dropped: Store) -> None:
        status = next(status for status in dropped.queue.status(REPO) if status.branch == "release")
        assert (status.condition, status.reason, status.is_waiting) == ("Ready", "NotNamed", False)
        assert status.commit_id is status.synced_at is status.judged_commit is None
        due = dropped.due()
        assert due is not None
        assert due.branch == "main"
        assert dropped.due() is None

    def test_a_running_sync_of_theirs_writes_nothing(self, dropped: Store) -> None:
        with pytest.raises(ClaimLost):
            dropped.configs.replace(
                self.running, judgement(9), Change((config("a.yaml", 2),)), serve=judgement(9).commit_id
            )
        assert dropped.rows("release") == {}

    def test_named_again_they_are_requested_and_served_again(self, dropped: Store) -> None:
        current = dropped.registry.get(REPO)
        again = replace(current.registration, branches=(MAIN, BranchName("release")))
        dropped.registry.put(REPO, again, expected=current.revision)
        generation = dropped.branch("release")["generation"]
        settled = dropped.sync({"a.yaml": 1}, branch="release")
        assert settled.changed
        assert settled.generation > generation
        assert dropped.served("release") == {"a.yaml": 1}


class TestRemoving:
    def test_repository_branches_and_configs_are_gone_together(self, store: Store) -> None:
        store.register(REPO, "main", "release")
        store.register("other")
        for repo_id, branch in [(REPO, "main"), (REPO, "release"), ("other", "main")]:
            store.sync({"a.yaml": 1}, branch=branch, repo_id=repo_id)
        store.sweeps.moved(REPO, {MAIN: judgement(77).commit_id})
        store.registry.remove(REPO, expected=1)
        assert store.registry.find(REPO) is None
        assert store.queue.status(REPO) == []
        assert store.rows("main") == store.rows("release") == {}
        assert store.served("main", "other") == {"a.yaml": 1}

    def test_a_revision_that_moved_on_is_refused(self, store: Store) -> None:
        current = store.register()
        store.registry.put(REPO, replace(current.registration, root="x"), expected=1)
        with pytest.raises(RevisionMoved):
            store.registry.remove(REPO, expected=1)
        assert store.registry.get(REPO).revision == 2

    def test_an_unknown_id_is_told(self, store: Store) -> None:
        with pytest.raises(RepositoryNotFound):
            store.registry.remove(REPO, expected=1)

    def test_a_running_sync_resurrects_no_row(self, store: Store) -> None:
        store.register()
        store.sync({"a.yaml": 1})
        claim = store.claim()
        store.registry.remove(REPO, expected=1)
        syncs = store.state("syncs")
        with pytest.raises(ClaimLost):
            store.configs.replace(claim, judgement(9), Change((config("b.yaml", 2),)), serve=judgement(9).commit_id)
        with pytest.raises(ClaimLost):
            store.queue.settle(claim, Failed(SourceFailed("late")))
        with pytest.raises(ClaimLost):
            store.queue.renew(claim)
        assert store.state("branches", "runtime_configs") == {"branches": [], "runtime_configs": []}
        assert store.state("syncs") == syncs

    def test_a_request_resurrects_no_branch(self, store: Store) -> None:
        store.register()
        store.registry.remove(REPO, expected=1)
        recorded = store.queue.request(delivery(), REPO, [MAIN])
        store.queue.ask(REPO, [MAIN])
        refused = store.queue.claim(REPO, MAIN, SyncId(uuid4()), Trigger.MANUAL)
        assert recorded.requests == {}
        assert isinstance(refused, Deferred)
        assert refused.reason is DeferReason.REPOSITORY_GONE
        assert store.state("branches") == {"branches": []}

    def test_registered_again_its_generations_go_on_above_the_old_ones(self, store: Store) -> None:
        store.register()
        before = store.sync({"a.yaml": 1}).generation
        old = store.claim()
        store.registry.remove(REPO, expected=1)
        store.register()
        assert store.branch()["generation"] > before
        assert store.sync({"a.yaml": 1}).generation > before
        with pytest.raises(ClaimLost):
            store.configs.replace(old, judgement(9), Change((config("a.yaml", 2),)), serve=judgement(9).commit_id)
        assert store.served() == {"a.yaml": 1}
