"""Service hooks of the emulated organisation: what is sent, to whom, and what becomes of a receiver that fails."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from emulators.azure_devops import PROBES, REPEATS, Emulator, HostedRepository
from support.git import git

ZEROS = "0" * 40
FAST = 2e-6
"""A day of waits takes less than a fifth of a second."""
NEVER = 1e9


@dataclass(frozen=True)
class Post:
    path: str
    headers: dict[str, str]
    event: dict[str, Any]


class Receiver:
    """Answers each event with the next of `answers`, then with 200. None is no answer, until the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[int | None] = []
        self.always = 200
        self.posts: list[Post] = []
        self.released = Event()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver: Receiver = self.server.receiver  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        receiver.posts.append(Post(self.path, dict(self.headers), body))
        status = receiver.answers.pop(0) if receiver.answers else receiver.always
        if status is None:
            receiver.released.wait()
            return
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """The test runner's output is no place for it."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook?a=b")
        server.receiver = receiver  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "hosted", pace=FAST) as emulator:
        yield emulator


@pytest.fixture
def slow_emulator(tmp_path: Path) -> Iterator[Emulator]:
    """One whose waits do not end within a test."""
    with Emulator(tmp_path / "slow", pace=NEVER) as emulator:
        yield emulator


@pytest.fixture
def orders(emulator: Emulator) -> HostedRepository:
    return emulator.repository("etl", "orders")


def push(emulator: Emulator, repository: HostedRepository, *branches: str) -> int:
    for branch in branches or ("main",):
        repository.git.commit({"a.yaml": f"push: {len(repository.pushes)}\n"}, branch=branch, message="One\n\nand more")
    return emulator.pushed(repository, by="Ada Lovelace")


# -- What is sent


def test_a_push_is_sent_with_everything_that_is_known_of_it(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    subscription = emulator.subscribe(receiver.url, repository=orders)
    first = push(emulator, orders)
    second = push(emulator, orders, "main", "release/1.0")
    emulator.delivered()
    assert [post.path for post in receiver.posts] == ["/hook?a=b"] * 2
    event = max((post.event for post in receiver.posts), key=lambda event: event["notificationId"])
    assert event.keys() == {
        *("subscriptionId", "notificationId", "id", "eventType", "publisherId", "message", "detailedMessage"),
        *("resource", "resourceVersion", "resourceContainers", "createdDate"),
    }
    assert (event["subscriptionId"], event["notificationId"]) == (subscription.id, 2)
    assert (event["eventType"], event["publisherId"], event["resourceVersion"]) == ("git.push", "tfs", "1.0")
    assert event["message"]["text"] == "Ada Lovelace pushed updates to orders:main, release/1.0."
    resource = event["resource"]
    assert (first, second, resource["pushId"]) == (1, 2, 2)
    assert resource["url"] == f"{orders.url}/pushes/2"
    assert [(one["name"], one["newObjectId"]) for one in resource["refUpdates"]] == [
        ("refs/heads/main", orders.git.head("main")),
        ("refs/heads/release/1.0", orders.git.head("release/1.0")),
    ]
    assert resource["refUpdates"][1]["oldObjectId"] == ZEROS
    assert {one["commitId"] for one in resource["commits"]} == {
        orders.git.head("main"),
        orders.git.head("release/1.0"),
    }
    assert {one["comment"] for one in resource["commits"]} == {"One"}
    repository = resource["repository"]
    assert (repository["id"], repository["project"]["id"]) == (orders.id, orders.project_id)
    assert (repository["name"], repository["remoteUrl"]) == ("orders", orders.web_url)
    assert event["resourceContainers"]["collection"]["baseUrl"] == f"{emulator.url}/"


def test_the_app_understands_what_is_sent(emulator: Emulator, orders: HostedRepository, receiver: Receiver) -> None:
    from shared.azure_devops.events import decode

    emulator.subscribe(receiver.url)
    push(emulator, orders)
    emulator.delivered()
    event = decode(json.dumps(receiver.posts[0].event).encode())
    assert (event.repo_id, event.repository, event.project) == (orders.id, "orders", "etl")
    assert (event.push_id, event.pushed_by, event.organisation) == (1, "Ada Lovelace", emulator.url)
    assert event.updates is not None
    assert [(update.branch, update.new) for update in event.updates] == [("main", orders.git.head("main"))]


def test_a_deleted_branch_is_sent_with_forty_zeros_and_no_commits(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    push(emulator, orders, "main", "old")
    emulator.subscribe(receiver.url, repository=orders, branch="old")
    orders.git.delete("old")
    emulator.pushed(orders)
    emulator.delivered()
    (post,) = receiver.posts
    assert [(one["name"], one["newObjectId"]) for one in post.event["resource"]["refUpdates"]] == [
        ("refs/heads/old", ZEROS)
    ]
    assert "commits" not in post.event["resource"]


def test_a_branch_without_a_commit_of_its_own_is_sent_without_commits(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    push(emulator, orders)
    orders.git.commit({"b": "1"})
    emulator.subscribe(receiver.url, repository=orders, branch="copy")
    emulator.pushed(orders)
    orders.git.set_head("copy", orders.git.head("main"))
    emulator.pushed(orders)
    emulator.delivered()
    (post,) = receiver.posts
    assert post.event["resource"]["refUpdates"][0]["oldObjectId"] == ZEROS
    assert "commits" not in post.event["resource"]


def test_it_is_sent_with_the_password_and_the_headers_of_the_subscription(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    emulator.subscribe(
        receiver.url,
        basicAuthUsername="azure",
        basicAuthPassword="s3:cret",
        httpHeaders="X-Name:value\nX-Two: more: of it",
    )
    push(emulator, orders)
    emulator.delivered()
    headers = receiver.posts[0].headers
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"azure:s3:cret"
    assert (headers["X-Name"], headers["X-Two"]) == ("value", "more: of it")
    assert headers["Content-Type"] == "application/json; charset=utf-8"


def test_details_are_left_out_as_the_subscription_says(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    minimal = {"resourceDetailsToSend": "minimal", "messagesToSend": "text", "detailedMessagesToSend": "none"}
    emulator.subscribe(receiver.url, **minimal)
    push(emulator, orders)
    emulator.delivered()
    event = receiver.posts[0].event
    assert event["resource"] == {"pushId": 1, "url": f"{orders.url}/pushes/1"}
    assert event["message"].keys() == {"text"}
    assert "detailedMessage" not in event
    emulator.subscribe(receiver.url, resourceDetailsToSend="none")
    push(emulator, orders)
    emulator.delivered()
    assert sum("resource" not in post.event for post in receiver.posts) == 1


def test_only_those_who_asked_for_it_are_told(emulator: Emulator, orders: HostedRepository, receiver: Receiver) -> None:
    other, third = emulator.repository("web", "shop"), emulator.repository("etl", "sales")
    anything = emulator.subscribe(receiver.url)
    of_orders = emulator.subscribe(receiver.url, repository=orders)
    of_main = emulator.subscribe(receiver.url, repository=orders, branch="main")
    emulator.subscribe(receiver.url, repository=orders, branch="mai")
    push(emulator, orders, "release", "main")
    push(emulator, orders, "release")
    push(emulator, other)
    push(emulator, third)
    told = [(one.event["resource"]["url"], one.subscription.id) for one in emulator.delivered()]
    assert sorted(told) == sorted(
        [
            *((f"{orders.url}/pushes/1", one.id) for one in (anything, of_orders, of_main)),
            *((f"{orders.url}/pushes/2", one.id) for one in (anything, of_orders)),
            *((f"{one.url}/pushes/1", anything.id) for one in (other, third)),
        ]
    )


def test_a_real_push_is_sent_too(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver, tmp_path: Path
) -> None:
    emulator.subscribe(receiver.url, branch="main")
    address = orders.web_url.replace("http://", "http://ada:emulator-personal-access-token@")
    git("init", "--quiet", "--initial-branch=main", tmp_path / "work")
    here = ("-C", tmp_path / "work", "-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    git(*here, "commit", "--quiet", "--allow-empty", "--message=First")
    git(*here, "push", "--quiet", address, "main")
    (delivery,) = emulator.delivered()
    (update,) = delivery.event["resource"]["refUpdates"]
    assert update["newObjectId"] == git(*here, "rev-parse", "HEAD")
    assert delivery.event["resource"]["pushedBy"]["displayName"] == "ada"


def test_the_test_notification_is_always_the_same(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    from shared.azure_devops.events import decode

    subscription = emulator.subscribe(receiver.url, repository=orders, branch="main")
    receiver.answers = [500]
    for _ in range(2):
        emulator.send_test(subscription)
    emulator.delivered()
    assert len(receiver.posts) == 2
    event = receiver.posts[0].event
    assert event["id"] == "03c164c2-8912-4d5e-8009-3707d5f83734"
    assert event["subscriptionId"] == "00000000-0000-0000-0000-000000000000"
    assert decode(json.dumps(event).encode()).is_test
    assert subscription.status == "enabled"


# -- What becomes of a receiver that fails


@pytest.mark.parametrize("status", [408, 502, 503, 504])
def test_a_transient_failure_is_tried_again_until_it_is_over(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver, status: int
) -> None:
    subscription = emulator.subscribe(receiver.url)
    receiver.answers = [status] * len(REPEATS)
    push(emulator, orders)
    deliveries = emulator.delivered()
    assert [(one.attempt, one.status) for one in deliveries] == [
        *((attempt, status) for attempt in range(1, 9)),
        (9, 200),
    ]
    assert len({post.event["id"] for post in receiver.posts}) == 1
    assert subscription.status == "enabled"


def test_a_transient_failure_that_lasts_ends_in_probation(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    subscription = emulator.subscribe(receiver.url)
    receiver.answers = [503] * 9
    push(emulator, orders)
    emulator.wait_until(lambda: any(one.is_probe for one in emulator.deliveries))
    assert [one.status for one in emulator.deliveries] == [503] * 9 + [200]
    assert subscription.status == "enabled"


def test_no_answer_in_time_is_a_transient_failure(tmp_path: Path, receiver: Receiver) -> None:
    with Emulator(tmp_path / "hosted", pace=FAST, delivery_timeout=0.05) as emulator:
        subscription = emulator.subscribe(receiver.url)
        receiver.answers = [None]
        push(emulator, emulator.repository("etl", "orders"))
        assert [(one.status, one.error) for one in emulator.delivered()] == [(None, "timeout"), (200, "")]
        assert subscription.status == "enabled"


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 413, 429, 500])
def test_any_other_failure_is_not_tried_again_and_loses_what_comes_next(
    slow_emulator: Emulator, receiver: Receiver, status: int
) -> None:
    subscription = slow_emulator.subscribe(receiver.url)
    orders = slow_emulator.repository("etl", "orders")
    receiver.answers = [status]
    push(slow_emulator, orders)
    assert [one.status for one in slow_emulator.delivered()] == [status]
    assert subscription.status == "onProbation"
    push(slow_emulator, orders)
    assert len(slow_emulator.delivered()) == 1
    assert [event["resource"]["pushId"] for event in slow_emulator.lost] == [2]


def test_a_receiver_that_is_not_there_is_an_enduring_failure(slow_emulator: Emulator) -> None:
    subscription = slow_emulator.subscribe("http://127.0.0.1:1/hook")
    push(slow_emulator, slow_emulator.repository("etl", "orders"))
    (delivery,) = slow_emulator.delivered()
    assert (delivery.status, delivery.error.split(":")[0]) == (None, "ConnectionRefusedError")
    assert subscription.status == "onProbation"


def test_a_receiver_that_is_gone_ends_its_subscription(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    subscription = emulator.subscribe(receiver.url)
    receiver.answers = [410]
    push(emulator, orders)
    emulator.delivered()
    assert subscription.status == "disabledBySystem"
    push(emulator, orders)
    assert len(emulator.delivered()) == 1


def test_a_probe_that_succeeds_ends_the_probation(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    subscription = emulator.subscribe(receiver.url)
    receiver.answers = [500, 500, 500]
    push(emulator, orders)
    emulator.wait_until(lambda: len(emulator.deliveries) == 4)
    assert [one.is_probe for one in emulator.deliveries] == [False, True, True, True]
    assert (subscription.status, subscription.probes) == ("enabled", 0)
    push(emulator, orders)
    emulator.delivered()
    assert receiver.posts[-1].event["resource"]["pushId"] == 2


def test_seven_probes_in_vain_disable_the_subscription(
    emulator: Emulator, orders: HostedRepository, receiver: Receiver
) -> None:
    subscription = emulator.subscribe(receiver.url)
    receiver.always = 500
    push(emulator, orders)
    emulator.wait_until(lambda: subscription.status == "disabledBySystem")
    assert [one.is_probe for one in emulator.deliveries] == [False] + [True] * 7
    assert len(PROBES) == 7
    assert sum(PROBES) == pytest.approx(36 * 3600, rel=0.03)


def test_waits_last_as_long_as_the_pace_says(tmp_path: Path, receiver: Receiver) -> None:
    with Emulator(tmp_path / "hosted", pace=NEVER) as emulator:
        emulator.subscribe(receiver.url)
        receiver.answers = [503]
        push(emulator, emulator.repository("etl", "orders"))
        emulator.wait_until(lambda: len(emulator.deliveries) == 1)
        with pytest.raises(TimeoutError):
            emulator.delivered(timeout=0.05)
    assert len(receiver.posts) == 1


def test_deliveries_under_way_do_not_outlive_the_emulator(tmp_path: Path, receiver: Receiver) -> None:
    with Emulator(tmp_path / "hosted") as emulator:
        emulator.subscribe(receiver.url)
        receiver.answers = [None]
        push(emulator, emulator.repository("etl", "orders"))
        with pytest.raises(TimeoutError):
            emulator.wait_until(lambda: bool(emulator.deliveries), timeout=0.1)
        assert len(receiver.posts) == 1
        started = time.perf_counter()
    assert time.perf_counter() - started < 5
    assert emulator.deliveries == []


# -- Subscriptions through the SDK


@pytest.fixture
def hooks(slow_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AZURE_DEVOPS_CACHE_DIR", str(tmp_path))
    from azure.devops.connection import Connection
    from msrest.authentication import BasicAuthentication

    credentials = BasicAuthentication("", "emulator-personal-access-token")
    return Connection(base_url=slow_emulator.url, creds=credentials).clients_v7_1.get_service_hooks_client()


def wanted(url: str, repository: HostedRepository, **inputs: str) -> Any:
    from azure.devops.v7_1.service_hooks.models import Subscription

    return Subscription(
        publisher_id="tfs",
        event_type="git.push",
        resource_version="1.0",
        consumer_id="webHooks",
        consumer_action_id="httpRequest",
        publisher_inputs={"projectId": repository.project_id, "repository": repository.id, "branch": "main"},
        consumer_inputs={"url": url, "basicAuthPassword": "first", **inputs},
    )


def test_a_subscription_is_made_and_its_password_is_never_shown(
    slow_emulator: Emulator, receiver: Receiver, hooks: Any
) -> None:
    orders = slow_emulator.repository("etl", "orders")
    made = hooks.create_subscription(wanted(receiver.url, orders))
    assert (made.status, made.resource_version) == ("enabled", "1.0")
    assert made.publisher_inputs["repository"] == orders.id
    assert made.publisher_inputs["tfsSubscriptionId"]
    read = hooks.get_subscription(made.id)
    (listed,) = hooks.list_subscriptions(publisher_id="tfs", event_type="git.push", consumer_id="webHooks")
    for one in (made, read, listed):
        assert (one.id, one.consumer_inputs["basicAuthPassword"]) == (made.id, "********")
    assert hooks.list_subscriptions(event_type="build.complete") == []
    push(slow_emulator, orders)
    slow_emulator.delivered()
    assert base64.b64decode(receiver.posts[0].headers["Authorization"].removeprefix("Basic ")) == b":first"


def test_replacing_a_subscription_ends_its_probation_and_keeps_a_masked_password(
    slow_emulator: Emulator, receiver: Receiver, hooks: Any
) -> None:
    orders = slow_emulator.repository("etl", "orders")
    receiver.answers = [500]
    made = hooks.create_subscription(wanted(receiver.url, orders))
    push(slow_emulator, orders)
    slow_emulator.delivered()
    broken = hooks.get_subscription(made.id)
    assert (broken.status, broken.probation_retries) == ("onProbation", "0")
    broken.consumer_inputs["messagesToSend"] = "none"
    assert hooks.replace_subscription(broken, made.id).status == "enabled"
    push(slow_emulator, orders)
    slow_emulator.delivered()
    last = receiver.posts[-1]
    assert last.event["resource"]["pushId"] == 2
    assert "message" not in last.event
    assert base64.b64decode(last.headers["Authorization"].removeprefix("Basic ")) == b":first"


def test_a_deleted_subscription_is_gone(slow_emulator: Emulator, receiver: Receiver, hooks: Any) -> None:
    from azure.devops.exceptions import AzureDevOpsServiceError

    orders = slow_emulator.repository("etl", "orders")
    made = hooks.create_subscription(wanted(receiver.url, orders))
    hooks.delete_subscription(made.id)
    assert hooks.list_subscriptions() == []
    with pytest.raises(AzureDevOpsServiceError) as caught:
        hooks.get_subscription(made.id)
    assert caught.value.type_key == "SubscriptionNotFoundException"
    push(slow_emulator, orders)
    assert slow_emulator.delivered() == []


def test_a_subscription_without_an_address_is_refused(slow_emulator: Emulator, hooks: Any) -> None:
    from azure.devops.exceptions import AzureDevOpsServiceError

    with pytest.raises(AzureDevOpsServiceError) as caught:
        hooks.create_subscription(wanted("nowhere", slow_emulator.repository("etl", "orders")))
    assert caught.value.type_key == "SubscriptionInputException"


def test_subscriptions_are_found_by_their_inputs(slow_emulator: Emulator, receiver: Receiver, hooks: Any) -> None:
    from azure.devops.v7_1.service_hooks.models import InputFilter, InputFilterCondition, SubscriptionsQuery

    one, other = (slow_emulator.repository("etl", name) for name in ("one", "other"))
    made = [hooks.create_subscription(wanted(receiver.url, repository)) for repository in (one, other)]
    condition = InputFilterCondition(input_id="repository", operator="equals", input_value=other.id)
    query = SubscriptionsQuery(publisher_id="tfs", publisher_input_filters=[InputFilter(conditions=[condition])])
    assert [found.id for found in hooks.create_subscriptions_query(query).results] == [made[1].id]


def test_the_history_of_a_subscription_tells_what_was_answered(
    slow_emulator: Emulator, receiver: Receiver, hooks: Any
) -> None:
    orders = slow_emulator.repository("etl", "orders")
    made = hooks.create_subscription(wanted(receiver.url, orders))
    receiver.answers = [200, 401]
    for _ in range(2):
        push(slow_emulator, orders)
        slow_emulator.delivered()
    history = hooks.get_notifications(made.id)
    assert [(one.id, one.result) for one in history] == [(2, "failed"), (1, "succeeded")]
    assert history[0].details.error_message == "The receiver answered 401."
