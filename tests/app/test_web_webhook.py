"""What Azure DevOps is answered: a status code is a contract, and a wrong one loses pushes."""

import base64
import logging
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from support.web import ADMIN_KEY, GUID, HOOK_KEY, READER_KEY, Api, Ends, app_over, bearer, unchanged
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response

from shared.errors import DatabaseUnavailable, SchemaOutdated, SecretUnavailable, SourceFailed, SourceThrottled
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
    Receipt,
    Rejected,
    Replaced,
    Report,
    Severity,
)
from shared.postgres.pool import Pool
from shared.web.access import Access, Keys
from shared.web.app import App
from shared.web.services import Limits

PATH = "/webhooks/azure-devops"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"azure:{HOOK_KEY}".encode()).decode()}
HEAD = CommitId("c" * 40)
FINDING = Finding(FilePath("x-runtime.yaml"), "schema", Severity.ERROR, "expected a string", 3, 7, "/name")


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Nothing here reaches the database but through the intake."""
    pool = Pool("host=127.0.0.1")
    yield pool
    pool.close()


@pytest.fixture
def ends() -> Ends:
    return Ends(receipt=receipt())


@pytest.fixture
def api(pool: Pool, ends: Ends) -> Api:
    return Api(app_over(pool, ends), HOOK_KEY)


def receipt(outcomes: dict[str, Outcome] | None = None, decision: Decision = Decision.REQUESTED, *more: str) -> Receipt:
    """`more` are requested branches without an outcome."""
    named = {BranchName(branch): outcome for branch, outcome in (outcomes or {}).items()}
    requests = dict.fromkeys([*named, *map(BranchName, more)], 3)
    return Receipt(Delivery(uuid4(), decision, Event("git.push", repo_id=GUID), requests), named)


class Unread:
    """A body that must not be read."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")

    readline = readinto = read


