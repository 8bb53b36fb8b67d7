"""Failures as RFC 9457 problem documents. One table maps kinds to statuses; the webhook never uses it."""

import logging
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from shared.errors import InvalidRequest, Kind, RuntimeStoreError, SourceThrottled, Unavailable
from shared.web.call import Call
from shared.web.reply import Reply, respond
from shared.web.representations import redacted

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(NamedTuple):
    status: int
    title: str


PROBLEMS: Mapping[Kind, Problem] = {
    Kind.INVALID_REQUEST: Problem(400, "The request cannot be used"),
    Kind.UNAUTHENTICATED: Problem(401, "A valid key is needed"),
    Kind.FORBIDDEN: Problem(403, "The key does not grant this"),
    Kind.REPOSITORY_NOT_FOUND: Problem(404, "No such repository"),
    Kind.BRANCH_NOT_FOUND: Problem(404, "The branch is not served"),
    Kind.CONFIG_NOT_FOUND: Problem(404, "The branch has no such config"),
    Kind.NAME_TAKEN: Problem(409, "The name or id is taken"),
    Kind.SET_CHANGED: Problem(410, "The set changed between two pages"),
    Kind.REVISION_MOVED: Problem(412, "Somebody else changed it first"),
    Kind.TOO_LARGE: Problem(413, "The body is too large"),
    Kind.REJECTED: Problem(422, "The commit was rejected"),
    Kind.REVISION_REQUIRED: Problem(428, "The revision must be named"),
    Kind.INTERNAL: Problem(500, "Something is broken here"),
    Kind.SOURCE_FAILED: Problem(502, "Git did not answer as it should"),
    Kind.SOURCE_REFUSED: Problem(502, "Git refuses us"),
    Kind.SOURCE_THROTTLED: Problem(503, "Git is asked too often"),
    Kind.UNAVAILABLE: Problem(503, "A part of the service is down"),
}
NO_SUCH_ROUTE = "route-not-found"
WRONG_METHOD = "method-not-allowed"
PROBLEMS_OF_HTTP: Mapping[str, Problem] = {
    NO_SUCH_ROUTE: Problem(404, "No such route"),
    WRONG_METHOD: Problem(405, "The route does not have this method"),
}


class Detailed(Exception):
    """An error with more to say in its problem document than a sentence: `members` and `headers` are added to it."""

    def __init__(
        self, error: RuntimeStoreError, members: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.members = members
        self.headers = headers or {}


def answer(call: Call, error: Exception) -> Reply:
    """The problem document of any exception. What nobody foresaw is logged, and not shown."""
    if isinstance(error, Detailed):
        response = of_error(call, error.error, error.members)
        response.headers.update(error.headers)
        return response
    if isinstance(error, RuntimeStoreError) and error.kind is not Kind.INTERNAL:
        if PROBLEMS[error.kind].status >= 500:
            told = {"kind": error.kind, "detail": redacted(error.message), "correlation_id": call.correlation_id}
            _log.warning("A request could not be served", extra=told)
        return of_error(call, error, {})
    if isinstance(error, NotFound):
        detail = f"Nothing is at {redacted(call.path)!r}; /openapi.json lists the routes."
        return document(call, NO_SUCH_ROUTE, PROBLEMS_OF_HTTP[NO_SUCH_ROUTE], {"detail": detail})
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        detail = f"{redacted(call.path)} does not have {call.method}, only {allowed}."
        response = document(call, WRONG_METHOD, PROBLEMS_OF_HTTP[WRONG_METHOD], {"detail": detail})
        response.headers["Allow"] = allowed
        return response
    if isinstance(error, HTTPException) and (error.code or 500) < 500:
        return of_error(call, InvalidRequest(error.description or str(error), field="request"), {})
    _log.error("A request failed", extra={"correlation_id": call.correlation_id}, exc_info=error)
    detail = "The logs have the details under the correlation id."
    return document(call, Kind.INTERNAL, PROBLEMS[Kind.INTERNAL], {"detail": detail})


def of_error(call: Call, error: RuntimeStoreError, members: Mapping[str, Any]) -> Reply:
    response = document(call, error.kind, PROBLEMS[error.kind], {**described(error), **members})
    if error.kind is Kind.UNAUTHENTICATED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="runtime-store", Basic realm="runtime-store"'
    if (wait := retry_after(error)) is not None:
        response.headers["Retry-After"] = seconds(wait)
    return response


def described(error: RuntimeStoreError) -> dict[str, str]:
    """What the error says to the person who can act."""
    members = {"detail": redacted(error.message)}
    if error.hint:
        members["hint"] = error.hint
    if isinstance(error, InvalidRequest):
        members["field"] = error.field
    return members


def document(call: Call, kind: str, problem: Problem, members: Mapping[str, Any]) -> Reply:
    body = {
        "type": f"urn:runtime-store:problem:{kind}",
        "title": problem.title,
        "status": problem.status,
        "kind": kind,
        "correlation_id": call.correlation_id,
        **members,
    }
    return respond(body, problem.status, MEDIA_TYPE)


def retry_after(error: RuntimeStoreError) -> timedelta | None:
    return error.retry_after if isinstance(error, SourceThrottled | Unavailable) else None


def seconds(wait: timedelta) -> str:
    """A Retry-After in whole seconds, one at least."""
    return str(max(1, math.ceil(wait.total_seconds())))
