"""The service hooks of an organisation, through the real SDK: read, written, and what a refusal says."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator, Fault, HostedRepository
from emulators.azure_devops import subscriptions as api
from emulators.azure_devops.answers import Answer
from emulators.azure_devops.delivery import Deliveries

from shared.azure_devops.client import Organisation
from shared.azure_devops.hook_plan import Act, Step, Upkeep
from shared.azure_devops.hooks import ServiceHooks
from shared.azure_devops.subscriptions import Reach, Subscription
from shared.errors import SourceError, SourceFailed, SourceRefused, SourceThrottled
from shared.model import BranchName, Deadline

URL = "http://127.0.0.1:7071/webhooks/azure-devops"
SECRET, NEWER = "first-secret-first-secret-first-secret", "newer-secret-newer-secret-newer-secret"


@pytest.fixture
def orders(emulator: Emulator) -> HostedRepository:
    return emulator.repository("etl", "orders")


@pytest.fixture
def hooks(emulator: Emulator) -> ServiceHooks:
    organisation = Organisation(
        emulator.url, authorization=lambda: EMULATOR_AUTHORIZATION, timeout=timedelta(seconds=10)
    )
    return ServiceHooks(organisation, URL)


def soon() -> Deadline:
    return Deadline.after(timedelta(seconds=10))


def found(hooks: ServiceHooks) -> Sequence[Subscription]:
    return hooks.subscriptions(soon())


def reach(repository: HostedRepository, branch: str = "main") -> Reach:
    return Reach(repository.project_id, "", branch)


def made(hooks: ServiceHooks, repository: HostedRepository, branch: str = "main") -> Subscription:
    hooks.do(Step(Act.CREATE, reach(repository, branch)), SECRET, soon())
    return next(one for one in found(hooks) if one.reach.branch == branch)


def test_one_is_made_as_it_must_be(hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository) -> None:
    hooks.do(Step(Act.CREATE, Reach(orders.project_id, orders.id, "release/1.0")), SECRET, soon())
    (one,) = emulator.subscriptions
    kind = ("publisherId", "eventType", "resourceVersion", "consumerId", "consumerActionId")
    assert [one.data[name] for name in kind] == ["tfs", "git.push", "1.0", "webHooks", "httpRequest"]
    inputs = one.data["publisherInputs"]
    assert (inputs["projectId"], inputs["repository"], inputs["branch"]) == (
        orders.project_id,
        orders.id,
        "release/1.0",
    )
    assert one.inputs == {
        "url": URL,
        "basicAuthUsername": "azure-devops",
        "basicAuthPassword": SECRET,
        "resourceDetailsToSend": "all",
        "messagesToSend": "none",
        "detailedMessagesToSend": "none",
        "acceptUntrustedCerts": "false",
    }


def test_what_was_made_reads_as_it_must_be(hooks: ServiceHooks, orders: HostedRepository) -> None:
    one = made(hooks, orders)
    assert (one.is_ours, one.reach, one.status, one.drift) == (True, reach(orders), "enabled", ())
    assert one.host == "127.0.0.1:7071"


def test_only_web_hooks_for_pushes_are_listed(
    hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository
) -> None:
    made(hooks, orders)
    for field, value in (("eventType", "build.complete"), ("consumerId", "jenkins"), ("publisherId", "rm")):
        made(hooks, orders, value)
        next(one for one in emulator.subscriptions if one.data["publisherInputs"]["branch"] == value).data[field] = (
            value
        )
    assert [one.reach.branch for one in found(hooks)] == ["main"]


def test_replacing_keeps_the_subscription_and_writes_the_password(
    hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository
) -> None:
    there = made(hooks, orders)
    emulator.subscriptions[0].data["consumerInputs"] |= {"resourceDetailsToSend": "minimal", "httpHeaders": "a:b"}
    (drifted,) = found(hooks)
    assert drifted.drift == ("sends minimal of the resource details, not all",)
    hooks.do(Step(Act.REPLACE, drifted.reach, drifted), NEWER, soon())
    assert found(hooks) == [there]
    assert emulator.subscriptions[0].inputs["basicAuthPassword"] == NEWER
    assert "httpHeaders" not in emulator.subscriptions[0].inputs


@pytest.mark.parametrize("status", ["onProbation", "disabledBySystem", "disabledByUser"])
def test_what_is_not_enabled_is_enabled_again(
    hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository, status: str
) -> None:
    there = made(hooks, orders)
    emulator.subscriptions[0].data["status"] = status
    (one,) = found(hooks)
    assert (one.status, one.is_enabled) == (status, False)
    hooks.do(Step(Act.ENABLE, one.reach, one), SECRET, soon())
    assert found(hooks) == [there]


def test_what_stays_disabled_is_made_anew(
    hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing is reported not to enable what the system disabled: https://github.com/getsentry/sentry/pull/10407"""
    replace = Deliveries.replace
    monkeypatch.setattr(
        Deliveries, "replace", lambda self, one, data: replace(self, one, {**data, "status": "disabledBySystem"})
    )
    there = made(hooks, orders)
    emulator.subscriptions[0].data["status"] = "disabledBySystem"
    hooks.do(Step(Act.ENABLE, there.reach, found(hooks)[0]), SECRET, soon())
    (one,) = found(hooks)
    assert (one.reach, one.is_enabled) == (there.reach, True)
    assert one.subscription_id != there.subscription_id


