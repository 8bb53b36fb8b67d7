"""What other systems lost between a push and its sync: no delivery is lost, and none is believed."""

import json
import signal
from io import SEEK_END, SEEK_SET, RawIOBase
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psycopg
import pytest
from emulators.azure_devops import HostedRepository
from support.contoso import HOOK, A, Contoso, event, whole_app
from support.postgres import Server
from support.processes import SECONDS, eventually, started
from support.stores import Store
from support.stores import started as begun
from support.web import HOOK_KEY, Api, bearer
from support.world import workflow

SERVING = r"Runtime Store is at (http://\S+)"


def test_a_push_whose_worker_was_killed_before_the_commit_is_synced_by_the_next_trigger(
    contoso: Contoso, hosted: HostedRepository, store: Store
) -> None:
    old, new = hosted.git.head("main"), hosted.git.commit({A: workflow(2)})
    body = json.dumps(event(hosted, old, new)).encode()
    with started("shared", "serve", "--port", "0", "--no-timer", environment=contoso.environ) as worker:
        request = Request(f"{worker.says(SERVING)}{HOOK}", body, bearer(HOOK_KEY))  # noqa: S310
        with store.transaction() as execute:
            execute("LOCK TABLE runtime_configs IN SHARE MODE")
            answer = begun(lambda: urlopen(request, timeout=60))  # noqa: S310
            store.wait_for_lock()
            worker.ends(signal.SIGKILL)
            # The server has not seen yet that its client is gone.
            store.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        assert isinstance(answer.exception(20), URLError | ConnectionError)
    assert contoso.served() == {A: "workflow-1"}
    store.expire_leases()
    contoso.let_pauses_end()
    contoso.app.sweep()
    assert contoso.served() == {A: "workflow-2"}


def test_a_push_during_a_sync_is_served_without_another_trigger(
    contoso: Contoso, hosted: HostedRepository, store: Store
) -> None:
    contoso.subscribe()
    emulator = contoso.emulator
    with store.transaction() as execute:
        execute("LOCK TABLE runtime_configs IN SHARE MODE")
        hosted.git.commit({A: workflow(2)})
        emulator.pushed(hosted)
        store.wait_for_lock()
        hosted.git.commit({A: workflow(3)})
        emulator.pushed(hosted)
        emulator.wait_until(lambda: [one.status for one in emulator.deliveries] == [202], SECONDS)
    assert [one.status for one in emulator.delivered(SECONDS)] == [202, 200]
    assert contoso.served() == {A: "workflow-3"}


def test_every_branch_of_one_push_is_synced(contoso: Contoso) -> None:
    branches = ["main", "dev", "release/1.0"]
    hosted = contoso.repository(branches=branches)
    contoso.sweep()
    contoso.subscribe()
    for number, branch in enumerate(branches):
        hosted.git.commit({A: workflow(number)}, branch=branch)
    assert contoso.push(hosted) == 200
    assert len(contoso.emulator.deliveries) == 1
    assert [contoso.served(branch=branch) for branch in branches] == [{A: f"workflow-{number}"} for number in range(3)]


def test_an_authentic_caller_is_never_refused_whatever_it_sends(contoso: Contoso, hosted: HostedRepository) -> None:
    resource = event(hosted, "0" * 40, "1" * 40)["resource"]
    without = {name: value for name, value in resource.items() if name != "refUpdates"}
    strange: list[Any] = [
        None,
        [],
        {},
        "refs/heads/main",
        7,
        [None],
        [[]],
        [{}],
        [{"name": None}],
        [{"name": "refs/heads/main"}],
    ]
    resources: list[Any] = [without, *({**resource, "refUpdates": one} for one in strange)]
    resources += [None, {}, [], "x", {"url": f"{contoso.emulator.url}/_apis/git/repositories/{hosted.id}/pushes/2"}]
    bodies = [json.dumps({"eventType": "git.push", "resource": one}).encode() for one in resources]
    bodies += [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"' + b"x" * 1000, b"[" * 100_000, b'{"eventType": 1e999}']
    answers = {body[:200]: contoso.hook.post(HOOK, data=body).status_code for body in bodies}
    assert {body: status for body, status in answers.items() if status not in (200, 202)} == {}


class Unread(RawIOBase):
    """A body of 100 MB that nobody may ask for."""

    def __init__(self) -> None:
        self._at = 0

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._at = 100_000_000 if whence == SEEK_END else offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise AssertionError("the body was read")


@pytest.mark.parametrize("key", [None, "x" * 40])
def test_a_body_of_a_stranger_is_not_read(contoso: Contoso, key: str | None) -> None:
    stranger = Api(contoso.app.wsgi, key)
    assert stranger.post(HOOK, input_stream=Unread()).status_code == 401


def test_a_delivery_that_cannot_be_recorded_is_a_503_and_its_repetition_is_served(
    own_database: str, postgres_server: Server, tmp_path: Path
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(own_database)["dbname"]
    with (
        whole_app(own_database, tmp_path) as contoso,
        psycopg.connect(postgres_server.conninfo, autocommit=True) as admin,
    ):
        hosted = contoso.repository()
        contoso.sweep()
        old, new = hosted.git.head("main"), hosted.git.commit({A: workflow(2)})
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        answer = contoso.deliver(hosted, old, new)
        assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        eventually(lambda: contoso.deliver(hosted, old, new).status_code == 200, "an answer that all is done")
        assert contoso.served() == {A: "workflow-2"}


@pytest.mark.parametrize("late_id", [4, None])
def test_a_push_that_is_delivered_after_a_newer_one_changes_nothing(
    contoso: Contoso, hosted: HostedRepository, late_id: int | None
) -> None:
    third = hosted.git.head("main")
    fourth, fifth = hosted.git.commit({A: workflow(4)}), hosted.git.commit({A: workflow(5)})
    newer: Any = contoso.deliver(hosted, fourth, fifth, push_id=5).json
    assert newer["branches"][0]["outcome"] == "Replaced"
    before = contoso.api.get("/runtimes/orders/main")
    late: Any = contoso.deliver(hosted, third, fourth, push_id=late_id).json
    after = contoso.api.get("/runtimes/orders/main")
    assert late["branches"][0]["outcome"] == "Unchanged"
    assert (after.data, after.headers["ETag"]) == (before.data, before.headers["ETag"])
    assert contoso.served() == {A: "workflow-5"}


def test_a_hook_that_is_silent_for_a_day_loses_nothing_and_shows(contoso: Contoso, hosted: HostedRepository) -> None:
    contoso.subscribe(password="a password from before the rotation, long enough")
    assert contoso.push(hosted, {A: workflow(2)}) == 401
    hosted.git.commit({A: workflow(3)})
    contoso.emulator.pushed(hosted)
    assert len(contoso.emulator.lost) == 1
    contoso.sweep()
    assert contoso.served() == {A: "workflow-3"}
    contoso.execute("UPDATE unannounced SET seen_at = seen_at - interval '1 day'")
    health: Any = contoso.api.get("/health").json
    assert health["missed"] == 1
