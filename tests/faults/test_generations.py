"""A generation names one content of one branch: it moves with every change of it, with nothing else, and never back."""

from contextlib import closing
from typing import Any

import psycopg
import pytest
from support.stores import Store, started
from support.world import MAIN, Team, workflow

from shared.listing import ListingLimits
from shared.model import Generation, Replaced, Unchanged
from shared.rules import Rules

A, B = "a_runtime.yaml", "b_runtime.yaml"


def generation(team: Team) -> Generation:
    served = team.world.reader.generation(team.repo_id, MAIN)
    assert served is not None
    return served.generation


class Anything(Rules):
    """The shipped rules for whatever is YAML."""

    def judge(self, *arguments: Any) -> Any:
        document, _ = super().judge(*arguments)
        return document, ()


class TestNeverTwice:
    """Whatever was the generation of one content is never that of another."""

    def test_after_the_database_was_restored(self, team: Team, store: Store) -> None:
        team.git.commit({A: workflow(1)})
        team.sync()
        [backup] = store.sql("SELECT generation, commit_id FROM branches")
        given = {generation(team)}
        for number in (2, 3, 4):
            team.git.commit({A: workflow(number)})
            team.sync()
            given.add(generation(team))
        store.sql("UPDATE branches SET generation = %s, commit_id = %s, judged_commit = commit_id", *backup)
        team.git.commit({A: workflow(5)})
        team.sync()
        assert generation(team) > max(given)

    def test_after_the_repository_was_removed_and_registered_anew(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.sync()
        before = generation(team)
        current = team.world.registry.get(team.repo_id)
        team.world.registrar.remove(team.repo_id, expected=current.revision)
        team.world.registrar.put(team.repo_id, current.registration, expected=None)
        team.git.commit({A: None})
        assert isinstance(team.sync(), Unchanged)
        assert team.served() == {}
        assert generation(team) > before

    def test_after_the_branch_was_named_no_more_and_named_again(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.git.commit({}, branch="dev")
        team.sync()
        before = generation(team)
        team.change(branches=("dev",))
        team.git.commit({A: None})
        team.change(branches=("main",))
        assert isinstance(team.run(), Unchanged)
        assert team.served() == {}
        assert generation(team) > before

    def test_after_the_branch_was_deleted_and_made_again(self, team: Team) -> None:
        first = team.git.commit({A: workflow(1)})
        team.sync()
        before = generation(team)
        team.git.delete("main")
        team.sync()
        team.git.set_head("main", first)
        team.sync()
        assert generation(team) > before


class TestWhatMovesIt:
    @pytest.fixture
    def team(self, team: Team) -> Team:
        team.git.commit({A: workflow(1, version=1), B: workflow(2)})
        team.world.use(Anything.shipped())
        team.sync()
        return team

    def rows(self, team: Team) -> dict[str, Any]:
        listing = team.world.reader.listing(team.repo_id, MAIN)
        assert listing is not None
        return {item.filepath: item for item in listing.items}

    def test_an_integer_that_became_a_decimal_does(self, team: Team) -> None:
        before = self.rows(team)
        commit = team.git.commit({A: workflow(1, version=1.0)})
        assert isinstance(team.sync(), Replaced)
        after = self.rows(team)
        assert after[A].generation > before[A].generation
        assert b"1.0" in after[A].config
        assert after[A].blob_id == team.git.blob_id(commit, A)
        assert after[B] == before[B]
        team.git.commit({"README.md": b"# news"})
        team.world.git.calls.clear()
        team.sync()
        assert team.world.git.calls["blobs"] == 0

    def test_other_bytes_with_the_same_meaning_do(self, team: Team) -> None:
        before = generation(team)
        commit = team.git.commit({A: workflow(1, version=1) + b"\n"})
        team.sync()
        assert generation(team) > before
        assert self.rows(team)[A].blob_id == team.git.blob_id(commit, A)

    def test_new_rules_that_find_the_same_do_not(self, team: Team, store: Store) -> None:
        before, stored = (generation(team), self.rows(team)), store.rows(repo_id=team.repo_id)
        team.world.use(Anything(Rules.shipped()._validator, None, ListingLimits(max_files=9)))
        assert isinstance(team.sync(), Unchanged)
        assert (generation(team), self.rows(team)) == before
        rulesets = {row["ruleset"] for row in store.rows(repo_id=team.repo_id).values()}
        assert rulesets == {team.world.examiner.ruleset(team.repository)}
        assert rulesets != {row["ruleset"] for row in stored.values()}

    def test_a_deep_sync_that_finds_nothing_does_not(self, team: Team) -> None:
        before = generation(team), self.rows(team)
        team.ask(deep=True)
        assert isinstance(team.run(deep=True), Unchanged)
        assert (generation(team), self.rows(team)) == before

    def test_a_change_that_had_to_wait_for_a_request_does(self, team: Team, store: Store) -> None:
        before = generation(team)
        team.git.commit({A: workflow(3)})

        def request() -> None:
            connection = psycopg.connect(store.conninfo)
            connection.execute("UPDATE branches SET requested = requested + 1")

            def commit() -> None:
                with closing(connection):
                    store.wait_for_lock()
                    connection.commit()

            started(commit)

        team.world.store.before["replace"].append(request)
        team.sync()
        assert team.numbers() == {A: "workflow-3", B: "workflow-2"}
        assert generation(team) > before
