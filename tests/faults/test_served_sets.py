"""What services read while pushes go on: whole sets under their own labels, or the reason why there is none."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from support.web import READER_KEY, Api, app_over
from support.world import INVALID, MAIN, Team, World, workflow
from werkzeug.test import TestResponse

from shared.model import BranchName, CommitId, FilePath
from shared.postgres.configs import PostgresConfigReader
from shared.postgres.pool import Pool
from shared.rules import Rules

A, B = "a_runtime.yaml", "b_runtime.yaml"


@pytest.fixture
def api(world: World) -> Api:
    """What services read from."""
    return Api(app_over(world.pool), READER_KEY)


def told(response: TestResponse) -> Any:
    return response.json


class NewParser(Rules):
    """The rules of a later release, which reads the same bytes as something else."""

    def ruleset(self, registration: Any) -> Any:
        return super().ruleset(registration)[::-1]

    def judge(self, path: Any, blob_id: Any, data: bytes, mode: Any) -> Any:
        return super().judge(path, blob_id, data.replace(b"workflow-1", b"workflow-2"), mode)


class TestTheTagOfAConfig:
    """It names the body, not the bytes in Git."""

    @pytest.fixture
    def held(self, team: Team, api: Api) -> dict[str, str]:
        """What a service sends that has the config."""
        team.git.commit({A: workflow(1)})
        team.sync()
        return {"If-None-Match": api.get(f"/runtimes/team/main/{A}").headers["ETag"]}

    def test_it_moves_when_the_same_bytes_are_read_as_something_else(
        self, team: Team, api: Api, held: dict[str, str]
    ) -> None:
        team.world.use(NewParser.shipped())
        team.sync()
        response = api.get(f"/runtimes/team/main/{A}", headers=held)
        assert response.status_code == 200
        assert told(response)["workflow"]["id"] == "workflow-2"

    def test_it_moves_when_a_row_that_was_edited_by_hand_is_healed(
        self, team: Team, api: Api, held: dict[str, str]
    ) -> None:
        team.world.execute("UPDATE runtime_configs SET config = '{\"edited\": 1}'")
        team.ask(deep=True)
        team.run(deep=True)
        response = api.get(f"/runtimes/team/main/{A}", headers=held)
        assert response.status_code == 200
        assert told(response)["workflow"]["id"] == "workflow-1"

    def test_it_stays_when_another_file_changes(self, team: Team, api: Api, held: dict[str, str]) -> None:
        team.git.commit({B: workflow(2)})
        team.sync()
        assert api.get(f"/runtimes/team/main/{A}", headers=held).status_code == 304


class Between(Pool):
    """After each read something happens."""

    then: Callable[[], object] = object

    def rows(self, *arguments: Any, **how: Any) -> Any:
        rows = super().rows(*arguments, **how)
        self.then()
        return rows


class TestReadingWhilePushesGoOn:
    """A push is synced after every single read: what does not come from one statement does not belong together."""

    @pytest.fixture
    def pool_of_readers(self, team: Team, database: str) -> Iterator[Between]:
        self.commits: dict[CommitId, str] = {}
        self.generations: dict[int, str] = {}

        def push() -> None:
            number = len(self.commits)
            self.commits[team.git.commit({A: workflow(number), B: workflow(number)})] = f"workflow-{number}"
            team.sync()
            self.generations[team.status().generation] = f"workflow-{number}"

        push()
        with closing(Between(database)) as pool:
            pool.then = push
            yield pool

    def test_every_read_is_of_one_commit(self, team: Team, pool_of_readers: Between) -> None:
        reader = PostgresConfigReader(pool_of_readers)
        for listing in (reader.listing(team.repo_id, MAIN), reader.page(team.repo_id, MAIN, "", None, 9)):
            assert listing is not None
            expected = self.commits[listing.served.commit_id].encode()
            assert expected == self.generations[listing.served.generation].encode()
            assert [expected in item.config for item in listing.items] == [True, True]
        found = reader.item(team.repo_id, MAIN, FilePath(A))
        assert found is not None
        served, item = found
        assert item is not None
        assert self.commits[served.commit_id].encode() in item.config

    @pytest.mark.parametrize("path", ["", "?limit=9", f"/{A}"])
    def test_every_body_has_the_labels_of_its_own_set(self, pool_of_readers: Between, path: str) -> None:
        api = Api(app_over(pool_of_readers), READER_KEY)
        for _ in range(3):
            response = api.get(f"/runtimes/team/main{path}")
            expected = self.commits[CommitId(response.headers["X-Commit-Id"])]
            assert self.generations[int(response.headers["X-Generation"])] == expected
            assert response.headers["ETag"] == f'"{response.headers["X-Generation"]}"'
            assert response.text.count(expected) == (1 if path.startswith("/") else 2)


class TestABranchThatServesNothing:
    """It is not found, with its condition as the reason: an empty list would say that there is nothing to run."""

    def hold(self, team: Team, api: Api, reason: str) -> None:
        assert team.served() is None
        for path in ("", "?limit=9", f"/{A}"):
            response = api.get(f"/runtimes/team/main{path}")
            assert (response.status_code, told(response)["reason"]) == (404, reason)

    def test_before_its_first_sync_ended(self, team: Team, api: Api) -> None:
        self.hold(team, api, "Requested")

    def test_when_no_commit_of_it_was_ever_accepted(self, team: Team, api: Api) -> None:
        team.git.commit({A: INVALID})
        team.sync()
        self.hold(team, api, "Rejected")

    def test_when_it_is_gone(self, team: Team, api: Api) -> None:
        team.git.commit({A: workflow(1)})
        team.sync()
        team.git.delete("main")
        team.sync()
        self.hold(team, api, "BranchGone")

    def test_but_an_accepted_commit_without_configs_is_an_empty_list(self, team: Team, api: Api) -> None:
        team.git.commit({"README.md": b"# nothing yet"})
        team.sync()
        assert api.get("/runtimes/team/main").json == []


def test_a_file_that_is_renamed_between_two_pages_is_in_what_a_reader_of_pages_ends_with(team: Team, api: Api) -> None:
    team.git.commit({f"{name}_runtime.yaml": workflow(1) for name in "bcz"})
    team.sync()
    renames = iter([{"z_runtime.yaml": None, A: workflow(1)}])
    found: list[str] = []
    path = "/runtimes/team/main?limit=2"
    while path:
        response = api.get(path)
        if response.status_code == 410:
            found.clear()
            path = told(response)["first"]
            continue
        found += [one["filepath"] for one in told(response)]
        path = response.headers.get("Link", "").partition('>; rel="next"')[0].removeprefix("<")
        for rename in renames:
            team.git.commit(rename)
            team.sync()
    assert found == [A, B, "c_runtime.yaml"]


def test_a_deleted_branch_does_not_hide_one_whose_name_is_the_beginning_of_its_own(world: World) -> None:
    api = Api(app_over(world.pool), READER_KEY)
    team = world.repository(branches=("release", "release/1.0"))
    team.git.commit({A: workflow(1)}, branch="release/1.0")
    team.sync("release/1.0")
    assert told(api.get(f"/runtimes/team/release/1.0/{A}"))["workflow"]["id"] == "workflow-1"
    team.git.delete("release/1.0")
    team.git.commit({f"1.0/{A}": workflow(2)}, branch="release")
    for branch in ("release/1.0", "release"):
        team.sync(branch)
    assert BranchName("release/1.0") not in world.registry.names().branches[team.repo_id]
    assert told(api.get(f"/runtimes/team/release/1.0/{A}"))["workflow"]["id"] == "workflow-2"


class TestTheTagOfAList:
    @pytest.mark.parametrize("gzip", ["", "gzip"])
    def test_it_stays_when_a_push_changes_no_config_and_the_commit_is_told_all_the_same(
        self, team: Team, api: Api, gzip: str
    ) -> None:
        team.git.commit({f"{number}_runtime.yaml": workflow(number) for number in range(20)})
        team.sync()
        headers = {"Accept-Encoding": gzip}
        tag = api.get("/runtimes/team/main", headers=headers).headers["ETag"]
        commit = team.git.commit({"README.md": b"# news"})
        team.sync()
        response = api.get("/runtimes/team/main", headers={**headers, "If-None-Match": tag})
        assert (response.status_code, response.headers["X-Commit-Id"]) == (304, commit)

    def test_the_compressed_form_has_its_own(self, team: Team, api: Api) -> None:
        team.git.commit({f"{number}_runtime.yaml": workflow(number) for number in range(20)})
        team.sync()
        plain, compressed = (
            api.get("/runtimes/team/main", headers={"Accept-Encoding": form}).headers["ETag"] for form in ("", "gzip")
        )
        assert plain != compressed
