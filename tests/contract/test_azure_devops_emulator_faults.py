"""Everything that the emulated organisation does wrong on command."""

import hashlib
import io
import json
import time
import zipfile
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, IncompleteRead, RemoteDisconnected
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator, Fault, HostedRepository


@dataclass
class Got:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
def orders(emulator: Emulator) -> HostedRepository:
    orders = emulator.repository("etl", "orders")
    orders.git.commit({"a.yaml": "a: 1\n", "b.yaml": "b: 1\n"})
    orders.git.set_head("release", orders.git.head("main"))
    emulator.pushed(orders)
    return orders


def ask(
    emulator: Emulator, path: str, body: object = None, *, timeout: float = 10, accept: str = "application/json"
) -> Got:
    connection = HTTPConnection("127.0.0.1", emulator.port, timeout=timeout)
    headers = {"Authorization": EMULATOR_AUTHORIZATION, "Accept": f"{accept};api-version=7.1"}
    try:
        connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
        with connection.getresponse() as response:
            return Got(response.status, response.headers, response.read())
    finally:
        connection.close()


def refs(emulator: Emulator, repository: HostedRepository, *, timeout: float = 10) -> Got:
    path = f"/contoso/_apis/git/repositories/{repository.id}/refs?filter=heads/"
    return ask(emulator, path, timeout=timeout)


def blobs(emulator: Emulator, repository: HostedRepository) -> Got:
    commit = repository.git.head("main")
    ids = [repository.git.blob_id(commit, path) for path in ("a.yaml", "b.yaml")]
    path = f"/contoso/_apis/git/repositories/{repository.id}/blobs"
    return ask(emulator, path, ids, accept="application/zip")


def test_without_a_fault_everything_is_right(emulator: Emulator, orders: HostedRepository) -> None:
    assert refs(emulator, orders).json["count"] == 2
    archive = zipfile.ZipFile(io.BytesIO(blobs(emulator, orders).body))
    assert [_git_id(archive.read(name)) for name in archive.namelist()] == archive.namelist()


@pytest.mark.parametrize(
    ("fault", "status", "media_type"),
    [
        (Fault.SIGN_IN, 203, "text/html"),
        (Fault.REDIRECT, 302, "text/html"),
        (Fault.HTML, 200, "text/html"),
        (Fault.NOT_FOUND, 404, "application/json"),
        (Fault.FORBIDDEN, 403, "application/json"),
        (Fault.UNAUTHORIZED, 401, "application/json"),
        (Fault.THROTTLED, 429, "application/json"),
        (Fault.ERROR, 500, "application/json"),
    ],
)
def test_an_answer_is_another_one(
    emulator: Emulator, orders: HostedRepository, fault: Fault, status: int, media_type: str
) -> None:
    emulator.misbehave(fault)
    got = refs(emulator, orders)
    assert (got.status, got.headers.get_content_type()) == (status, media_type)
    assert [(call.status, call.fault) for call in emulator.calls] == [(status, fault)]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.NOT_FOUND, "TF401019"),
        (Fault.FORBIDDEN, "TF401027"),
        (Fault.UNAUTHORIZED, "TF400813"),
        (Fault.THROTTLED, "TF400733"),
    ],
)
def test_an_error_names_its_code(emulator: Emulator, orders: HostedRepository, fault: Fault, code: str) -> None:
    emulator.misbehave(fault)
    assert refs(emulator, orders).json["message"].startswith(f"{code}: ")


def test_a_redirect_ends_at_a_page_to_sign_in(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.REDIRECT)
    got = ask(emulator, refs(emulator, orders).headers["Location"])
    assert (got.status, got.headers.get_content_type()) == (200, "text/html")


@pytest.mark.parametrize("status", [502, 503])
def test_the_services_front_answers_with_a_page(emulator: Emulator, orders: HostedRepository, status: int) -> None:
    emulator.misbehave(Fault.ERROR, status=status)
    got = refs(emulator, orders)
    assert (got.status, got.headers.get_content_type()) == (status, "text/html")


@pytest.mark.parametrize("seconds", [7, None])
def test_being_throttled_says_for_how_long_or_does_not(
    emulator: Emulator, orders: HostedRepository, seconds: int | None
) -> None:
    for fault, status in ((Fault.THROTTLED, 429), (Fault.SLOW_DOWN, 200)):
        emulator.behave()
        emulator.misbehave(fault, retry_after=seconds)
        got = refs(emulator, orders)
        assert got.status == status
        assert got.headers["Retry-After"] == (None if seconds is None else "7")
        assert got.headers["X-RateLimit-Remaining"] == "0"
        assert int(got.headers["X-RateLimit-Reset"]) > time.time() + 5
    assert got.json["count"] == 2


