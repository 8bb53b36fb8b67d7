"""Reading what is served, over a real database."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.postgres import Server
from support.web import ADMIN_KEY, GUID, READER_KEY, TEAM, Api, Store, app_over, blob_id

from shared.errors import SourceRefused
from shared.model import BranchName, Failed, FilePath, Finding, Names, RepoId, Report, Severity
from shared.postgres.pool import Pool
from shared.postgres.registry import PostgresRegistry
from shared.web import names
from shared.web.access import Access, Keys
from shared.web.services import Limits

JOB = '{"name": "job", "workers": 1.0}'
BIG = json.dumps({"text": "x" * 5000})


@pytest.fixture(scope="module")
def pool(postgres_server: Server) -> Iterator[Pool]:
    """One database for the module: making one takes longer than most of these tests."""
    with postgres_server.clone() as conninfo:
        pool = Pool(conninfo, size=4)
        yield pool
        pool.close()


@pytest.fixture
def store(pool: Pool) -> Store:
    store = Store(pool)
    store.register(registration=replace(TEAM, branches=tuple(map(BranchName, ("main", "release", "release/1.0")))))
    return store


@pytest.fixture
def api(store: Store) -> Api:
    return Api(app_over(store.pool), READER_KEY)


def test_a_config_is_the_text_that_the_database_holds(api: Api, store: Store) -> None:
    generation = store.serve({"etl/job-runtime.yaml": JOB}, commit="a" * 40)
    response = api.get("/runtimes/team/main/etl/job-runtime.yaml")
    assert response.status_code == 200
    assert response.data == JOB.encode()
    assert response.headers["ETag"] == f'"{generation}"'
    assert response.headers["X-Generation"] == str(generation)
    assert response.headers["X-Commit-Id"] == "a" * 40
    assert response.headers["X-Blob-Id"] == blob_id(JOB)
    assert response.headers["X-Synced-At"].endswith("Z")
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Accept-Encoding"
    assert response.content_type == "application/json"


def test_a_list_is_the_whole_set_by_path(api: Api, store: Store) -> None:
    first = store.serve({"b-runtime.yaml": JOB, 'quote"d-runtime.yaml': "[]", "é-runtime.yaml": '"ü"'})
    second = store.serve({"a-runtime.yaml": "1"}, commit="b" * 40)
    response = api.get("/runtimes/team/main")
    assert [(one["filepath"], one["config"], one["generation"]) for one in response.json] == [
        ("a-runtime.yaml", 1, second),
        ("b-runtime.yaml", {"name": "job", "workers": 1.0}, first),
        ('quote"d-runtime.yaml', [], first),
        ("é-runtime.yaml", "ü", first),
    ]
    assert b'"workers": 1.0' in response.data
    assert response.headers["ETag"] == f'"{second}"'
    assert response.headers["X-Commit-Id"] == "b" * 40


def test_the_id_works_like_the_name_in_either_case(api: Api, store: Store) -> None:
    store.serve({"a-runtime.yaml": JOB})
    for alias in ("team", GUID, GUID.upper()):
        assert api.get(f"/runtimes/{alias}/main/a-runtime.yaml").data == JOB.encode()


def test_head_has_the_headers_of_get_and_no_body(api: Api, store: Store) -> None:
    store.serve({"a-runtime.yaml": JOB})
    for path in ("/runtimes/team/main", "/runtimes/team/main/a-runtime.yaml"):
        got, head = api.get(path), api("HEAD", path)
        assert head.status_code == 200
        assert head.data == b""
        for name in ("ETag", "Content-Length", "X-Commit-Id", "X-Generation", "Content-Type"):
            assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("path", ["release/1.0", "release%2F1.0", "release/1%2E0"])
def test_branch_names_with_slashes_need_no_encoding(api: Api, store: Store, path: str) -> None:
    store.serve({"etl/x-runtime.yaml": JOB}, "release/1.0")
    assert len(api.get(f"/runtimes/team/{path}").json) == 1
    assert len(api.get(f"/runtimes/team/{path}/").json) == 1
    assert api.get(f"/runtimes/team/{path}/etl/x-runtime.yaml").data == JOB.encode()
    assert api.get(f"/runtimes/team/{path}/etl%2Fx-runtime.yaml").data == JOB.encode()


def test_a_branch_that_takes_the_place_of_another_is_found_behind_the_cached_names(api: Api, store: Store) -> None:
    store.serve({"x-runtime.yaml": "1"}, "release/1.0")
    assert api.get("/runtimes/team/release/1.0/x-runtime.yaml").json == 1
    store.end_branch("release/1.0")
    store.serve({"1.0/x-runtime.yaml": "2"}, "release")
    assert api.get("/runtimes/team/release/1.0/x-runtime.yaml").json == 2
    store.end_branch("release")
    store.serve({"x-runtime.yaml": "3"}, "release/1.0")
    assert api.get("/runtimes/team/release/1.0/x-runtime.yaml").json == 3


def test_a_repository_registered_later_under_the_same_name_is_found(api: Api, store: Store) -> None:
    store.serve({"x-runtime.yaml": "1"})
    assert api.get("/runtimes/team/main/x-runtime.yaml").json == 1
    store.registry.remove(GUID, expected=store.registry.get(GUID).revision)
    store.register(RepoId("another"))
    store.serve({"x-runtime.yaml": "2"}, repo_id=RepoId("another"))
    assert api.get("/runtimes/team/main/x-runtime.yaml").json == 2


def test_unknown_repository_branch_and_path_are_told_apart(api: Api, store: Store) -> None:
    store.serve({"x-runtime.yaml": "1"})
    for path, kind in {
        "/runtimes/nobody/main": "repository-not-found",
        "/runtimes/nobody/main/x-runtime.yaml": "repository-not-found",
        "/runtimes/nobody": "repository-not-found",
        "/runtimes/team/other/x-runtime.yaml": "branch-not-found",
        "/runtimes/team/mainly": "branch-not-found",
        "/runtimes/team/Main": "branch-not-found",
        "/runtimes/team/main/y-runtime.yaml": "config-not-found",
        "/runtimes/team/main/X-runtime.yaml": "config-not-found",
    }.items():
        response = api.get(path)
        assert (response.status_code, response.json["kind"]) == (404, kind), path
        assert response.json["hint"]


@pytest.mark.parametrize(
    "path",
    [
        "main/../main/x-runtime.yaml",
        "main/%2e%2e/x-runtime.yaml",
        "main//x-runtime.yaml",
        "main/./x-runtime.yaml",
        "main/x-runtime.yaml/",
        "main/..%2f..%2fother/main/secret-runtime.yaml",
        "..%2fother/main/secret-runtime.yaml",
        "main/x-runtime.yaml%00",
        "main%00/x-runtime.yaml",
        "main/%ff%fe-runtime.yaml",
        "main/x-runtime.yaml%20",
        "main\\x-runtime.yaml",
        "//main/x-runtime.yaml",
    ],
)
def test_a_path_that_is_not_exactly_a_stored_one_is_not_found(api: Api, store: Store, path: str) -> None:
    store.register(RepoId("other"), replace(TEAM, name="other"))
    store.serve({"secret-runtime.yaml": '"secret"'}, repo_id=RepoId("other"))
    store.serve({"x-runtime.yaml": "1"})
    response = api.get(f"/runtimes/team/{path}")
    assert response.status_code == 404
    assert "secret" not in response.text.replace("secret-runtime", "")


def test_a_branch_that_was_never_accepted_says_why(api: Api, store: Store) -> None:
    finding = Finding(FilePath("x-runtime.yaml"), "yaml", Severity.ERROR, "a tab", 3, 1)
    store.reject(Report((finding,)))
    for path in ("/runtimes/team/main", "/runtimes/team/main/x-runtime.yaml"):
        response = api.get(path)
        assert (response.status_code, response.json["kind"]) == (404, "branch-not-found")
        assert response.json["condition"] == "Invalid"
        assert response.json["branch"] == "main"
        assert "x-runtime.yaml:3:1" in response.json["message"]


def test_a_branch_that_cannot_be_fetched_says_why_without_credentials(api: Api, store: Store) -> None:
    store.fail(Failed(SourceRefused("https://me:token@git.example.com said 401")))
    response = api.get("/runtimes/team/main")
    assert response.json["condition"] == "AuthenticationFailed"
    assert "token" not in response.text
    assert "git.example.com" in response.json["message"]


def test_a_branch_that_is_gone_is_not_found_and_an_empty_set_is_a_list(api: Api, store: Store) -> None:
    store.serve({"x-runtime.yaml": "1"})
    store.serve({"x-runtime.yaml": None})
    assert api.get("/runtimes/team/main").json == []
    store.end_branch()
    response = api.get("/runtimes/team/main")
    assert (response.status_code, response.json["kind"]) == (404, "branch-not-found")
    assert response.json["reason"] == "BranchGone"


def test_served_branches_are_listed(api: Api, store: Store) -> None:
    assert api.get("/runtimes/team").json == {"repo_id": GUID, "branches": []}
    store.serve({}, "main")
    store.serve({}, "release/1.0")
    for path in ("/runtimes/team", "/runtimes/team/"):
        assert api.get(path).json == {"repo_id": GUID, "branches": ["main", "release/1.0"]}


# -- Conditional requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ['"{}"', "{}", 'W/"{}"', '"1", "{}"', '"x,y", W/"{}" ', "*", '"{}-gzip"'])
@pytest.mark.parametrize(
    "path", ["/runtimes/team/main", "/runtimes/team/main/x-runtime.yaml", "/runtimes/team/main?limit=5"]
)
def test_what_the_caller_holds_is_not_sent_again(api: Api, store: Store, path: str, held: str) -> None:
    generation = store.serve({"x-runtime.yaml": "1"})
    got = api.get(path)
    headers = {"If-None-Match": held.format(generation), "Accept-Encoding": "gzip"}
    response = api.get(path, headers=headers)
    assert response.status_code == 304
    assert response.data == b""
    assert "Content-Type" not in response.headers
    for name in ("X-Commit-Id", "X-Generation", "X-Synced-At", "Cache-Control", "Vary"):
        assert response.headers[name] == got.headers[name]
    assert response.headers.get("X-Blob-Id") == got.headers.get("X-Blob-Id")
    form = "-gzip" if "gzip" in held else ""
    assert response.headers["ETag"] == f'"{generation}{form}"'


@pytest.mark.parametrize(
    "held",
    ['"1"', '"{}0"', '"0{}"', '"-{}"', '"{}-br"', '"x{}"', "", '""', '"99999999999999999999"', '"{}-gzip"', '"\xff"'],
)
@pytest.mark.parametrize("path", ["/runtimes/team/main", "/runtimes/team/main/x-runtime.yaml"])
def test_another_tag_gets_the_body(api: Api, store: Store, path: str, held: str) -> None:
    """The compressed form among them: this caller does not take it."""
    generation = store.serve({"x-runtime.yaml": "1"})
    response = api.get(path, headers={"If-None-Match": held.format(generation)})
    assert response.status_code == 200
    assert response.data == api.get(path).data != b""


def test_a_push_of_other_files_moves_the_list_and_not_the_config(api: Api, store: Store) -> None:
    first = store.serve({"x-runtime.yaml": "1"})
    assert len(api.get("/runtimes/team/main").json) == 1
    second = store.serve({"y-runtime.yaml": "2"}, commit="c" * 40)
    tag = {"If-None-Match": f'"{first}"'}
    item = api.get("/runtimes/team/main/x-runtime.yaml", headers=tag)
    assert item.status_code == 304
    assert item.headers["X-Generation"] == str(second)
    assert item.headers["X-Commit-Id"] == "c" * 40
    assert len(api.get("/runtimes/team/main", headers=tag).json) == 2


def test_a_push_that_changes_no_config_keeps_the_tag_and_tells_the_commit(api: Api, store: Store) -> None:
    generation = store.serve({"x-runtime.yaml": "1"}, commit="a" * 40)
    before = api.get("/runtimes/team/main")
    store.serve({}, commit="b" * 40)
    after = api.get("/runtimes/team/main")
    assert after.data == before.data
    assert after.headers["ETag"] == before.headers["ETag"] == f'"{generation}"'
    assert (before.headers["X-Commit-Id"], after.headers["X-Commit-Id"]) == ("a" * 40, "b" * 40)


# -- Compression -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/runtimes/team/main", "/runtimes/team/main/x-runtime.yaml", "/runtimes/team/main?limit=5"]
)
def test_a_big_body_is_compressed_for_who_takes_it(api: Api, store: Store, path: str) -> None:
    generation = store.serve({"x-runtime.yaml": BIG})
    plain = api.get(path)
    for _ in range(2):
        packed = api.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert packed.headers["ETag"] == f'"{generation}-gzip"'
        assert gzip.decompress(packed.data) == plain.data
        assert len(packed.data) < len(plain.data) / 10
    for refusal in ("gzip;q=0", "identity", "gzip;q=0, *", "br"):
        response = api.get(path, headers={"Accept-Encoding": refusal})
        assert "Content-Encoding" not in response.headers
        assert response.headers["ETag"] == f'"{generation}"'
        assert response.headers["Vary"] == "Accept-Encoding"


def test_a_small_body_is_sent_as_it_is(api: Api, store: Store) -> None:
    store.serve({"x-runtime.yaml": "1"})
    response = api.get("/runtimes/team/main/x-runtime.yaml", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in response.headers


# -- Pages and prefixes ----------------------------------------------------------------------------------------------


def test_pages_are_the_list_in_pieces(api: Api, store: Store) -> None:
    store.serve({f"{letter}/x y-runtime.yaml": f'"{letter}"' for letter in "edcba"}, "release/1.0")
    whole = api.get("/runtimes/team/release/1.0").json
    path, pages = "/runtimes/team/release/1.0?limit=2", []
    while path:
        response = api.get(path)
        pages.append(response.json)
        path = response.headers.get("Link", "").partition('>; rel="next"')[0].removeprefix("<")
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one for page in pages for one in page] == whole


def test_the_last_page_has_no_next_even_when_it_is_full(api: Api, store: Store) -> None:
    store.serve({"a-runtime.yaml": "1", "b-runtime.yaml": "2"})
    response = api.get("/runtimes/team/main?limit=2")
    assert len(response.json) == 2
    assert "Link" not in response.headers


def test_a_page_of_a_set_that_moved_is_gone_and_leads_to_the_first(api: Api, store: Store) -> None:
    store.serve({"b-runtime.yaml": "1", "c-runtime.yaml": "2"})
    following = api.get("/runtimes/team/main?limit=1&prefix=").headers["Link"].partition(">")[0].removeprefix("<")
    store.serve({"a-runtime.yaml": "2"})
    response = api.get(following)
    assert (response.status_code, response.json["kind"]) == (410, "set-changed")
    assert response.headers["Link"] == f'<{response.json["first"]}>; rel="first"'
    assert api.get(response.json["first"]).json[0]["filepath"] == "a-runtime.yaml"


def test_a_link_does_not_repeat_a_key(store: Store) -> None:
    api = Api(app_over(store.pool), key=None)
    store.serve({"b-runtime.yaml": "1", "c-runtime.yaml": "2"})
    response = api.get(f"/runtimes/team/main?limit=1&prefix=&code={READER_KEY}")
    assert 'rel="next"' in response.headers["Link"]
    assert READER_KEY not in response.headers["Link"]


def test_a_prefix_filters_lists_and_pages(api: Api, store: Store) -> None:
    generation = store.serve(
        {"a/1-runtime.yaml": "1", "a/2-runtime.yaml": "2", "ab-runtime.yaml": "3", "a_-runtime.yaml": "4"}
    )
    paths = [one["filepath"] for one in api.get("/runtimes/team/main?prefix=a/").json]
    assert paths == ["a/1-runtime.yaml", "a/2-runtime.yaml"]
    assert [one["filepath"] for one in api.get("/runtimes/team/main?prefix=a_").json] == ["a_-runtime.yaml"]
    assert len(api.get("/runtimes/team/main").json) == 4
    response = api.get("/runtimes/team/main?prefix=a/&limit=1")
    assert len(response.json) == 1
    assert "prefix=a%2F" in response.headers["Link"]
    held = {"If-None-Match": f'"{generation}"'}
    assert api.get("/runtimes/team/main?prefix=a/", headers=held).status_code == 304
    assert api.get("/runtimes/team/main?prefix=nothing").json == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=two", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=1&cursor=x", "cursor"),
        ("limit=1&cursor=%C3%A9", "cursor"),
        ("limit=1&cursor=bnVsbA", "cursor"),
        ("limit=1&cursor=WzEsMl0", "cursor"),
        ("limit=1&cursor=W3RydWUsImEiXQ", "cursor"),
        ("limit=1&cursor=WzEsIlx1MDAwMCJd", "cursor"),
        ("prefix=%00", "prefix"),
        ("limit=1&prefix=%00", "prefix"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(api: Api, store: Store, query: str, field: str) -> None:
    store.serve({"x-runtime.yaml": "1"})
    response = api.get(f"/runtimes/team/main?{query}")
    assert (response.status_code, response.json["kind"], response.json["field"]) == (400, "invalid-request", field)


# -- The cache of lists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [0, 1_000_000])
def test_a_list_is_never_older_than_the_database(store: Store, cached: int) -> None:
    api = Api(app_over(store.pool, limits=Limits(cached_lists=cached)))
    for number in range(5):
        store.serve({"x-runtime.yaml": str(number)})
        for _ in range(2):
            assert api.get("/runtimes/team/main").json[0]["config"] == number


def test_a_cached_list_is_not_read_again(api: Api, store: Store) -> None:
    """Shown by an edit by hand, which moves no generation."""
    store.serve({"x-runtime.yaml": "1"})
    assert api.get("/runtimes/team/main").json[0]["config"] == 1
    with store.pool.connection() as connection:
        connection.execute("UPDATE runtime_configs SET config = '2'")
    assert api.get("/runtimes/team/main").json[0]["config"] == 1
    assert api.get("/runtimes/team/main/x-runtime.yaml").json == 2


def test_an_older_generation_after_a_restore_is_not_answered_from_the_cache(api: Api, store: Store) -> None:
    store.serve({"x-runtime.yaml": "1"})
    assert api.get("/runtimes/team/main").json[0]["config"] == 1
    with store.pool.connection() as connection:
        connection.execute("UPDATE runtime_configs SET config = '0', generation = 7")
        connection.execute("UPDATE branches SET generation = 7")
    response = api.get("/runtimes/team/main")
    assert response.json[0]["config"] == 0
    assert response.headers["ETag"] == '"7"'


# -- Who may ---------------------------------------------------------------------------------------------------------


def test_reading_needs_a_key_unless_everybody_may(store: Store) -> None:
    store.serve({"x-runtime.yaml": "1"})
    path = "/runtimes/team/main/x-runtime.yaml"
    refused = Api(app_over(store.pool), key=None).get(path)
    assert (refused.status_code, refused.json["kind"]) == (401, "unauthenticated")
    assert refused.headers["WWW-Authenticate"]
    assert Api(app_over(store.pool), ADMIN_KEY).get(path).json == 1
    open_to_all = Access(Keys, anonymous_reads=True)
    response = Api(app_over(store.pool, access=open_to_all), key=None).get(path)
    assert response.json == 1
    assert response.headers["Cache-Control"] == "no-cache"


def test_without_its_database_it_is_unavailable_for_now(database: str) -> None:
    pool = Pool(database)
    Store(pool)
    pool.close()
    response = Api(app_over(pool)).get("/runtimes/team/main")
    assert (response.status_code, response.json["kind"]) == (503, "unavailable")
    assert int(response.headers["Retry-After"]) >= 1


def test_a_name_that_another_repository_took_over_leads_to_it_soon(
    api: Api, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the old one is back under another name, so that its configs are found by its id."""
    now = [1000.0]
    monkeypatch.setattr(names, "monotonic", lambda: now[0])
    path = "/runtimes/team/main/x-runtime.yaml"
    store.serve({"x-runtime.yaml": '"old"'})
    assert api.get(path).json == "old"
    store.registry.remove(GUID, expected=1)
    store.register(RepoId("new"))
    store.register(GUID, replace(TEAM, name="moved"))
    store.serve({"x-runtime.yaml": '"old"'})
    store.serve({"x-runtime.yaml": '"new"'}, repo_id=RepoId("new"))
    now[0] += names.KEPT.total_seconds()
    assert api.get(path).json == "new"


def test_names_are_kept_between_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    read = PostgresRegistry.names

    def counted(registry: PostgresRegistry) -> Names:
        loads.append(1)
        return read(registry)

    monkeypatch.setattr(PostgresRegistry, "names", counted)
    api = Api(app_over(store.pool), READER_KEY)
    store.serve({"x-runtime.yaml": "1"})
    for _ in range(5):
        assert api.get("/runtimes/team/main/x-runtime.yaml").status_code == 200
    assert len(loads) == 1


def test_names_of_branches_do_not_reach_into_another_repository(api: Api, store: Store) -> None:
    store.register(RepoId("other"), replace(TEAM, name="other", branches=(BranchName("secret"),)))
    store.serve({"x-runtime.yaml": '"other"'}, "secret", repo_id=RepoId("other"))
    assert api.get("/runtimes/team/secret/x-runtime.yaml").json["kind"] == "branch-not-found"
