"""How the service hooks are is measured about once an hour, and troubles nobody."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from emulators.azure_devops import Emulator, Fault
from support.telemetry import Told, telling

from shared.azure_devops import hooks
from shared.azure_devops.client import Organisation
from shared.azure_devops.hooks import HookWatch, ServiceHooks
from shared.telemetry.metrics import SUBSCRIPTIONS

URL = "http://127.0.0.1:7071/webhooks/azure-devops"


@pytest.fixture
def told() -> Iterator[Told]:
    with telling() as told:
        yield told


@pytest.fixture
def watch(organisation: Organisation) -> HookWatch:
    return HookWatch(ServiceHooks(organisation, URL))


def test_those_that_call_this_app_are_counted_by_status(emulator: Emulator, watch: HookWatch, told: Told) -> None:
    emulator.repository("etl", "orders")
    for url in (URL, URL, "http://127.0.0.1:1/elsewhere"):
        emulator.subscribe(url)
    emulator.subscriptions[0].data["status"] = "onProbation"
    watch.look()
    assert told.points(SUBSCRIPTIONS.name) == {("enabled",): 1, ("onProbation",): 1}


def test_where_nothing_calls_this_app_that_is_told(watch: HookWatch, told: Told) -> None:
    watch.look()
    assert told.points(SUBSCRIPTIONS.name) == {("enabled",): 0}


def test_an_identity_that_may_not_see_them_fails_no_sweep(emulator: Emulator, watch: HookWatch, told: Told) -> None:
    emulator.misbehave(Fault.FORBIDDEN, route="subscriptions")
    watch.look()
    assert told.points(SUBSCRIPTIONS.name) == {}


def test_they_are_asked_for_about_once_an_hour(
    emulator: Emulator, watch: HookWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5000.0
    monkeypatch.setattr(hooks, "time", SimpleNamespace(monotonic=lambda: now))
    asked = []
    for minutes in (0, 1, 54, 56):
        now = 5000.0 + minutes * 60
        before = len(emulator.calls)
        watch.look()
        asked.append(len(emulator.calls) > before)
    assert asked == [True, False, False, True]