def test_that_of_somebody_who_left_is_made_anew(
    hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository
) -> None:
    there = made(hooks, orders)
    emulator.subscriptions[0].data["status"] = "disabledByInactiveIdentity"
    hooks.do(Step(Act.ENABLE, there.reach, found(hooks)[0]), SECRET, soon())
    (one,) = found(hooks)
    assert (one.reach, one.is_enabled) == (there.reach, True)
    assert one.subscription_id != there.subscription_id


def test_removing_twice_is_removing(hooks: ServiceHooks, orders: HostedRepository) -> None:
    there = made(hooks, orders)
    made(hooks, orders, "dev")
    for _ in range(2):
        hooks.do(Step(Act.REMOVE, there.reach, there), SECRET, soon())
    assert [one.reach.branch for one in found(hooks)] == ["dev"]


def test_keeping_asks_for_nothing(hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository) -> None:
    there = made(hooks, orders)
    emulator.forget_calls()
    hooks.do(Step(Act.KEEP, there.reach, there), SECRET, soon())
    assert emulator.calls == []


def test_a_plan_that_was_carried_out_leaves_nothing_to_do(
    hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository
) -> None:
    emulator.repository("web", "shop")
    branches = [BranchName("main"), BranchName("dev")]
    projects = [hooks.places(soon()).project(name) for name in ("etl", "WEB")]
    for _ in range(2):
        made(hooks, orders)
    for attempt in range(2):
        upkeep = Upkeep(hooks.places(soon()), found(hooks), branches, {})
        steps = upkeep.plan(projects)
        assert {step.act for step in steps} == ({Act.KEEP} if attempt else {Act.CREATE, Act.KEEP, Act.REMOVE})
        for step in steps:
            hooks.do(step, SECRET, soon())
    assert len(found(hooks)) == 4


def test_a_push_arrives_only_for_the_branch_that_is_heard_of(
    hooks: ServiceHooks, emulator: Emulator, orders: HostedRepository
) -> None:
    """At a port where nobody answers: that it was tried is enough."""
    hooks.do(Step(Act.CREATE, reach(orders, "dev")), SECRET, soon())
    for branch in ("main", "dev"):
        orders.git.commit({"a-runtime.yaml": "a: 1"}, branch=branch)
        emulator.pushed(orders)
    (delivery,) = emulator.delivered()
    assert [update["name"] for update in delivery.event["resource"]["refUpdates"]] == ["refs/heads/dev"]
    (one,) = found(hooks)
    assert one.trouble is not None
    assert "is on probation" in one.trouble


@pytest.mark.parametrize(
    ("call", "permission"),
    [
        (lambda hooks, step: hooks.subscriptions(soon()), "View subscriptions"),
        (lambda hooks, step: hooks.do(step, SECRET, soon()), "Edit subscriptions"),
    ],
)
def test_a_refusal_says_what_to_grant(
    hooks: ServiceHooks,
    emulator: Emulator,
    orders: HostedRepository,
    call: Callable[[ServiceHooks, Step], Any],
    permission: str,
) -> None:
    emulator.misbehave(Fault.FORBIDDEN, route="subscriptions")
    with pytest.raises(SourceRefused) as refused:
        call(hooks, Step(Act.CREATE, reach(orders)))
    assert "TF401027" in refused.value.message
    assert f"`{permission}`" in (refused.value.hint or "")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("route", ["subscriptions", "repositories"])
@pytest.mark.parametrize(
    ("fault", "details", "error"),
    [
        (Fault.SIGN_IN, {}, SourceRefused),
        (Fault.HTML, {}, SourceRefused),
        (Fault.UNAUTHORIZED, {}, SourceRefused),
        (Fault.THROTTLED, {}, SourceThrottled),
        (Fault.ERROR, {"status": 500}, SourceFailed),
        (Fault.CUT, {}, SourceFailed),
        (Fault.CUT, {"framed": True}, SourceFailed),
    ],
)
def test_no_list_is_an_error_and_not_an_empty_one(
    hooks: ServiceHooks,
    emulator: Emulator,
    orders: HostedRepository,
    route: str,
    fault: Fault,
    details: dict[str, Any],
    error: type[SourceError],
) -> None:
    made(hooks, orders)
    emulator.misbehave(fault, route=route, **details)
    with pytest.raises(error):
        hooks.subscriptions(soon()) if route == "subscriptions" else hooks.places(soon())


@pytest.mark.parametrize(("count", "headers"), [(2, {}), (1, {"x-ms-continuationtoken": "2"})])
def test_half_a_list_is_none(
    hooks: ServiceHooks,
    orders: HostedRepository,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    headers: dict[str, str],
) -> None:
    made(hooks, orders)

    def halved(values: Sequence[object]) -> Answer:
        return Answer(200, json.dumps({"value": values, "count": count}).encode(), headers=headers)

    monkeypatch.setattr(api, "list_answer", halved)
    with pytest.raises(SourceFailed, match=f"listed 1 of {count}"):
        hooks.subscriptions(soon())
