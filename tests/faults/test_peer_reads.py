"""What readers of other systems saw: half sets, old sets, sets of others. Here they see one whole set, their own."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from functools import partial
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from emulators.azure_devops import Fault
from support.contoso import A, Contoso
from support.functions import call
from support.processes import SECONDS
from support.stores import MAIN, REPO, Store, at_once, commit, config, judgement, started
from support.web import READER_KEY, app_over, bearer
from support.world import Team, Watched, workflow
from werkzeug.test import Client

import function_app
from shared.model import Change, Claim, CommitId, FilePath, Replaced, SyncId, Trigger
from shared.postgres.pool import Pool
from shared.postgres.queue import PostgresQueue

SECRET = "secret-runtime.yaml"


def test_a_revert_is_served_to_every_reader(contoso: Contoso) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    contoso.subscribe()
    first = hosted.git.head("main")
    paths = ["/runtimes/orders/main", "/runtimes/orders/main?limit=10", f"/runtimes/orders/main/{A}"]
    held: list[str] = []

    def everybody_reads(expected: str) -> None:
        """Each path, by who holds nothing, and by whoever read it before."""
        for path in paths:
            for tag in ["", *held]:
                answer = contoso.api.get(path, headers={"If-None-Match": tag})
                assert (path, answer.status_code, expected in answer.text) == (path, 200, True)
        held.extend(contoso.api.get(path).headers["ETag"] for path in paths)

    everybody_reads("workflow-1")
    contoso.push(hosted, {A: workflow(2)})
    everybody_reads("workflow-2")
    hosted.git.set_head("main", first)
    assert contoso.push(hosted) == 200
    everybody_reads("workflow-1")


def test_a_revert_of_a_push_that_was_never_seen_is_no_old_news(contoso: Contoso) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    contoso.subscribe()
    first = hosted.git.head("main")
    contoso.emulator.misbehave(Fault.ERROR, status=400)
    contoso.push(hosted, {A: workflow(2)})
    contoso.emulator.behave()
    hosted.git.set_head("main", first)
    assert contoso.push(hosted) == 200
    assert (contoso.status()["condition"], contoso.status()["waiting"]) == ("Ready", False)
    assert contoso.served() == {A: "workflow-1"}


def remember(git: Watched) -> None:
    """Each commit is read from Git once, so that a sync costs little more than its statements."""

    def remembering(read: Callable[..., Any]) -> Callable[..., Any]:
        kept: dict[object, Any] = {}

        def remembered(repository: object, commit: CommitId, *more: Any) -> Any:
            key = (commit, *map(tuple, more[:-1]))
            if key not in kept:
                answer = read(repository, commit, *more)
                kept[key] = list(answer) if isinstance(answer, Iterator) else answer
            return kept[key]

        return remembered

    for name in ("tree_id", "tree", "blobs"):
        git.instead[name] = remembering(getattr(git._wrapped, name))


def two_sets(team: Team, count: int) -> Mapping[CommitId, Mapping[str, str]]:
    """Two commits that have no path in common, with what each serves."""
    sets = [{f"{number}-{one:02}-runtime.yaml": f"workflow-{number}" for one in range(count)} for number in (1, 2)]
    files = [{path: workflow(number) for path in paths} for number, paths in enumerate(sets, 1)]
    return {team.git.commit(one, onto=""): served for one, served in zip(files, sets, strict=True)}


def test_a_reader_at_full_speed_sees_whole_sets_alone(team: Team, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "shared")
    git, app = team.world.git, team.world.wsgi()
    remember(git)
    sets = two_sets(team, 30)
    over = Event()

    def reader(query: str) -> set[tuple[str, ...]]:
        """Every set that it saw."""
        client, seen = Client(app), set()
        while True:
            listed: Any = client.get(f"/runtimes/team/main{query}", headers=bearer(READER_KEY)).json
            seen.add(tuple(f"{one['filepath']}: {one['config']['workflow']['id']}" for one in listed))
            if over.is_set():
                return seen

    git.instead["head"] = lambda *_: next(iter(sets))
    team.sync()
    readers = [started(partial(reader, query)) for query in ("", "?limit=1000")]
    try:
        for number in range(200):
            git.instead["head"] = lambda *_, head=list(sets)[(number + 1) % 2]: head
            assert isinstance(team.sync(), Replaced)
    finally:
        over.set()
    whole = {tuple(f"{path}: {served}" for path, served in sorted(one.items())) for one in sets.values()}
    saw = [one.result(SECONDS) for one in readers]
    assert [sorted({len(seen) for seen in one}) for one in saw] == [[30], [30]]
    assert saw[0] | saw[1] <= whole


@pytest.mark.timeout(300)
def test_two_writers_of_one_branch_end_on_its_head_a_thousand_times(own_database: str) -> None:
    """The claim of the first ends while it stalls; then both write everything at the same moment, in other orders."""
    paths = [f"{number}.yaml" for number in range(4)]
    with closing(Pool(own_database, size=4)) as pool:
        store, queue, api = Store(pool, own_database), PostgresQueue(pool, lease=timedelta()), Client(app_over(pool))
        store.register(name="team")
        for number in range(1000):
            stale, right = (queue.claim(REPO, MAIN, SyncId(uuid4()), Trigger.WEBHOOK) for _ in range(2))
            assert isinstance(stale, Claim)
            assert isinstance(right, Claim)
            old = Change(tuple(config(path, -1) for path in paths), (FilePath("right.yaml"),))
            new = Change(tuple(config(path, number) for path in ["right.yaml", *reversed(paths)]))
            ended = at_once(
                partial(store.configs.replace, stale, judgement(0), old, serve=commit(0)),
                partial(store.configs.replace, right, judgement(number), new, serve=commit(number)),
            )
            assert [type(one).__name__ for one in ended] == ["ClaimLost", "Settled"]
            listed: Any = api.get("/runtimes/team/main", headers=bearer(READER_KEY)).json
            assert {one["filepath"]: one["config"] for one in listed} == dict.fromkeys([*paths, "right.yaml"], number)
        assert store.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


@pytest.mark.parametrize("path", [f"/runtimes/orders/main/{A}", "/runtimes/orders/main"])
def test_what_a_caller_holds_is_recognised_however_it_says_so(contoso: Contoso, path: str) -> None:
    contoso.repository()
    contoso.sweep()
    tag = contoso.api.get(path).headers["ETag"].strip('"')
    held = [tag, f'"{tag}"', f'W/"{tag}"', f'"7", "{tag}"', f'W/"7",W/"{tag}"', f"7, {tag}", "*"]
    answers = [contoso.api.get(path, headers={"If-None-Match": one}) for one in held]
    assert [(answer.status_code, answer.data) for answer in answers] == [(304, b"")] * len(held)
    assert contoso.api.get(path, headers={"If-None-Match": '"7", W/"8", 9'}).status_code == 200


def test_no_path_leads_out_of_its_repository(contoso: Contoso, monkeypatch: pytest.MonkeyPatch) -> None:
    contoso.repository()
    secret = contoso.repository("secret")
    secret.git.commit({A: None, SECRET: workflow(666)})
    contoso.sweep()
    monkeypatch.setattr(function_app, "_built", contoso.app)
    inside = "/runtimes/orders/main"
    ways = [
        f"{inside}/{SECRET}",
        f"{inside}/../../secret/main/{SECRET}",
        f"{inside}/..%2f..%2fsecret%2fmain%2f{SECRET}",
        f"{inside}/%2e%2e/%2e%2e/secret/main/{SECRET}",
        f"{inside}/..%5c..%5csecret%5cmain%5c{SECRET}",
        f"{inside}/..%252f..%252fsecret/main/{SECRET}",
        f"{inside}//secret/main/{SECRET}",
        f"{inside}/{secret.id}/main/{SECRET}",
        f"/runtimes/orders/../secret/main/{SECRET}",
        f"/runtimes/orders%2f..%2fsecret/main/{SECRET}",
        f"/runtimes/orders/{secret.id}/main/{SECRET}",
        f"/runtimes/orders;{secret.id}/main/{SECRET}",
    ]
    outside = f"/runtimes/secret/main/{SECRET}"
    headers = {"x-original-url": outside, "x-rewrite-url": outside, "x-repository": secret.id, "x-blob-id": secret.id}
    key = {"authorization": f"Bearer {READER_KEY}"}
    assert call("config_api", outside, headers=key).status == 200
    for way in ways:
        told = call("config_api", way, headers={**key, **headers})
        assert (way, told.status, b"workflow-666" in told.body) == (way, 404, False)
