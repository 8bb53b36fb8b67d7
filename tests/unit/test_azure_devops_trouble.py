"""What single answers mean: the cases that are rare, or that a server on this machine cannot make."""

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from urllib3 import HTTPHeaderDict, exceptions

from shared.azure_devops.trouble import NotFound, Reply, pause, trouble, unreached, wish
from shared.errors import RepositoryRefused, SourceError, SourceFailed, SourceRefused, SourceThrottled

HOST = "dev.azure.com"
ORGANIZATION = f"https://{HOST}/contoso/_apis"
REPOSITORY = f"{ORGANIZATION}/git/repositories/b33bf810-4b0a-5a75-b837-f4af5f454b48/refs"


def judged(
    status: int,
    body: object = b"",
    kind: str = "application/json; charset=utf-8",
    *,
    url: str = REPOSITORY,
    **named: str,
) -> SourceError | None:
    headers = HTTPHeaderDict({"Content-Type": kind, **{name.replace("_", "-"): value for name, value in named.items()}})
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return trouble(Reply(status, headers, content), HOST, url, download=False)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"[]", "application/json;api-version=7.1"),
        (200, b"", ""),
        (201, b"{}", "application/json"),
        (204, b"", "text/html"),
    ],
)
def test_an_answer_is_json_or_has_no_body(status: int, body: bytes, kind: str) -> None:
    assert judged(status, body, kind) is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "headers"),
    [
        (429, b"", "text/plain", {}),
        (203, b"<html>", "text/html", {"retry_after": "5"}),
        (302, b"", "text/html", {"retry_after": "5"}),
        (200, b"<html>", "text/html", {"retry_after": "5"}),
        (203, b"<html>TF400733: The request has been canceled", "text/html", {}),
        (503, b"", "text/plain", {"retry_after": "5"}),
        (500, {"message": "TF400733: The request has been canceled"}, "application/json", {}),
        (401, {"message": "TF400733: The request has been canceled"}, "application/json", {}),
    ],
)
def test_a_throttle_page_is_no_sign_in_page(status: int, body: object, kind: str, headers: dict[str, str]) -> None:
    assert isinstance(judged(status, body, kind, **headers), SourceThrottled)


@pytest.mark.parametrize("status", [400, 404, 409])
def test_a_slow_down_on_another_error_leaves_it_what_it_is(status: int) -> None:
    assert isinstance(judged(status, {"message": "TF401175: no"}, retry_after="5"), SourceFailed)


def test_text_where_json_was_asked_for_comes_from_somebody_else() -> None:
    assert isinstance(judged(200, b"Welcome to our hotel", "text/plain"), SourceRefused)


@pytest.mark.parametrize(
    ("url", "expected"), [(REPOSITORY, RepositoryRefused), (f"{ORGANIZATION}/hooks/subscriptions", SourceRefused)]
)
def test_forbidden_is_the_repository_or_all(url: str, expected: type[SourceError]) -> None:
    assert type(judged(403, {"message": "TF401027: You need"}, url=url)) is expected


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ({"message": "TF401019: The Git repository"}, "application/json", RepositoryRefused),
        ({"message": "TF401175: The version"}, "application/json", NotFound),
        ({"count": 1, "value": {"Message": "No HTTP resource"}}, "application/json", NotFound),
        (b"<html>404", "text/html", SourceFailed),
        (b"", "", SourceFailed),
    ],
)
def test_only_the_service_itself_can_say_that_something_is_not_there(
    body: object, kind: str, expected: type[SourceError]
) -> None:
    assert type(judged(404, body, kind)) is expected


def test_messages_are_short_clean_and_without_credentials() -> None:
    message = "VS403403: \x1b[31mBad\r\nnews\u202e from https://user:secret@dev.azure.com/x, " + "x" * 1000
    error = judged(400, {"message": message})
    assert error is not None
    assert error.message.startswith(
        "dev.azure.com answered 400: VS403403:  [31mBad  news  from https://***@dev.azure.com/x, xxx"
    )
    assert len(error.message) < 350


@pytest.mark.parametrize("body", [b"\xff{", b"[1]", b'"TF1"', b'{"message": 3}', b"[" * 100_000, b'{"value": null}'])
def test_a_body_that_is_no_message_is_not_quoted(body: bytes) -> None:
    error = judged(400, body)
    assert error is not None
    assert error.message == "dev.azure.com answered 400"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17),
        ({"retry-after": " 17 "}, 17),
        ({"Retry-After": "99999999999999999999"}, 3600),
        ({"Retry-After": "-5"}, 60),
        ({"Retry-After": "soon"}, 60),
        ({"Retry-After": "²"}, 60),
        ({"X-RateLimit-Reset": "nan"}, 60),
        ({}, 60),
    ],
)
def test_a_pause_is_what_the_organization_says_within_reason(headers: dict[str, str], seconds: float) -> None:
    assert pause(HTTPHeaderDict(headers)) == timedelta(seconds=seconds)


def test_a_pause_may_be_told_as_a_moment() -> None:
    def until(moment: datetime) -> float:
        return pause(HTTPHeaderDict({"Retry-After": format_datetime(moment, usegmt=True)})).total_seconds()

    now = datetime.now(UTC)
    assert 85 < until(now + timedelta(seconds=90)) <= 90
    assert until(now - timedelta(days=1)) == 0
    assert until(now + timedelta(days=1)) == 3600
    assert 85 < pause(HTTPHeaderDict({"X-RateLimit-Reset": str(time.time() + 90)})).total_seconds() <= 90


def test_a_wish_is_only_what_is_asked_for() -> None:
    assert wish(HTTPHeaderDict({"X-RateLimit-Remaining": "12", "X-RateLimit-Reset": "1"})) is None
    assert wish(HTTPHeaderDict({"Retry-After": "0"})) is None
    assert wish(HTTPHeaderDict({"X-RateLimit-Remaining": "0"})) == timedelta(minutes=1)


def test_a_name_that_nobody_knows_is_told_as_such() -> None:
    error = exceptions.NameResolutionError(HOST, None, OSError("Name or service not known"))  # type: ignore[arg-type]
    assert unreached(HOST, error, 0.1).message == "The name dev.azure.com is not known"
