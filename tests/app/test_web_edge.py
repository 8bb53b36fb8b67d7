"""The edge: health, unknown routes, correlation, logs; and that openapi.json and the docs say what the code does."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import pytest
from support.postgres import Server
from support.web import (
    ADMIN_KEY,
    DOCUMENT,
    HOOK_KEY,
    READER_KEY,
    Api,
    Ends,
    Store,
    app_over,
    bearer,
    documented,
)

from shared.errors import Kind, SecretUnavailable
from shared.postgres.pool import Pool
from shared.web import problems
from shared.web.access import Access, Keys, Role
from shared.web.app import App

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def down(postgres_server: Server) -> Pool:
    """A database that was there."""
    with postgres_server.clone() as conninfo:
        pool = Pool(conninfo)
        Store(pool)
        pool.close()
    return pool


@pytest.fixture
def app(down: Pool) -> App:
    return app_over(down)


# -- Health ----------------------------------------------------------------------------------------------------------


def test_alive_needs_no_key_and_no_part(app: App) -> None:
    api = Api(app, key=None)
    assert api.get("/livez").json == {"status": "ok"}
    assert api("HEAD", "/livez").data == b""


def test_health_tells_anybody_whether_it_works_and_readers_how(pool: Pool) -> None:
    store = Store(pool)
    store.register()
    store.serve({"x-runtime.yaml": "1"})
    app = app_over(pool)
    for key in (None, "x" * 40, HOOK_KEY):
        assert Api(app, key).get("/health").json == {"status": "ok"}
    for key in (READER_KEY, ADMIN_KEY):
        told = Api(app, key).get("/health").json
        assert (told["status"], told["conditions"]["Ready"], told["waiting"]) == ("ok", 1, 0)
    everybody = app_over(pool, access=Access(Keys, anonymous_reads=True))
    assert "waiting" in Api(everybody, key=None).get("/health").json


def test_health_is_told_to_anybody_while_keys_cannot_be_compared(pool: Pool) -> None:
    def down() -> Keys:
        raise SecretUnavailable("the vault is down")

    Store(pool)
    for keys in (Keys, down):
        response = Api(app_over(pool, access=Access(keys)), READER_KEY).get("/health")
        assert (response.status_code, response.json) == (200, {"status": "ok"})


def test_health_without_a_database_is_unavailable(app: App) -> None:
    response = Api(app, key=None).get("/health")
    assert (response.status_code, response.json) == (503, {"status": "unavailable"})
    assert response.headers["Retry-After"]
    assert "DATABASE_URL" in Api(app, READER_KEY).get("/health").json["hint"]


# -- The edge --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/x",
        "/runtimes",
        "/runtimes/",
        "/runtimes//main",
        "/repositories//syncs",
        "/livez%00",
        "/livez//x",
        "/livez/x",
    ],
)
def test_an_unknown_route_is_not_found(app: App, path: str) -> None:
    response = Api(app).get(path)
    assert (response.status_code, response.json["kind"]) == (404, "route-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/livez", "GET, HEAD"),
        ("PUT", "/runtimes/team/main/x", "GET, HEAD"),
        ("POST", "/repositories/team", "DELETE, GET, HEAD, PUT"),
        ("GET", "/repositories/team/sync", "POST"),
        ("OPTIONS", "/repositories", "GET, HEAD"),
        ("BREW", "/reconcile", "POST"),
    ],
)
def test_a_method_that_a_route_does_not_have_is_told_those_it_has(
    app: App, method: str, path: str, allowed: str
) -> None:
    response = Api(app)(method, path)
    assert (response.status_code, response.json["kind"]) == (405, "method-not-allowed")
    assert response.headers["Allow"] == allowed


def test_a_problem_for_head_has_no_body(app: App) -> None:
    response = Api(app)("HEAD", "/nothing")
    assert (response.status_code, response.data) == (404, b"")
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("given", ["abc-1.2_X", "a" * 64])
def test_a_well_formed_correlation_id_is_kept(app: App, given: str) -> None:
    response = Api(app).get("/nothing", headers={"X-Correlation-Id": given})
    assert response.headers["X-Correlation-Id"] == response.json["correlation_id"] == given


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "<script>", 'a"b', "é", "a,b"])
def test_another_correlation_id_is_replaced(app: App, given: str) -> None:
    api = Api(app)
    first, second = (api.get("/livez", headers={"X-Correlation-Id": given}) for _ in range(2))
    ids = {first.headers["X-Correlation-Id"], second.headers["X-Correlation-Id"]}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_the_log_says_who_called_and_never_with_what(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    Store(pool)
    api = Api(app_over(pool), key=None)
    with caplog.at_level(logging.DEBUG):
        api.get(f"/runtimes/team/main?code={READER_KEY}")
        api.get("/repositories", headers=bearer(ADMIN_KEY))
        api.get("/repositories", headers=bearer("w" * 40))
        api.post("/webhooks/azure-devops", headers={"x-functions-key": "h" * 40})
        api.get("/livez")
    answered = [record.__dict__ for record in caplog.records if record.message == "Answered"]
    assert [(one["caller"], one["status"]) for one in answered] == [
        ("etl", 404),
        ("admin", 200),
        ("anonymous", 401),
        ("anonymous", 401),
        ("anonymous", 200),
    ]
    assert answered[0]["route"] == "/runtimes/<alias>/<rest:rest>"
    everything = " ".join(f"{record.__dict__}" for record in caplog.records)
    for key in (READER_KEY, ADMIN_KEY, "w" * 40, "h" * 40, "code="):
        assert key not in everything


def test_a_bug_is_a_problem_with_nothing_to_see(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(pool)
    store.register()
    with caplog.at_level(logging.ERROR):
        response = Api(app_over(pool, Ends())).post("/repositories/team/sync")  # KeyError: no outcome is set
    assert (response.status_code, response.json["kind"]) == (500, "internal")
    assert "KeyError" not in response.text
    assert any(record.exc_info for record in caplog.records)


def test_many_threads_share_one_app(pool: Pool) -> None:
    store = Store(pool)
    store.register()
    store.serve({"x-runtime.yaml": "0"})
    app, wrong = app_over(pool), []

    def read() -> None:
        api = Api(app, READER_KEY)
        latest = 0
        for _ in range(40):
            listed = api.get("/runtimes/team/main", headers={"Accept-Encoding": "gzip"}).json[0]["config"]
            single = api.get("/runtimes/team/main/x-runtime.yaml").json
            if not latest <= listed <= single:
                wrong.append((latest, listed, single))
            latest = single

    readers = [Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1, 30):
        store.serve({"x-runtime.yaml": str(number)})
    for reader in readers:
        reader.join()
    assert not wrong


# -- What is written about it ----------------------------------------------------------------------------------------


def test_openapi_is_served_as_it_is(app: App) -> None:
    response = Api(app, key=None).get("/openapi.json")
    assert response.json == DOCUMENT
    assert response.json["openapi"] == "3.1.0"


def test_openapi_has_the_routes_of_the_app_with_who_may(app: App) -> None:
    described = {
        (method.upper(), path): operation
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    served = {(route.method, path): route.role for route in app.routes for path in documented(route.rule)}
    assert described.keys() == served.keys()
    for key, role in served.items():
        operation = described[key]
        assert ({} in operation["security"] or not operation["security"]) == (role is None), key
        assert ("403" in operation["responses"]) == (role in (Role.READER, Role.ADMIN)), key
        assert operation.get("description", "").startswith("For admins") == (role is Role.ADMIN), key


def test_openapi_holds_together() -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for one in value.values():
                yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    used = set(references(DOCUMENT))
    there = {f"#/components/{kind}/{name}" for kind, parts in DOCUMENT["components"].items() for name in parts}
    schemes = {name for name in there if "/securitySchemes/" in name}
    assert used == there - schemes
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    ids = [one["operationId"] for operations in DOCUMENT["paths"].values() for one in operations.values()]
    assert len(ids) == len(set(ids))


def test_openapi_has_every_kind() -> None:
    kinds = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["kind"]["enum"]
    assert set(kinds) == {*problems.PROBLEMS, *problems.PROBLEMS_OF_HTTP}


def test_the_page_on_errors_has_every_kind_with_its_status() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (\d{3}) \| (.+?) \| (.+?) \|$", (DOCS / "errors.md").read_text("utf-8"), re.MULTILINE
    )
    assert {kind: int(status) for kind, status, _, _ in rows} == {
        **{kind: problem.status for kind, problem in problems.PROBLEMS.items()},
        **{kind: problem.status for kind, problem in problems.PROBLEMS_OF_HTTP.items()},
    }
    assert len(rows) == len(Kind) + 2


def test_the_page_on_the_api_has_every_route_and_no_other(app: App) -> None:
    served = {f"{route.method} {path}" for route in app.routes for path in documented(route.rule)}
    page = (DOCS / "api.md").read_text("utf-8")
    assert set(re.findall(r"^\| `((?:GET|PUT|POST|DELETE) /[^`]*)` \|", page, re.MULTILINE)) == served


def test_examples_on_the_page_are_json() -> None:
    page = (DOCS / "api.md").read_text("utf-8")
    examples = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        json.loads(example)
