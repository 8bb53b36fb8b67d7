"""Failures as problem documents."""

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound
from werkzeug.test import EnvironBuilder

from shared import errors
from shared.errors import Kind, RuntimeStoreError
from shared.web import problems
from shared.web.call import Call

SECONDS = timedelta(seconds=1.2)


def call() -> Call:
    environ = EnvironBuilder("/runtimes/team", headers={"X-Correlation-Id": "abc-1"}, query_string="code=secret")
    return Call(environ.get_environ())


def told(error: Exception) -> tuple[Any, Any]:
    reply = problems.answer(call(), error)
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["Cache-Control"] == "no-store"
    assert b"secret" not in reply.body
    document = json.loads(reply.body)
    assert document["status"] == reply.status
    assert document["type"] == f"urn:runtime-store:problem:{document['kind']}"
    assert document["correlation_id"] == "abc-1"
    return reply, document


def every_error() -> list[RuntimeStoreError]:
    made: list[RuntimeStoreError] = []
    todo = [RuntimeStoreError]
    while todo:
        kind = todo.pop()
        todo.extend(kind.__subclasses__())
        if kind is errors.InvalidRequest:
            made.append(errors.InvalidRequest("words", field="limit", hint="do"))
        elif kind is errors.SourceThrottled:
            made.append(errors.SourceThrottled("words", retry_after=SECONDS, hint="do"))
        elif kind is errors.SettingsInvalid:
            made.append(errors.SettingsInvalid(["words"]))
        elif kind is errors.DocumentRefused:
            made.append(errors.DocumentRefused("words"))
        else:
            made.append(kind("words", hint="do"))
    return made


def test_every_kind_has_its_status() -> None:
    assert {kind: problem.status for kind, problem in problems.PROBLEMS.items()} == {
        Kind.INVALID_REQUEST: 400,
        Kind.UNAUTHENTICATED: 401,
        Kind.FORBIDDEN: 403,
        Kind.REPOSITORY_NOT_FOUND: 404,
        Kind.BRANCH_NOT_FOUND: 404,
        Kind.CONFIG_NOT_FOUND: 404,
        Kind.NAME_TAKEN: 409,
        Kind.SET_CHANGED: 410,
        Kind.REVISION_MOVED: 412,
        Kind.TOO_LARGE: 413,
        Kind.REJECTED: 422,
        Kind.REVISION_REQUIRED: 428,
        Kind.INTERNAL: 500,
        Kind.SOURCE_FAILED: 502,
        Kind.SOURCE_REFUSED: 502,
        Kind.SOURCE_THROTTLED: 503,
        Kind.UNAVAILABLE: 503,
    }
    assert set(problems.PROBLEMS) == set(Kind)


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_an_error_is_told_with_its_status_and_its_words(error: RuntimeStoreError) -> None:
    reply, document = told(error)
    assert reply.status == problems.PROBLEMS[error.kind].status
    assert document["kind"] == error.kind
    assert ("Retry-After" in reply.headers) == (reply.status == 503)
    assert ("WWW-Authenticate" in reply.headers) == (reply.status == 401)
    if error.kind is Kind.INTERNAL:
        assert "words" not in reply.body.decode()
    else:
        assert (document["detail"], document["hint"]) == ("words", "do")


def test_an_invalid_request_names_its_field() -> None:
    _, document = told(errors.InvalidRequest("words", field="branches[2]"))
    assert document["field"] == "branches[2]"
    assert "hint" not in document


@pytest.mark.parametrize(("wait", "header"), [(0, "1"), (0.2, "1"), (1.2, "2"), (60, "60")])
def test_a_wait_is_told_in_whole_seconds(wait: float, header: str) -> None:
    reply, _ = told(errors.SourceThrottled("words", retry_after=timedelta(seconds=wait)))
    assert reply.headers["Retry-After"] == header


def test_what_nobody_foresaw_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        reply, document = told(KeyError("a password"))
    assert (reply.status, document["kind"]) == (500, "internal")
    assert "password" not in reply.body.decode()
    (record,) = caplog.records
    assert record.__dict__["correlation_id"] == "abc-1"
    assert record.exc_info


def test_routes_and_methods_that_are_not_there() -> None:
    reply, document = told(NotFound())
    assert (reply.status, document["kind"]) == (404, "route-not-found")
    reply, document = told(MethodNotAllowed(["PUT", "GET"]))
    assert (reply.status, document["kind"], reply.headers["Allow"]) == (405, "method-not-allowed", "GET, PUT")
    reply, document = told(BadRequest("cut off"))
    assert (reply.status, document["kind"]) == (400, "invalid-request")


def test_more_can_be_told_than_a_sentence() -> None:
    detailed = problems.Detailed(errors.SetChanged("words"), {"first": "/x"}, {"Link": "</x>"})
    reply, document = told(detailed)
    assert (reply.status, document["first"], reply.headers["Link"]) == (410, "/x", "</x>")