def test_a_body_is_cut_off(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.CUT)
    with pytest.raises(IncompleteRead):
        refs(emulator, orders)
    with pytest.raises(IncompleteRead):
        blobs(emulator, orders)


def test_a_body_is_cut_off_without_a_sign_of_it(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.CUT, framed=True)
    got = blobs(emulator, orders)
    assert got.status == 200
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(got.body))


def test_bytes_of_blobs_are_wrong(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.WRONG_BYTES)
    archive = zipfile.ZipFile(io.BytesIO(blobs(emulator, orders).body))
    assert len(archive.namelist()) == 2
    assert all(_git_id(archive.read(name)) != name for name in archive.namelist())
    blob_id = archive.namelist()[0]
    one = ask(emulator, f"/contoso/_apis/git/repositories/{orders.id}/blobs/{blob_id}", accept="text/plain")
    assert _git_id(one.body) != blob_id


def test_lists_lack_their_last_element(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.PARTIAL)
    assert [ref["name"] for ref in refs(emulator, orders).json["value"]] == ["refs/heads/main"]
    assert len(zipfile.ZipFile(io.BytesIO(blobs(emulator, orders).body)).namelist()) == 1
    tree = orders.git.tree_id(orders.git.head("main"))
    got = ask(emulator, f"/contoso/_apis/git/repositories/{orders.id}/trees/{tree}")
    assert [entry["relativePath"] for entry in got.json["treeEntries"]] == ["a.yaml"]


@pytest.mark.parametrize("is_noticed", [True, False])
def test_refs_are_those_before_the_last_push(emulator: Emulator, orders: HostedRepository, is_noticed: bool) -> None:
    before = orders.git.head("main")
    after = orders.git.commit({"a.yaml": "a: 2\n"})
    if is_noticed:
        emulator.pushed(orders)
    emulator.misbehave(Fault.STALE, times=1)
    heads = [refs(emulator, orders).json["value"][0]["objectId"] for _ in range(2)]
    assert heads == [before, after]


def test_an_answer_is_slow(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.SLOW, seconds=0.2)
    started = time.perf_counter()
    with pytest.raises(TimeoutError):
        refs(emulator, orders, timeout=0.1)
    assert refs(emulator, orders).json["count"] == 2
    assert time.perf_counter() - started >= 0.3


def test_a_body_drips_so_that_no_read_ever_times_out(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.SLOW, seconds=0.4, drip=True)
    started = time.perf_counter()
    assert refs(emulator, orders, timeout=0.2).json["count"] == 2
    assert time.perf_counter() - started >= 0.4


def test_a_request_hangs_until_it_is_let_go(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.HANG)
    with pytest.raises(TimeoutError):
        refs(emulator, orders, timeout=0.05)
    ended: list[type[Exception]] = []
    waiting = Thread(target=lambda: ended.append(_failure(emulator, orders)))
    waiting.start()
    emulator.wait_for_calls(2)
    emulator.behave()
    waiting.join()
    assert ended == [RemoteDisconnected]
    assert [call.status for call in emulator.calls] == [0, 0]
    assert refs(emulator, orders).status == 200


def _failure(emulator: Emulator, repository: HostedRepository) -> type[Exception]:
    try:
        refs(emulator, repository)
    except (OSError, HTTPException) as error:
        return type(error)
    raise AssertionError("it was answered")


def test_requests_that_hang_do_not_outlive_the_emulator(tmp_path: Path) -> None:
    with Emulator(tmp_path) as emulator:
        emulator.misbehave(Fault.HANG)
        with pytest.raises(TimeoutError):
            ask(emulator, "/contoso/_apis/projects", timeout=0.05)
        started = time.perf_counter()
    assert time.perf_counter() - started < 10


def test_a_connection_is_reset(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.RESET)
    with pytest.raises(ConnectionResetError):
        refs(emulator, orders)


def test_a_fault_is_of_some_routes_so_many_times(emulator: Emulator, orders: HostedRepository) -> None:
    emulator.misbehave(Fault.ERROR, route="blobs", times=2)
    assert refs(emulator, orders).status == 200
    assert [blobs(emulator, orders).status for _ in range(3)] == [500, 500, 200]
    emulator.misbehave(Fault.FORBIDDEN, route=("refs", "tree"), times=1)
    emulator.misbehave(Fault.THROTTLED, route="refs")
    assert [refs(emulator, orders).status for _ in range(3)] == [403, 429, 429]
    emulator.behave()
    assert refs(emulator, orders).status == 200


def test_a_fault_is_of_one_repository(emulator: Emulator, orders: HostedRepository) -> None:
    other = emulator.repository("etl", "sales")
    emulator.misbehave(Fault.NOT_FOUND, repository=orders)
    assert refs(emulator, orders).status == 404
    assert refs(emulator, other).status == 200


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
