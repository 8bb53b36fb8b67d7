"""Registering, status, history, and syncs by hand, over a real registry, queue and journal."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from support.postgres import Server
from support.web import ADMIN_KEY, GUID, READER_KEY, TEAM, Api, Ends, Store, app_over, unchanged

from shared.errors import ClaimLost, DatabaseUnavailable, SourceFailed, SourceRefused, SourceThrottled
from shared.model import (
    BranchName,
    CommitId,
    Decision,
    DeferReason,
    Deferred,
    Delivery,
    Event,
    Failed,
    FilePath,
    Finding,
    Generation,
    Outcome,
    RefUpdate,
    Rejected,
    Replaced,
    RepoId,
    Report,
    Severity,
    SourceName,
    SweepSummary,
)
from shared.postgres.pool import Pool

BODY = {"name": "team", "source": "https://git.example.com/team.git", "branches": ["main"]}
FINDING = Finding(FilePath("x\udcff-runtime.yaml"), "yaml", Severity.ERROR, "a tab", 3, 1)
HEAD = CommitId("c" * 40)


@pytest.fixture(scope="module")
def pool(postgres_server: Server) -> Iterator[Pool]:
    """One database for the module: making one takes longer than most of these tests."""
    with postgres_server.clone() as conninfo:
        pool = Pool(conninfo, size=4)
        yield pool
        pool.close()


@pytest.fixture
def store(pool: Pool) -> Store:
    return Store(pool)


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
def api(store: Store, ends: Ends) -> Api:
    return Api(app_over(store.pool, ends))


# -- Registering -----------------------------------------------------------------------------------------------------


def test_a_repository_is_added_read_changed_and_removed(api: Api) -> None:
    added = api.put(f"/repositories/{GUID.upper()}", json={**BODY, "root": "/configs/", "project": "data"})
    assert added.status_code == 201
    assert added.headers["Location"] == f"/repositories/{GUID}"
    assert added.json["repo_id"] == GUID
    assert (added.json["root"], added.json["pattern"], added.json["validation"]) == (
        "configs",
        "*runtime*.yaml",
        "enforce",
    )
    tag = added.headers["ETag"]
    assert tag == f'"{added.json["revision"]}"'

    for alias in (GUID, "team"):
        got = api.get(f"/repositories/{alias}")
        assert (got.json, got.headers["ETag"]) == (added.json, tag)

    changed = api.put("/repositories/team", json={**BODY, "validation": "report"}, headers={"If-Match": tag})
    assert changed.status_code == 200
    assert (changed.json["validation"], changed.json["project"], changed.json["root"]) == ("report", None, "")
    assert changed.headers["ETag"] != tag

    assert api.delete("/repositories/team", headers={"If-Match": changed.headers["ETag"]}).status_code == 204
    assert api.get("/repositories/team").json["kind"] == "repository-not-found"


def test_a_change_names_the_revision_it_was_made_from(api: Api, store: Store) -> None:
    store.register()
    revision = store.registry.get(GUID).revision
    for method in ("PUT", "DELETE"):
        options: dict[str, Any] = {"json": {**BODY, "root": "elsewhere"}} if method == "PUT" else {}
        missing = api(method, "/repositories/team", **options)
        assert (missing.status_code, missing.json["kind"]) == (428, "revision-required")
        moved = api(method, "/repositories/team", headers={"If-Match": f'"{revision + 7}"'}, **options)
        assert (moved.status_code, moved.json["kind"]) == (412, "revision-moved")
        wrong = api(method, "/repositories/team", headers={"If-Match": '"x"'}, **options)
        assert (wrong.status_code, wrong.json["field"]) == (400, "If-Match")
    assert store.registry.get(GUID).registration == TEAM
    for if_match in (f"{store.registry.get(GUID).revision}", "*"):
        response = api.put(
            "/repositories/team", json={**BODY, "root": if_match.strip("*")}, headers={"If-Match": if_match}
        )
        assert response.status_code == 200


def test_what_is_not_there_has_no_revision(api: Api, store: Store) -> None:
    response = api.put("/repositories/team", json=BODY, headers={"If-Match": '"1"'})
    assert (response.status_code, response.json["kind"]) == (404, "repository-not-found")
    assert api.delete("/repositories/team", headers={"If-Match": '"1"'}).status_code == 404
    assert not store.registry.list()


def test_a_name_that_is_taken_is_a_conflict(api: Api, store: Store) -> None:
    store.register()
    response = api.put("/repositories/another", json=BODY)
    assert (response.status_code, response.json["kind"]) == (409, "name-taken")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "source"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b"[" * 60_000, "body"),
        (b'{"a": ' * 9_000, "body"),
        ({**BODY, "colour": "red"}, "colour"),
        ({**BODY, "Name": "x"}, "Name"),
        ({"name": "team"}, "source"),
        ({"source": "x"}, "name"),
        ({**BODY, "name": 7}, "name"),
        ({**BODY, "name": None}, "name"),
        ({**BODY, "name": "a b"}, "name"),
        ({**BODY, "name": str(uuid4())}, "name"),
        ({**BODY, "name": "a\x00"}, "name"),
        ({**BODY, "name": "\ud800"}, "name"),
        ({**BODY, "source": ["x"]}, "source"),
        ({**BODY, "source": "https://***@git.example.com/x"}, "source"),
        ({**BODY, "branches": "main"}, "branches"),
        ({**BODY, "branches": ["main", 7]}, "branches[1]"),
        ({**BODY, "branches": ["a..b"]}, "branches"),
        ({**BODY, "root": "../x"}, "root"),
        ({**BODY, "pattern": "a/b"}, "pattern"),
        ({**BODY, "validation": "loose"}, "validation"),
        ({**BODY, "validation": ["report"]}, "validation"),
        ({**BODY, "suspended": True}, "suspended"),
    ],
)
def test_a_registration_that_cannot_be_used_names_its_field(api: Api, store: Store, body: Any, field: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = api.put("/repositories/team", data=data)
    assert (response.status_code, response.json["kind"], response.json["field"]) == (400, "invalid-request", field)
    assert not store.registry.list()


def test_an_id_that_cannot_be_used_is_named(api: Api) -> None:
    assert api.put("/repositories/a%20b", json=BODY).json["field"] == "repo_id"


def test_a_body_has_a_limit(api: Api) -> None:
    response = api.put("/repositories/team", json={**BODY, "project": "x" * 70_000})
    assert (response.status_code, response.json["kind"]) == (413, "too-large")


def test_without_branches_it_gets_those_of_the_environment(api: Api) -> None:
    assert api.put("/repositories/team", json={"name": "team", "source": "/x"}).json["branches"] == ["main"]


# -- Status ----------------------------------------------------------------------------------------------------------


def test_the_status_says_of_each_branch_what_is_true_and_why(api: Api, store: Store) -> None:
    store.register(registration=replace(TEAM, branches=(BranchName("main"), BranchName("acc"))))
    generation = store.serve({"x-runtime.yaml": "1"}, commit="a" * 40)
    store.reject(Report((FINDING,), omitted=2))
    acc, main = api.get("/repositories/team").json["status"]
    assert (acc["branch"], acc["commit_id"], acc["waiting"], acc["configs"]) == ("acc", None, True, 0)
    assert (main["condition"], main["commit_id"], main["generation"], main["configs"]) == (
        "Invalid",
        "a" * 40,
        generation,
        1,
    )
    assert (main["judged_commit"], main["waiting"], main["syncing"]) == ("f" * 40, False, False)
    assert main["report"]["findings"][0]["line"] == 3
    assert main["report"]["count"] == 3
    (listed,) = api.get("/repositories").json
    assert "findings" not in listed["status"][1]["report"]
    assert listed["status"][1]["report"]["count"] == 3


def test_a_running_and_a_failed_sync_show(api: Api, store: Store) -> None:
    store.register()
    store.fail(Failed(SourceThrottled("Slow down.", retry_after=timedelta(minutes=5))))
    (main,) = api.get("/repositories/team").json["status"]
    assert (main["condition"], main["attempts"], main["waiting"]) == ("Throttled", 1, True)
    assert main["next_attempt_at"]


def test_credentials_of_a_source_are_not_shown(api: Api, store: Store) -> None:
    for number, (source, shown) in enumerate(
        {
            "https://me:tok@en@git.example.com/a b.git": "https://***@git.example.com/a b.git",
            "https://tok@git.example.com/x@y": "https://***@git.example.com/x@y",
            "ssh://git:secret@example.com/x": "ssh://git@example.com/x",
            "ssh://git@example.com/x": "ssh://git@example.com/x",
            "git@example.com:x.git": "git@example.com:x.git",
            "/srv/git/team@home": "/srv/git/team@home",
            "HTTP://a:b@example.com:8080/x": "HTTP://***@example.com:8080/x",
        }.items()
    ):
        store.register(RepoId(f"id-{number}"), replace(TEAM, name=f"team-{number}", source=SourceName(source)))
        assert api.get(f"/repositories/team-{number}").json["source"] == shown
    assert "tok" not in api.get("/repositories").text


def test_history_is_told_the_newest_first(api: Api, store: Store) -> None:
    store.register(registration=replace(TEAM, branches=(BranchName("main"), BranchName("acc"))))
    store.serve({"x-runtime.yaml": "1"})
    store.serve({}, "acc")
    store.reject(Report((FINDING,)))
    store.fail(Failed(SourceFailed("https://me:token@example.com broke")))
    told = [(one["branch"], one["outcome"]) for one in api.get("/repositories/team/syncs").json]
    assert told == [("main", "Failed"), ("main", "Rejected"), ("acc", "Unchanged"), ("main", "Replaced")]
    assert "token" not in api.get("/repositories/team/syncs").text
    assert len(api.get("/repositories/team/syncs?branch=acc").json) == 1
    assert len(api.get("/repositories/team/syncs?limit=2").json) == 2
    assert api.get("/repositories/team/syncs?branch=gone").json == []
    assert api.get("/repositories/team/syncs?limit=0").json["field"] == "limit"


def test_deliveries_show_who_pushed_to_admins_alone(api: Api, store: Store) -> None:
    store.register()
    updates = (RefUpdate(BranchName("main"), CommitId("a" * 40), CommitId("b" * 40)),)
    event = Event("git.push", repo_id=GUID, push_id=14, pushed_by="Grace Hopper", updates=updates)
    store.queue.request(Delivery(uuid4(), Decision.REQUESTED, event), GUID, [BranchName("main")])
    (delivery,) = api.get("/repositories/team/deliveries").json
    assert (delivery["decision"], delivery["push_id"], delivery["pushed_by"]) == ("requested", 14, "Grace Hopper")
    assert delivery["updates"] == [{"branch": "main", "old": "a" * 40, "new": "b" * 40}]
    assert delivery["requests"]["main"] >= 1
    (seen,) = Api(app_over(store.pool), READER_KEY).get("/repositories/team/deliveries").json
    assert "Grace" not in json.dumps(seen)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/repositories/nobody"),
        ("GET", "/repositories/nobody/syncs"),
        ("GET", "/repositories/nobody/deliveries"),
        ("POST", "/repositories/nobody/sync"),
        ("GET", "/repositories/%ff"),
    ],
)
def test_an_unknown_repository_is_not_found(api: Api, method: str, path: str) -> None:
    assert api(method, path).json["kind"] == "repository-not-found"


# -- Syncs by hand ---------------------------------------------------------------------------------------------------


REPLACED = Replaced(HEAD, Generation(9), 2, 1)
REJECTED = Rejected(HEAD, Report((FINDING,)))
BUSY = Deferred(DeferReason.BUSY, "Another worker is at it.")


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (REPLACED, 200, None),
        (unchanged(), 200, None),
        (BUSY, 202, None),
        (REJECTED, 422, "rejected"),
        (Failed(SourceFailed("Git is down.", hint="Look at it.")), 502, "source-failed"),
        (Failed(SourceRefused("https://a:b@c says 401.")), 502, "source-refused"),
        (Failed(SourceThrottled("Slow down.", retry_after=timedelta(minutes=1))), 503, "source-throttled"),
        (Failed(DatabaseUnavailable("No answer.")), 503, "unavailable"),
        (Failed(ClaimLost("gone")), 500, "internal"),
    ],
)
def test_a_sync_by_hand_answers_with_its_outcome(
    api: Api, store: Store, ends: Ends, outcome: Outcome, status: int, kind: str | None
) -> None:
    store.register()
    ends.outcomes = {"main": outcome}
    response = api.post("/repositories/team/sync?branch=main")
    assert response.status_code == status
    assert response.json.get("kind") == kind
    assert response.headers.get("Location") == (f"/repositories/{GUID}" if status == 202 else None)
    assert response.headers.get("Retry-After") == {"source-throttled": "60", "unavailable": "5"}.get(kind or "")
    (branch,) = response.json["branches"]
    assert (branch["branch"], branch["outcome"]) == ("main", type(outcome).__name__)
    assert "a:b@" not in response.text
    if outcome is REJECTED:
        assert branch["report"]["findings"][0]["column"] == 1


def test_without_a_branch_all_are_synced_and_the_worst_decides(api: Api, store: Store, ends: Ends) -> None:
    names = tuple(map(BranchName, ("main", "acc", "dev")))
    store.register(registration=replace(TEAM, branches=names))
    ends.outcomes = {"main": REPLACED, "acc": REJECTED, "dev": BUSY}
    response = api.post("/repositories/team/sync")
    assert response.status_code == 422
    assert response.headers["Location"]
    assert [branch["outcome"] for branch in response.json["branches"]] == ["Replaced", "Rejected", "Deferred"]


def test_a_sync_by_hand_helps_a_timer_that_is_overdue(api: Api, store: Store, ends: Ends) -> None:
    store.register()
    ends.outcomes = {"main": BUSY}
    api.post("/repositories/team/sync?branch=main")
    assert ends.taken_along == 1


def test_a_dry_run_changes_nothing(api: Api, store: Store, ends: Ends) -> None:
    store.register()
    before = store.queue.status(GUID)
    ends.outcomes = {"main judged": REJECTED}
    assert api.post("/repositories/team/sync?dry_run=true").status_code == 422
    assert store.queue.status(GUID) == before


def test_a_commit_that_is_answered_for_is_not_synced_again(api: Api, store: Store, ends: Ends) -> None:
    store.register()
    ends.covered = {HEAD: unchanged(HEAD)}
    ends.outcomes = {"main": REPLACED}
    answered = api.post("/repositories/team/sync?branch=main", json={"commit": HEAD.upper()})
    assert answered.json["branches"][0]["outcome"] == "Unchanged"
    other = api.post("/repositories/team/sync", json={"commit": "d" * 40})
    assert other.json["branches"][0]["outcome"] == "Replaced"


@pytest.mark.parametrize(
    ("query", "body", "field"),
    [
        ("?deep=perhaps", b"", "deep"),
        ("?dry_run=2", b"", "dry_run"),
        ("", b"{", "body"),
        ("", b'{"commit": "abc"}', "commit"),
        ("", b'{"commit": 7}', "commit"),
        ("", b'{"sha": "x"}', "sha"),
        ("", b'{"commit": "%s"}' % (b"a" * 40), "branch"),
        ("?branch=%00", b"", "branch"),
    ],
)
def test_a_sync_that_cannot_be_meant_names_what_is_wrong(
    api: Api, store: Store, query: str, body: bytes, field: str
) -> None:
    store.register(registration=replace(TEAM, branches=(BranchName("main"), BranchName("acc"))))
    response = api.post(f"/repositories/team/sync{query}", data=body)
    assert (response.status_code, response.json["field"]) == (400, field)


def test_a_branch_that_is_not_registered_is_not_found(api: Api, store: Store) -> None:
    store.register()
    response = api.post("/repositories/team/sync?branch=other")
    assert (response.status_code, response.json["kind"]) == (404, "branch-not-found")
    assert "main" in response.json["hint"]


def test_a_sweep_over_http(api: Api, ends: Ends) -> None:
    ends.summary = SweepSummary(True, 3, 1, 2, {"Replaced": 1}, is_complete=False)
    response = api.post("/reconcile?seconds=5")
    assert response.status_code == 200
    assert response.json == {
        "started": True,
        "is_complete": False,
        "heads_checked": 3,
        "heads_failed": 1,
        "moved": 2,
        "outcomes": {"Replaced": 1},
    }
    ends.summary = SweepSummary(started=False)
    assert api.post("/reconcile").status_code == 202
    for seconds in ("0", "61", "x"):
        assert api.post(f"/reconcile?seconds={seconds}").json["field"] == "seconds"


# -- Who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "reader_may"),
    [
        ("GET", "/repositories", True),
        ("GET", "/repositories/team", True),
        ("GET", "/repositories/team/syncs", True),
        ("GET", "/repositories/team/deliveries", True),
        ("PUT", "/repositories/team", False),
        ("DELETE", "/repositories/team", False),
        ("POST", "/repositories/team/sync", False),
        ("POST", "/reconcile", False),
    ],
)
def test_changing_is_for_admins(store: Store, ends: Ends, method: str, path: str, reader_may: bool) -> None:
    store.register()
    app = app_over(store.pool, ends)
    assert Api(app, key=None)(method, path).status_code == 401
    assert Api(app, READER_KEY)(method, path).status_code == (200 if reader_may else 403)
    ends.outcomes = {"main": unchanged()}
    assert Api(app, ADMIN_KEY)(method, path).status_code not in (401, 403)
