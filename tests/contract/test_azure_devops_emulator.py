"""What the emulated organisation answers to the real SDK, and to people with Git."""

import io
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator, HostedRepository
from support.git import GitRepository, environment, executable, git, submodule, symlink

ZEROS = "0" * 40
NOWHERE = "1" * 40
CLEAR = {"Authorization": EMULATOR_AUTHORIZATION, "Accept": "application/json;api-version=7.1"}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "hosted") as emulator:
        yield emulator


@pytest.fixture
def orders(emulator: Emulator) -> HostedRepository:
    return emulator.repository("etl team", "orders")


@pytest.fixture
def sdk(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The SDK's clients, as Microsoft's own samples get them."""
    monkeypatch.setenv("AZURE_DEVOPS_CACHE_DIR", str(tmp_path))
    from azure.devops.connection import Connection
    from msrest.authentication import BasicAuthentication

    credentials = BasicAuthentication("", "emulator-personal-access-token")
    return Connection(base_url=emulator.url, creds=credentials).clients_v7_1


@pytest.fixture
def client(sdk: Any) -> Any:
    return sdk.get_git_client()


def ask(emulator: Emulator, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any, Any]:
    """Status, headers and body of one request below the organisation, over a connection of its own."""
    connection = HTTPConnection("127.0.0.1", emulator.port, timeout=10)
    sent = None if body is None else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/contoso{path}", sent, {**CLEAR, **named})
    with connection.getresponse() as response:
        content = response.read()
    connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, response.headers, json.loads(content) if is_json and content else content


def refusal(emulator: Emulator, path: str, method: str = "GET", body: object = None) -> tuple[int, str]:
    """Status and key of an error, which has the form of all errors."""
    status, _, error = ask(emulator, method, path, body)
    assert error.keys() == {"$id", "innerException", "message", "typeName", "typeKey", "errorCode", "eventId"}
    return status, error["typeKey"]


# -- Finding repositories


def test_the_sdk_finds_projects_and_repositories(sdk: Any, emulator: Emulator, orders: HostedRepository) -> None:
    emulator.repository("web", "shop")
    core, client = sdk.get_core_client(), sdk.get_git_client()
    assert [project.name for project in core.get_projects()] == ["etl team", "web"]
    assert core.get_project("ETL Team").id == core.get_project(orders.project_id).id == orders.project_id
    assert sorted(one.name for one in client.get_repositories()) == ["orders", "shop"]
    assert [one.id for one in client.get_repositories(project="etl team")] == [orders.id]
    found = client.get_repository("orders", project="etl team")
    assert (found.id, found.web_url, found.project.id) == (orders.id, orders.web_url, orders.project_id)
    assert client.get_repository(orders.id).name == "orders"


def test_a_repository_is_found_by_id_whatever_it_is_called(
    client: Any, emulator: Emulator, orders: HostedRepository
) -> None:
    emulator.rename(orders, "sales")
    assert client.get_repository(orders.id).name == "sales"
    assert client.get_repository("sales", project="etl team").id == orders.id
    assert refusal(emulator, "/etl%20team/_apis/git/repositories/orders") == (404, "GitRepositoryNotFoundException")
    assert refusal(emulator, "/_apis/git/repositories/sales") == (400, "ArgumentException")


def test_missing_and_disabled_repositories_are_answered_alike(emulator: Emulator, orders: HostedRepository) -> None:
    path = f"/_apis/git/repositories/{orders.id}"
    emulator.disable(orders)
    disabled = ask(emulator, "GET", f"{path}/refs")
    (listed,) = ask(emulator, "GET", "/_apis/git/repositories")[2]["value"]
    assert listed["isDisabled"] is True
    emulator.delete(orders)
    missing = ask(emulator, "GET", f"{path}/refs")
    assert disabled[0] == missing[0] == 404
    assert disabled[2] == missing[2]
    assert missing[2]["message"].startswith("TF401019: ")
    assert emulator.repository("etl team", "orders").id != orders.id


def test_a_repository_is_not_found_within_another_project(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.repository("web", "shop")
    path = f"/web/_apis/git/repositories/{orders.id}"
    assert refusal(emulator, path) == (404, "GitRepositoryNotFoundException")
    assert refusal(emulator, "/nobody/_apis/git/repositories") == (404, "ProjectDoesNotExistWithNameException")


# -- Refs


def test_a_filter_of_refs_is_a_prefix(client: Any, emulator: Emulator, orders: HostedRepository) -> None:
    commit = orders.git.commit({"a": "1"})
    for branch in ("main2", "release/1.0"):
        orders.git.set_head(branch, commit)
    orders.git.tag("v1", commit, annotated=True)
    assert [ref.name for ref in client.get_refs(orders.id, filter="heads/main")] == [
        "refs/heads/main",
        "refs/heads/main2",
    ]
    assert [ref.name for ref in client.get_refs(orders.id, filter="heads/", filter_contains="1.0")] == [
        "refs/heads/release/1.0"
    ]
    (tag,) = client.get_refs(orders.id, filter="tags/", peel_tags=True)
    assert tag.peeled_object_id == commit != tag.object_id
    assert {ref.object_id for ref in client.get_refs(orders.id, filter="heads/")} == {commit}


def test_packed_refs_are_answered_as_loose_ones_are(client: Any, orders: HostedRepository) -> None:
    first = orders.git.commit({"a": "1"})
    orders.git.set_head("other", first)
    orders.git.git("pack-refs", "--all")
    second = orders.git.commit({"a": "2"})
    refs = client.get_refs(orders.id, filter="heads/")
    assert {ref.name: ref.object_id for ref in refs} == {"refs/heads/main": second, "refs/heads/other": first}


def test_refs_come_in_pages_with_the_next_ones_token_in_a_header(emulator: Emulator, orders: HostedRepository) -> None:
    commit = orders.git.commit({"a": "1"})
    names = [f"refs/heads/b{number:03}" for number in range(250)]
    updates = "".join(f"create {name} {commit}\n" for name in names)
    orders.git.git("update-ref", "--stdin", stdin=updates.encode())
    path = f"/_apis/git/repositories/{orders.id}/refs?filter=heads/b"
    assert len(ask(emulator, "GET", path)[2]["value"]) == 250
    found, token, sizes = [], "&$top=120", []
    while token:
        _, headers, page = ask(emulator, "GET", path + token)
        found += [ref["name"] for ref in page["value"]]
        sizes.append(page["count"])
        more = headers["x-ms-continuationtoken"]
        token = f"&continuationToken={more}" if more else ""
    assert found == names
    assert sizes == [120, 100, 30]


def test_an_empty_repository_has_no_refs_and_no_default_branch(client: Any, orders: HostedRepository) -> None:
    assert client.get_refs(orders.id, filter="heads/") == []
    assert client.get_repository(orders.id).default_branch is None
    orders.git.commit({"a": "1"})
    assert client.get_repository(orders.id).default_branch == "refs/heads/main"


# -- Commits, trees, blobs


def test_a_commit_has_its_tree_its_parents_and_its_push(
    client: Any, emulator: Emulator, orders: HostedRepository
) -> None:
    first = orders.git.commit({"a": "1"})
    second = orders.git.commit({"a": "2", "b": "1"}, message="Second\n\nand why")
    emulator.pushed(orders, by="Ada Lovelace")
    commit = client.get_commit(second, orders.id, change_count=10)
    assert (commit.tree_id, commit.parents) == (orders.git.tree_id(second), [first])
    assert commit.comment.rstrip() == "Second\n\nand why"
    assert commit.author.date.isoformat() == "2026-01-01T00:00:02+00:00"
    assert (commit.push.push_id, commit.push.pushed_by.display_name) == (1, "Ada Lovelace")
    assert commit.change_counts == {"Edit": 1, "Add": 1}
    assert client.get_commit(first, orders.id).push.push_id == 1


def test_a_tree_lists_every_mode_and_size(client: Any, orders: HostedRepository) -> None:
    commit = orders.git.commit(
        {
            "a.yaml": "name: é\n",
            "deep/er/run.sh": executable(b"exit 1\n"),
            "link": symlink("a.yaml"),
            "module": submodule(NOWHERE),
        }
    )
    tree = orders.git.tree_id(commit)
    found = client.get_tree(orders.id, tree, recursive=True)
    assert found.object_id == tree
    rows = {entry.relative_path: (entry.mode, entry.git_object_type, entry.size) for entry in found.tree_entries}
    assert rows == {
        "a.yaml": ("100644", "blob", 9),
        "deep": ("40000", "tree", 29),
        "deep/er": ("40000", "tree", 34),
        "deep/er/run.sh": ("100755", "blob", 7),
        "link": ("120000", "blob", 6),
        "module": ("160000", "commit", 0),
    }
    shallow = client.get_tree(orders.id, tree)
    assert [entry.relative_path for entry in shallow.tree_entries] == ["a.yaml", "deep", "link", "module"]


def test_many_blobs_come_as_a_zip_of_ids(client: Any, orders: HostedRepository) -> None:
    contents = {"a": b"one", "b": b"\x00\xff", "c": b"", "same": b"one"}
    commit = orders.git.commit(dict(contents))
    ids = [orders.git.blob_id(commit, path) for path in contents]
    archive = zipfile.ZipFile(io.BytesIO(b"".join(client.get_blobs_zip(ids, orders.id))))
    assert archive.namelist() == ids[:3]
    assert [archive.read(blob_id) for blob_id in ids[:3]] == [b"one", b"\x00\xff", b""]


def test_a_blob_comes_as_bytes_or_as_a_description(client: Any, orders: HostedRepository) -> None:
    blob_id = orders.git.blob_id(orders.git.commit({"a": b"\x00\xff\r\n"}), "a")
    assert b"".join(client.get_blob_content(orders.id, blob_id)) == b"\x00\xff\r\n"
    assert client.get_blob(orders.id, blob_id).size == 4
    archive = zipfile.ZipFile(io.BytesIO(b"".join(client.get_blob_zip(orders.id, blob_id))))
    assert archive.read(blob_id) == b"\x00\xff\r\n"


def test_items_are_listed_below_a_folder_at_a_commit(client: Any, orders: HostedRepository) -> None:
    from azure.devops.v7_1.git.models import GitVersionDescriptor

    old = orders.git.commit({"conf/a.yaml": "a: 1\n", "conf/deep/b.yaml": "b", "other": "x"})
    orders.git.commit({"conf/a.yaml": "a: 2\n"})
    at = GitVersionDescriptor(version=old, version_type="commit")
    found = client.get_items(orders.id, scope_path="/conf", recursion_level="full", version_descriptor=at)
    assert [(item.path, item.is_folder) for item in found] == [
        ("/conf", True),
        ("/conf/a.yaml", None),
        ("/conf/deep", True),
        ("/conf/deep/b.yaml", None),
    ]
    assert {item.commit_id for item in found} == {old}
    assert b"".join(client.get_item_content(orders.id, "conf/a.yaml")) == b"a: 2\n"
    item = client.get_item(orders.id, "conf/a.yaml", version_descriptor=at, include_content=True)
    assert item.content == "a: 1\n"
    archive = zipfile.ZipFile(io.BytesIO(b"".join(client.get_item_zip(orders.id, "conf", version_descriptor=at))))
    assert archive.namelist() == ["conf/a.yaml", "conf/deep/b.yaml"]


def test_what_is_not_there_is_refused_each_in_its_way(emulator: Emulator, orders: HostedRepository) -> None:
    commit = orders.git.commit({"a": "1"})
    blob_id = orders.git.blob_id(commit, "a")
    here = f"/_apis/git/repositories/{orders.id}"
    assert refusal(emulator, f"{here}/commits/{NOWHERE}") == (404, "GitCommitDoesNotExistException")
    assert refusal(emulator, f"{here}/commits/{blob_id}") == (404, "GitCommitDoesNotExistException")
    assert refusal(emulator, f"{here}/trees/{NOWHERE}") == (404, "GitObjectDoesNotExistException")
    assert refusal(emulator, f"{here}/trees/{commit}") == (400, "GitUnexpectedObjectTypeException")
    assert refusal(emulator, f"{here}/blobs/{NOWHERE}") == (400, "ArgumentException")
    assert refusal(emulator, f"{here}/items?path=/nothing") == (404, "GitItemNotFoundException")
    unknown = f"{here}/items?path=/a&versionDescriptor.version=nothing"
    assert refusal(emulator, unknown) == (404, "GitUnresolvableToCommitException")
    empty = emulator.repository("etl team", "empty")
    nothing = f"/_apis/git/repositories/{empty.id}/items?path=/a"
    assert ask(emulator, "GET", nothing)[2]["message"] == "Cannot find any branches for the empty repository."
    assert refusal(emulator, f"{here}/pushes/9") == (400, "GitArgumentException")
    assert refusal(emulator, f"{here}/refs?$top=many") == (400, "ArgumentException")


def test_one_unknown_blob_fails_the_whole_zip(emulator: Emulator, orders: HostedRepository) -> None:
    blob_id = orders.git.blob_id(orders.git.commit({"a": "1"}), "a")
    path = f"/_apis/git/repositories/{orders.id}/blobs"
    zipped = "application/zip;api-version=7.1"
    status, _, error = ask(emulator, "POST", path, [blob_id, NOWHERE], Accept=zipped)
    assert (status, error["message"]) == (400, f"TF401035: The object '{NOWHERE}' does not exist.")
    assert ask(emulator, "POST", path, [blob_id], Accept=zipped)[0] == 200
    assert refusal(emulator, path, "POST", [blob_id]) == (400, "ArgumentException")
    status, _, error = ask(emulator, "POST", path, [blob_id], Accept="application/zip")
    assert (status, error["typeKey"]) == (400, "VssVersionNotSpecifiedException")


# -- Between two commits


def test_the_history_between_two_commits_is_told_in_every_way(client: Any, orders: HostedRepository) -> None:
    from azure.devops.v7_1.git import models

    base = orders.git.commit({"a": "1"})
    orders.git.set_head("side", base)
    main = [orders.git.commit({"a": str(number)}) for number in (2, 3)]
    side = orders.git.commit({"b": "1"}, branch="side")
    diff = client.get_commit_diffs(
        orders.id,
        base_version_descriptor=models.GitBaseVersionDescriptor(base_version=side, base_version_type="commit"),
        target_version_descriptor=models.GitTargetVersionDescriptor(target_version="main"),
    )
    assert (diff.common_commit, diff.ahead_count, diff.behind_count) == (base, 2, 1)
    assert [one.commit_id for one in client.get_merge_bases(orders.id, main[1], side)] == [base]

    here, there = (models.GitVersionDescriptor(version=one, version_type="commit") for one in (side, main[1]))
    criteria = models.GitQueryCommitsCriteria(item_version=here, compare_version=there)
    assert [one.commit_id for one in client.get_commits(orders.id, criteria)] == main[::-1]
    assert [one.commit_id for one in client.get_commits_batch(criteria, orders.id)] == main[::-1]
    ids = models.GitQueryCommitsCriteria(ids=[base, NOWHERE])
    assert [one.commit_id for one in client.get_commits_batch(ids, orders.id)] == [base]


def test_unrelated_commits_have_no_common_one(client: Any, orders: HostedRepository) -> None:
    one = orders.git.commit({"a": "1"})
    other = orders.git.commit({"b": "1"}, branch="orphan", onto="")
    assert client.get_merge_bases(orders.id, one, other) == []


# -- Pushes and statuses


def test_a_push_tells_every_ref_that_it_moved(client: Any, emulator: Emulator, orders: HostedRepository) -> None:
    first = orders.git.commit({"a": "1"})
    orders.git.set_head("old", first)
    assert emulator.pushed(orders) == 1
    second = orders.git.commit({"a": "2"})
    orders.git.set_head("new", second)
    orders.git.delete("old")
    assert emulator.pushed(orders, by="Grace Hopper") == 2
    push = client.get_push(orders.id, 2, include_ref_updates=True)
    assert push.pushed_by.display_name == "Grace Hopper"
    assert [(one.name, one.old_object_id, one.new_object_id) for one in push.ref_updates] == [
        ("refs/heads/main", first, second),
        ("refs/heads/new", ZEROS, second),
        ("refs/heads/old", first, ZEROS),
    ]
    assert [one.commit_id for one in push.commits] == [second]
    assert client.get_push(orders.id, 2).ref_updates is None
    assert [one.push_id for one in client.get_pushes(orders.id)] == [2, 1]
    with pytest.raises(ValueError, match="nothing of orders moved"):
        emulator.pushed(orders)


def test_statuses_are_added_and_the_latest_of_each_context_counts(client: Any, orders: HostedRepository) -> None:
    from azure.devops.v7_1.git.models import GitStatus, GitStatusContext

    commit = orders.git.commit({"a": "1"})
    context = GitStatusContext(name="dev", genre="runtime-store")
    for state in ("pending", "succeeded"):
        status = GitStatus(context=context, state=state, description=state, target_url="https://example.com")
        posted = client.create_commit_status(status, commit, orders.id)
        assert (posted.state, posted.context.name, posted.target_url) == (state, "dev", "https://example.com")
    assert [one.state for one in client.get_statuses(commit, orders.id)] == ["succeeded", "pending"]
    assert [one.state for one in client.get_statuses(commit, orders.id, latest_only=True)] == ["succeeded"]
    (ref,) = client.get_refs(orders.id, filter="heads/", include_statuses=True)
    assert [one.state for one in ref.statuses] == ["succeeded", "pending"]


def test_a_status_that_nobody_could_read_is_refused(emulator: Emulator, orders: HostedRepository) -> None:
    commit = orders.git.commit({"a": "1"})
    here = f"/_apis/git/repositories/{orders.id}/commits"
    good = {"state": "succeeded", "context": {"name": "dev"}}
    path = f"{here}/{commit}/statuses"
    assert ask(emulator, "POST", path, good)[0] == 201
    assert refusal(emulator, path, "POST", {"state": "succeeded"}) == (400, "ArgumentNullException")
    assert refusal(emulator, path, "POST", {**good, "state": "great"}) == (400, "InvalidArgumentValueException")
    unknown = f"{here}/{NOWHERE}/statuses"
    assert refusal(emulator, unknown, "POST", good) == (404, "GitCommitDoesNotExistException")


# -- Who may ask, and what is known about it


def test_whoever_is_not_known_is_shown_where_to_sign_in(emulator: Emulator, orders: HostedRepository) -> None:
    path = f"/_apis/git/repositories/{orders.id}"
    status, headers, page = ask(emulator, "GET", path, Authorization="Basic OndybmM=")
    assert (status, headers.get_content_type()) == (203, "text/html")
    assert b"Sign In" in page
    status, _, error = ask(emulator, "GET", path, Authorization="", X_TFS_FedAuthRedirect="Suppress")
    assert status == 401
    assert error["message"].startswith("TF400813: ")


def test_credentials_can_be_changed_and_of_basic_ones_the_password_counts(
    emulator: Emulator, orders: HostedRepository
) -> None:
    path = f"/_apis/git/repositories/{orders.id}"
    emulator.credentials = {"Bearer one", "Basic OnR3bw=="}
    assert ask(emulator, "GET", path)[0] == 203
    assert ask(emulator, "GET", path, Authorization="Bearer one")[0] == 200
    assert ask(emulator, "GET", path, Authorization="Basic YWRhOnR3bw==")[0] == 200
    assert ask(emulator, "GET", path, Authorization="Basic bm8gYmFzZTY0!")[0] == 203


def test_calls_are_recorded_with_the_name_of_their_route(
    client: Any, emulator: Emulator, orders: HostedRepository
) -> None:
    client.get_refs(orders.id, filter="heads/")
    emulator.forget_calls()
    client.get_refs(orders.id, filter="heads/")
    assert ask(emulator, "GET", "/_apis/no/such/thing")[0] == 404
    refs, unknown = emulator.calls
    assert (refs.method, refs.route, refs.status, refs.repository) == ("GET", "refs", 200, orders.id)
    assert refs.headers["x-tfs-fedauthredirect"] == "Suppress"
    assert (unknown.route, unknown.status) == ("unknown", 404)


def test_connections_are_kept_alive_and_json_is_chunked_and_compressed(
    emulator: Emulator, orders: HostedRepository
) -> None:
    connection = HTTPConnection("127.0.0.1", emulator.port, timeout=10)
    for _ in range(2):
        headers = {**CLEAR, "Accept-Encoding": "gzip"}
        connection.request("GET", f"/contoso/_apis/git/repositories/{orders.id}", headers=headers)
        opened = connection.sock
        with connection.getresponse() as response:
            response.read()
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.headers["Content-Encoding"] == "gzip"
        assert connection.sock is opened
    connection.close()


def test_every_location_of_the_organisation_says_its_versions(emulator: Emulator) -> None:
    _, _, found = ask(emulator, "OPTIONS", "/_apis")
    locations = {(one["area"], one["resourceName"]): one for one in found["value"]}
    refs = locations["git", "refs"]
    assert refs["id"] == "2d874a60-a811-4f62-9c9f-963a6ea0a55b"
    assert refs["routeTemplate"] == "{project}/_apis/{area}/repositories/{repositoryId}/{resource}/{*filter}"
    assert (refs["minVersion"], refs["maxVersion"], refs["releasedVersion"]) == ("1.0", "7.2", "7.1")
    assert ask(emulator, "OPTIONS", "/../fabrikam/_apis")[0] == 404


def test_latency_delays_every_answer(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.latency = 0.1
    started = time.perf_counter()
    ask(emulator, "GET", "/_apis/projects")
    assert time.perf_counter() - started >= 0.1


# -- Git itself


def test_a_person_clones_and_pushes_and_it_is_recorded(client: Any, emulator: Emulator, tmp_path: Path) -> None:
    orders = emulator.repository("etl", "orders")
    first = orders.git.commit({"a": "1"})
    emulator.pushed(orders)
    address = orders.web_url.replace("http://", "http://ada:emulator-personal-access-token@")
    clone = tmp_path / "clone"
    git("clone", "--quiet", address, clone)
    assert (clone / "a").read_text() == "1"
    here = ("-C", clone, "-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    (clone / "a").write_text("2")
    git(*here, "commit", "--quiet", "--all", "--message=Second")
    git(*here, "push", "--quiet", "origin", "main", "main:refs/heads/copy")
    second = git(*here, "rev-parse", "HEAD")
    assert orders.git.head("main") == orders.git.head("copy") == second
    push = client.get_push(orders.id, 2, include_ref_updates=True)
    assert {one.name: (one.old_object_id, one.new_object_id) for one in push.ref_updates} == {
        "refs/heads/main": (first, second),
        "refs/heads/copy": (ZEROS, second),
    }
    assert push.pushed_by.display_name == "ada"
    git(*here, "push", "--quiet", "origin", ":copy")
    (update,) = client.get_push(orders.id, 3, include_ref_updates=True).ref_updates
    assert (update.old_object_id, update.new_object_id) == (second, ZEROS)


def test_git_is_told_that_its_password_is_wrong(emulator: Emulator, orders: HostedRepository, tmp_path: Path) -> None:
    address = orders.web_url.replace("http://", "http://ada:wrong@")
    done = subprocess.run(
        ["git", "clone", address, tmp_path / "clone"],
        env={**environment(), "GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode
    assert b"Authentication failed" in done.stderr


# -- Scale


def test_a_thousand_repositories_are_added_and_asked_without_starting_git_for_each(
    client: Any, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = GitRepository(tmp_path / "sample.git")
    head = sample.commit({"a": "1"})
    paths = [tmp_path / f"{number}.git" for number in range(1000)]
    for path in paths:
        (path / "refs/heads").mkdir(parents=True)
        (path / "refs/heads/main").write_text(f"{head}\n")
        (path / "HEAD").write_text("ref: refs/heads/main\n")
        os.symlink(sample.path / "objects", path / "objects")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)
        added = [emulator.add("etl", f"r{path.stem}", path) for path in paths]
    assert len({one.id for one in added}) == 1000
    emulator.forget_calls()
    for one in added[::100]:
        (ref,) = client.get_refs(one.id, filter="heads/")
        assert ref.object_id == head
    assert [call.route for call in emulator.calls if call.route == "refs"] == ["refs"] * 10
    assert len(client.get_repositories()) == 1000