class Endless:
    """A body far beyond any limit, which counts what was taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "the whole body was asked for"
        self.taken += size
        return b" " * size


def post(
    app: App, body: Any, length: int | None, headers: dict[str, str] = BASIC, server: dict[str, object] | None = None
) -> Response:
    """A delivery as a server hands it over while its body is still on the wire."""
    environ = EnvironBuilder(PATH, method="POST", headers=headers).get_environ()
    environ |= {"wsgi.input": body, **(server or {})}
    environ |= {"wsgi.input_terminated": True} if length is None else {"CONTENT_LENGTH": str(length)}
    body_parts, status, answered = run_wsgi_app(app, environ, buffered=True)
    return Response(body_parts, status, answered)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Replaced(HEAD, Generation(9), 2, 1), 200),
        (unchanged(), 200),
        (Rejected(HEAD, Report((FINDING,))), 200),
        (Deferred(DeferReason.BUDGET, "later"), 202),
        (Deferred(DeferReason.SUSPENDED, "holiday"), 202),
        (Failed(SourceFailed("Git is down")), 202),
        (Failed(SourceThrottled("slow down", retry_after=timedelta(minutes=1))), 202),
        (Failed(DatabaseUnavailable("gone meanwhile")), 202),
    ],
)
def test_a_recorded_push_is_a_success_whatever_came_of_it(api: Api, ends: Ends, outcome: Outcome, status: int) -> None:
    ends.receipt = receipt({"main": unchanged(), "release/1.0": outcome})
    response = api.post(PATH, data=b"{}")
    assert response.status_code == status
    main, release = response.json["branches"]
    assert (main["branch"], main["outcome"], main["request"]) == ("main", "Unchanged", 3)
    assert (release["branch"], release["outcome"]) == ("release/1.0", type(outcome).__name__)


def test_whoever_pushed_gets_file_line_and_column(api: Api, ends: Ends) -> None:
    ends.receipt = receipt({"main": Rejected(HEAD, Report((FINDING,), omitted=4))})
    report = api.post(PATH, data=b"{}").json["branches"][0]["report"]
    assert report["findings"] == [
        {
            "path": "x-runtime.yaml",
            "line": 3,
            "column": 7,
            "pointer": "/name",
            "rule": "schema",
            "severity": "error",
            "message": "expected a string",
        }
    ]
    assert (report["rejects"], report["count"], report["omitted"]) == (True, 5, 4)


@pytest.mark.parametrize("decision", Decision)
def test_every_decision_is_a_success_that_is_named(api: Api, ends: Ends, decision: Decision) -> None:
    ends.receipt = receipt(None, decision)
    response = api.post(PATH, data=b"{}")
    assert response.status_code == (202 if decision in (Decision.HEADS_CHECKED, Decision.MALFORMED) else 200)
    assert response.json["decision"] == decision
    assert UUID(response.json["delivery_id"])


def test_a_requested_branch_without_an_outcome_is_the_timers(api: Api, ends: Ends) -> None:
    ends.receipt = receipt({"main": unchanged()}, Decision.REQUESTED, "acc")
    response = api.post(PATH, data=b"{}")
    assert response.status_code == 202
    assert [branch["outcome"] for branch in response.json["branches"]] == [None, "Unchanged"]


def test_every_way_to_bring_the_key(pool: Pool, ends: Ends) -> None:
    api = Api(app_over(pool, ends), key=None)
    for headers, query in [
        (BASIC, ""),
        (bearer(HOOK_KEY), ""),
        ({"x-functions-key": HOOK_KEY}, ""),
        ({}, f"?code={HOOK_KEY}"),
    ]:
        assert api.post(PATH + query, headers=headers, data=b"{}").status_code == 200
    assert api.post(PATH + "/", headers=BASIC, data=b"{}").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic OmE="},
        bearer("x" * 40),
        bearer(READER_KEY),
        bearer(ADMIN_KEY),
        {"Authorization": "?"},
    ],
)
def test_who_is_not_the_hook_is_refused_before_the_body_is_read(
    pool: Pool, ends: Ends, headers: dict[str, str]
) -> None:
    response = post(app_over(pool, ends), Unread(), 100_000_000, headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert not ends.events


@pytest.mark.parametrize("announced", [100_000_000, 65_537, None])
def test_a_body_that_is_too_big_is_recorded_as_malformed(pool: Pool, ends: Ends, announced: int | None) -> None:
    ends.receipt = receipt(None, Decision.MALFORMED)
    body = Endless()
    response = post(app_over(pool, ends, limits=Limits(webhook_body=65_536)), body, announced)
    assert response.status_code == 202
    assert ends.events[0].event_type is None
    assert "65536" in str(ends.events[0].problem)
    assert body.taken == (65_537 if announced is None else 0)


def test_an_empty_body_is_recorded_too(api: Api, ends: Ends) -> None:
    assert api.post(PATH).status_code == 200
    assert len(ends.events) == 1


@pytest.mark.parametrize(
    ("error", "is_logged_as"),
    [
        (DatabaseUnavailable("The database did not answer.", hint="Start it."), "DatabaseUnavailable"),
        (SchemaOutdated("old"), "SchemaOutdated"),
        (SecretUnavailable("vault"), "SecretUnavailable"),
        (SourceFailed("Git"), "SourceFailed"),
        (KeyError("a bug with a password"), "KeyError"),
        (RecursionError(), "RecursionError"),
    ],
)
def test_what_could_not_be_recorded_is_asked_for_again(
    api: Api, ends: Ends, error: Exception, is_logged_as: str, caplog: pytest.LogCaptureFixture
) -> None:
    ends.receipt = error
    with caplog.at_level(logging.ERROR):
        response = api.post(PATH, data=b"{}", headers={"X-Correlation-Id": "call-1"})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert "password" not in response.text
    (record,) = caplog.records
    assert record.__dict__["correlation_id"] == "call-1"
    assert record.exc_info
    assert type(record.exc_info[1]).__name__ == is_logged_as


def test_a_body_that_comes_in_pieces_is_read_whole(pool: Pool, ends: Ends) -> None:
    class Pieces(BytesIO):
        def readinto(self, buffer: Any) -> int:
            return super().readinto(memoryview(buffer)[:3])

    assert post(app_over(pool, ends), Pieces(b"0123456789"), 10).status_code == 200
    assert ends.events[0].event_id == "0123456789"


@pytest.mark.parametrize("server", [{}, {"wsgi.input_terminated": True}])
def test_a_body_that_breaks_off_is_asked_for_again(pool: Pool, ends: Ends, server: dict[str, object]) -> None:
    response = post(app_over(pool, ends), BytesIO(b"{}"), 50, server=server)
    assert response.status_code == 503
    assert not ends.events


def test_a_key_while_none_is_configured_is_unavailable_and_no_key_is_not(pool: Pool, ends: Ends) -> None:
    api = Api(app_over(pool, ends, access=Access(Keys)), key=None)
    assert api.post(PATH, headers=BASIC).status_code == 503
    assert api.post(PATH).status_code == 401


def test_a_vault_that_does_not_answer_is_unavailable(pool: Pool, ends: Ends) -> None:
    def keys() -> Keys:
        raise SecretUnavailable("the vault is down")

    api = Api(app_over(pool, ends, access=Access(keys)), key=None)
    assert api.post(PATH, headers=BASIC).status_code == 503
    assert api.post(PATH).status_code == 401


def test_other_methods_are_not_the_webhook(api: Api) -> None:
    response = api.get(PATH)
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
