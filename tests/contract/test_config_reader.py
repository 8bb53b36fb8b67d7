"""What `ports.ConfigReader` promises."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from support.stores import MAIN, REPO, Store, commit, config, judgement

from shared.model import BlobId, BranchName, Change, FilePath, Generation, Listing, RepoId, RuntimeConfig

PATHS = ("A.yaml", "a.yaml", "a/b.yaml", "a/b/c.yaml", "a_b.yaml", "b%.yaml", "é.yaml", "\U0001f600.yaml")
"""In the order of their bytes."""


@pytest.fixture
def served(store: Store) -> Store:
    """`main` serves all `PATHS`; each says its own name."""
    store.register(REPO, "main", "release")
    store.sync({path: {"path": path} for path in reversed(PATHS)})
    return store


def paths(listing: Listing | None) -> list[str]:
    assert listing is not None
    return [item.filepath for item in listing.items]


class TestItem:
    def test_it_is_the_config_and_the_set_it_belongs_to(self, served: Store) -> None:
        path = FilePath("é.yaml")
        found = served.reader.item(REPO, MAIN, path)
        assert found is not None
        set_, item = found
        assert item is not None
        assert item.filepath == path
        assert json.loads(item.config) == {"path": path}
        assert item.blob_id == config(path, {"path": path}).blob_id
        assert item.generation == set_.generation == served.branch()["generation"]
        assert set_.commit_id == commit(1)
        for at in (set_.synced_at, item.updated_at):
            assert timedelta() <= datetime.now(UTC) - at < timedelta(minutes=1)

    def test_the_body_is_the_json_text_of_the_database(self, store: Store) -> None:
        store.register()
        text = '{"b": 1.0, "a": [1, 2.50, 1e3, null, true], "é": "\\ud83d\\ude00"}'
        change = Change((RuntimeConfig(FilePath("x.yaml"), BlobId("b" * 40), text),))
        store.configs.replace(store.claim(), judgement(1), change, serve=commit(1))
        found = store.reader.item(REPO, MAIN, FilePath("x.yaml"))
        assert found is not None
        assert found[1] is not None
        assert found[1].config.decode() == '{"a": [1, 2.50, 1000, null, true], "b": 1.0, "é": "\U0001f600"}'

    def test_its_generation_is_that_of_its_own_last_change(self, served: Store) -> None:
        first = served.branch()["generation"]
        served.queue.ask(REPO, [MAIN])
        second = served.sync(
            {path: {"path": path, "new": path == "a.yaml"} if path == "a.yaml" else {"path": path} for path in PATHS}
        )
        for path, generation in (("a.yaml", second.generation), ("A.yaml", first)):
            found = served.reader.item(REPO, MAIN, FilePath(path))
            assert found is not None
            assert found[1] is not None
            assert (found[0].generation, found[1].generation) == (second.generation, generation)

    def test_an_unknown_path_is_no_item_of_a_set_that_is_served(self, served: Store) -> None:
        for path in ("nobody.yaml", "a", "A.YAML", ""):
            found = served.reader.item(REPO, MAIN, FilePath(path))
            assert found is not None
            assert found[1] is None
            assert found[0].generation == served.branch()["generation"]

    def test_a_branch_that_serves_nothing_is_none(self, served: Store) -> None:
        for repo_id, branch in ((REPO, "release"), (REPO, "nobody"), ("nobody", "main")):
            assert served.reader.item(RepoId(repo_id), BranchName(branch), FilePath("a.yaml")) is None

    def test_the_body_is_left_out_only_when_its_generation_is_known(self, served: Store) -> None:
        generation = Generation(served.branch()["generation"])
        for known, has_body in (((), True), ((generation,), False), ((1, generation, 2), False), ((1, 2), True)):
            found = served.reader.item(REPO, MAIN, FilePath("a.yaml"), known=[Generation(one) for one in known])
            assert found is not None
            assert found[1] is not None
            assert (found[1].config != b"") == has_body
            assert found[1].generation == generation


class TestGeneration:
    def test_it_is_the_set_without_its_items(self, served: Store) -> None:
        found = served.reader.item(REPO, MAIN, FilePath("a.yaml"))
        assert found is not None
        assert served.reader.generation(REPO, MAIN) == found[0]

    def test_it_is_none_for_what_is_not_served(self, served: Store) -> None:
        assert served.reader.generation(REPO, BranchName("release")) is None
        assert served.reader.generation(RepoId("nobody"), MAIN) is None


class TestListing:
    def test_it_is_every_item_in_the_order_of_bytes(self, served: Store) -> None:
        listing = served.reader.listing(REPO, MAIN)
        assert paths(listing) == list(PATHS) == sorted(PATHS, key=str.encode)
        assert listing is not None
        assert listing.served == served.reader.generation(REPO, MAIN)
        for item in listing.items:
            assert served.reader.item(REPO, MAIN, item.filepath) == (listing.served, item)

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("a/", ["a/b.yaml", "a/b/c.yaml"]),
            ("a", ["a.yaml", "a/b.yaml", "a/b/c.yaml", "a_b.yaml"]),
            ("a_", ["a_b.yaml"]),
            ("b%", ["b%.yaml"]),
            ("%", []),
            ("é", ["é.yaml"]),
            ("\U0001f600.yaml", ["\U0001f600.yaml"]),
        ],
    )
    def test_a_prefix_is_taken_letter_by_letter(self, served: Store, prefix: str, expected: list[str]) -> None:
        assert paths(served.reader.listing(REPO, MAIN, prefix)) == expected
        assert paths(served.reader.page(REPO, MAIN, prefix, None, 99)) == expected

    def test_an_accepted_commit_without_files_is_an_empty_set(self, store: Store) -> None:
        store.register()
        store.sync({})
        for listing in (store.reader.listing(REPO, MAIN), store.reader.page(REPO, MAIN, "", None, 9)):
            assert listing is not None
            assert listing.items == ()
            assert listing.served.commit_id == commit(1)

    def test_it_is_none_for_what_is_not_served(self, served: Store) -> None:
        for repo_id, branch in ((REPO, "release"), ("nobody", "main")):
            assert served.reader.listing(RepoId(repo_id), BranchName(branch)) is None
            assert served.reader.page(RepoId(repo_id), BranchName(branch), "", None, 9) is None

    def test_a_branch_that_is_gone_is_none_until_it_is_back(self, served: Store) -> None:
        gone = Change(gone=tuple(map(FilePath, PATHS)))
        served.queue.ask(REPO, [MAIN])
        served.configs.replace(served.claim(), judgement(0), gone, serve=None)
        assert served.reader.listing(REPO, MAIN) is None
        assert served.reader.generation(REPO, MAIN) is None
        served.queue.ask(REPO, [MAIN])
        served.sync({"a.yaml": 1})
        assert paths(served.reader.listing(REPO, MAIN)) == ["a.yaml"]


class TestPage:
    @pytest.mark.parametrize("limit", [1, 3, len(PATHS), 99])
    def test_pages_after_each_other_are_the_listing(self, served: Store, limit: int) -> None:
        listing = served.reader.listing(REPO, MAIN)
        assert listing is not None
        items = []
        after: FilePath | None = None
        while True:
            page = served.reader.page(REPO, MAIN, "", after, limit)
            assert page is not None
            assert page.served == listing.served
            if not page.items:
                break
            assert len(page.items) <= limit
            items += page.items
            after = page.items[-1].filepath
        assert tuple(items) == listing.items

    def test_it_starts_after_a_path_that_need_not_exist(self, served: Store) -> None:
        assert paths(served.reader.page(REPO, MAIN, "", FilePath("a/a"), 2)) == ["a/b.yaml", "a/b/c.yaml"]
        assert paths(served.reader.page(REPO, MAIN, "a", FilePath("a/b.yaml"), 9)) == ["a/b/c.yaml", "a_b.yaml"]

    def test_after_the_last_path_it_is_empty(self, served: Store) -> None:
        assert paths(served.reader.page(REPO, MAIN, "", FilePath(PATHS[-1]), 9)) == []
