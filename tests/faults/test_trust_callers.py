"""What a caller may do before it has proved who it is: nothing."""

import gzip
import io
import json
import re
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any
from uuid import UUID

import pytest
from support.processes import started
from support.web import ADMIN_KEY, DOCUMENT, HOOK_KEY, KEYS, READER_KEY, Ends, Store, app_over, bearer
from werkzeug.test import Client, TestResponse

from shared.model import Decision, Delivery, Event, Receipt
from shared.postgres.pool import Pool
from shared.web.access import Access, Keys
from shared.web.app import App, create_app
from shared.web.services import Limits, Services

OPERATIONS = [
    (method.upper(), path.format(repository="team", branch="main", filepath="x-runtime.yaml"), operation["security"])
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
GUARDED = [(method, path) for method, path, security in OPERATIONS if security and {} not in security]
GUARDED += [("HEAD", path) for method, path in GUARDED if method == "GET"]
WITH_BODY = ["PUT /repositories/team", "POST /repositories/team/sync", "POST /webhooks/azure-devops"]


class Untouched:
    """A part of the app that must not be asked for anything."""

    def __init__(self, touched: list[str], name: str) -> None:
        self._touched, self._part = touched, name

    def __getattr__(self, name: str) -> Any:
        def touch(*_: object, **__: object) -> Any:
            self._touched.append(f"{self._part}.{name}")
            raise AssertionError(self._touched)

        return touch


class Unread(io.RawIOBase):
    """A body that says when it is read, and never ends."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = b" " * len(buffer)
        self.read_bytes += len(buffer)
        return len(buffer)


def untouched(keys: Keys = KEYS) -> tuple[App, list[str]]:
    touched: list[str] = []
    parts = {part.name: Untouched(touched, part.name) for part in fields(Services)}
    parts["decode"] = parts["decode"].read
    return create_app(Services(**parts), Access(lambda: keys)), touched  # type: ignore[arg-type]


def send(
    app: Any, method: str, path: str, body: Unread, headers: Mapping[str, str], length: int | None
) -> TestResponse:
    sized = {"CONTENT_LENGTH": str(length)} if length is not None else {"wsgi.input_terminated": True}
    return Client(app).open(path, method=method, headers=headers, environ_overrides={**sized, "wsgi.input": body})


# -- Before anything else --------------------------------------------------------------------------------------------


def test_all_but_three_routes_want_a_key() -> None:
    open_to_all = {path for _, path, security in OPERATIONS if not security or {} in security}
    assert open_to_all == {"/livez", "/health", "/openapi.json"}
    assert len(GUARDED) > 12


@pytest.mark.parametrize("length", [100 * 1024 * 1024, 10, None])
@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nothing_is_read_or_looked_up_for_who_is_not_known(method: str, path: str, length: int | None) -> None:
    app, touched = untouched()
    for headers in ({}, bearer("w" * 40), {"Authorization": "Basic %%%"}, {"x-functions-key": ""}):
        body = Unread()
        answer = send(app, method, f"{path}?branch=main&limit=none&cursor=x&seconds=x", body, headers, length)
        assert (answer.status_code, touched, body.read_bytes) == (401, [], 0)
        assert "WWW-Authenticate" in answer.headers
        assert not {"team", "main"} & set(re.findall(r"\w+", answer.text)), "nothing is said about what is there"


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nothing_is_read_or_looked_up_for_who_may_not(method: str, path: str) -> None:
    app, touched = untouched()
    roles = {route.role for route in app.routes if route.method == method.replace("HEAD", "GET")}
    assert roles
    refused = 0
    for key in (HOOK_KEY, READER_KEY):
        body = Unread()
        answer = send(app, method, path, body, bearer(key), 100 * 1024 * 1024)
        if answer.status_code in (401, 403):
            assert (touched, body.read_bytes) == ([], 0)
            refused += 1
        touched.clear()
    assert refused >= 1


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_keys_everything_is_closed(method: str, path: str) -> None:
    app, touched = untouched(Keys())
    for headers, status in (({}, 401), (bearer("w" * 40), 503)):
        body = Unread()
        assert send(app, method, path, body, headers, 10).status_code == status
        assert (touched, body.read_bytes) == ([], 0)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_what_is_no_route_touches_nothing(method: str) -> None:
    app, touched = untouched()
    for path in ("/", "/admin", "/webhooks", "/webhooks/azure-devops/x", "/../livez", "/.git/config", "/livez/../x"):
        body = Unread()
        answer = send(app, method, path, body, bearer(ADMIN_KEY), 10)
        assert (answer.status_code, touched, body.read_bytes) == (404, [], 0)


# -- Bodies ----------------------------------------------------------------------------------------------------------


def received() -> Ends:
    return Ends(receipt=Receipt(Delivery(UUID(int=1), Decision.MALFORMED, Event(event_type=None)), {}))


@pytest.mark.parametrize("operation", WITH_BODY)
@pytest.mark.parametrize("length", [10**9, None])
def test_a_body_has_a_limit_for_those_who_are_known_too(pool: Pool, operation: str, length: int | None) -> None:
    limits = Limits(webhook_body=70_000, request_body=60_000)
    Store(pool).register()
    app = app_over(pool, received(), limits=limits)
    method, path = operation.split()
    body = Unread()
    key = HOOK_KEY if "hook" in path else ADMIN_KEY
    answer = send(app, method, path.replace("team", "278d5cd2-584d-4b63-824a-2ba458937249"), body, bearer(key), length)
    assert answer.status_code == (202 if "hook" in path else 413)
    assert body.read_bytes <= (0 if length else 140_000)


@pytest.mark.parametrize("operation", WITH_BODY)
def test_a_packed_body_is_not_unpacked(pool: Pool, operation: str) -> None:
    """A thousand times smaller than what is in it."""
    Store(pool).register()
    body = gzip.compress(json.dumps({"name": "x", "source": " " * 10_000_000}).encode())
    method, path = operation.split()
    ends = received()
    ends.decode = lambda body: Event("git.push", problem=str(len(body)))  # type: ignore[method-assign]
    headers = {**bearer(HOOK_KEY if "hook" in path else ADMIN_KEY), "Content-Encoding": "gzip"}
    answer = Client(app_over(pool, ends)).open(path, method=method, headers=headers, data=body)
    assert answer.status_code == (202 if "hook" in path else 400)
    assert [event.problem for event in ends.events] == ([str(len(body))] if "hook" in path else [])


@contextmanager
def connected(url: str, head: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        yield connection


def test_a_server_of_ones_own_takes_no_body_that_is_far_too_large_and_waits_for_none_that_is_slow(
    database: str,
) -> None:
    """It has to take a body before the app can ask whose it is: up to a limit, and beside all others."""
    environment = {"DATABASE_URL": database, "WEBHOOK_MAX_BYTES": "65536", "WEBHOOK_SECRET": HOOK_KEY}
    post = "POST /webhooks/azure-devops HTTP/1.1\nHost: x\n"
    with started("shared", "serve", "--port", "0", "--threads", "1", "--no-timer", environment=environment) as server:
        url = server.says(r"Runtime Store is at (http://\S+)")
        with connected(url, f"{post}Content-Length: {100 * 1024 * 1024}\n\n") as large:
            assert b" 413 " in large.recv(100), "before any of it was sent"
        # It hangs up on who goes on sending.
        with suppress(OSError), connected(url, f"{post}Transfer-Encoding: chunked\n\n") as endless:
            for _ in range(1000):
                endless.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
            raise AssertionError("it took 16 MB")
        with connected(url, f"{post}Content-Length: 1000\n\nslowly"), connected(url, f"{post}Content-Length: 9\n\n"):
            with connected(url, "GET /livez HTTP/1.1\nHost: x\nConnection: close\n\n") as other:
                assert b" 200 OK" in other.recv(100)
            with connected(url, f"{post}Content-Length: 2\nConnection: close\n\n{{}}") as unknown:
                assert b" 401 " in unknown.recv(100)
        assert server.ends(signal.SIGTERM) == 0
