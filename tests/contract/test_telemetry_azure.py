"""What Azure Monitor's exporter makes of our spans, metrics and logs, as docs/telemetry.md and the alerts have it.

In a process of its own: the exporter starts threads that nobody can end.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from emulators import otlp
from emulators.otlp import Receiver

ROOT = Path(__file__).resolve().parents[2]
IKEY = "11111111-2222-4333-8444-555555555555"
QUIET = {
    f"APPLICATIONINSIGHTS_{name}": "true"
    for name in ("STATSBEAT_DISABLED_ALL", "SDKSTATS_DISABLED", "CONTROLPLANE_DISABLED")
}
SCRIPT = """
import logging, sys
from types import SimpleNamespace
from shared import telemetry, telemetry_export
from shared.telemetry import metrics

stop = telemetry_export.start("acc", otlp_endpoint=None, connection_string=sys.argv[1])
log = logging.getLogger("shared.sync")
log.setLevel(logging.INFO)
host = SimpleNamespace(trace_context=SimpleNamespace(trace_parent=f"00-{'a' * 32}-{'b' * 16}-01", trace_state=""))
with telemetry.continued(host), telemetry.request("GET /hosted") as request:
    request.set({"http.request.method": "GET", "http.route": "/hosted", "http.response.status_code": 503})
    request.fail("503")
with telemetry.request("GET /runtimes") as request:
    request.set({"http.request.method": "GET", "http.route": "/runtimes", "http.response.status_code": 200})
    with telemetry.span("sync", {"runtime_store.branch": "main", "runtime_store.served_after": 1.5}) as sync:
        with telemetry.call("configs.replace", {"db.system.name": "postgresql"}):
            pass
        where = {"server.address": "dev.azure.com", "server.port": 443, "http.request.method": "GET"}
        with telemetry.call("GET", {**where, "url.full": "https://dev.azure.com/contoso/_apis"}):
            pass
        sync.fail("SourceRefused")
        log.info("A sync ended", extra={"outcome": "Failed"})
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("A sync broke")
metrics.SOURCE_PAUSES.add(1, "SourceRefused")
metrics.SYNCS.add(2, "Replaced", "webhook", None, None)
metrics.REQUESTS.record(0.5, "GET", "/runtimes", 200)
metrics.REQUESTS.record(1.5, "GET", "/runtimes", 200)
metrics.SWEEP_AGE.set(61)
stop()
"""


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Receiver:
    with otlp.running() as receiver:
        subprocess.run(
            [sys.executable, "-c", SCRIPT, f"InstrumentationKey={IKEY};IngestionEndpoint={receiver.url}/"],
            cwd=ROOT,
            env={**QUIET, "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path_factory.mktemp("storage"))},
            check=True,
        )
    return receiver


def items(received: Receiver, kind: str) -> list[dict[str, Any]]:
    name = f"Microsoft.ApplicationInsights.{kind}"
    return [one["data"]["baseData"] for one in received.envelopes if one["name"] == name]


def named(received: Receiver, kind: str, name: str) -> dict[str, Any]:
    return next(one for one in items(received, kind) if one["name"] == name)


def metric(received: Receiver, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its one value, and its attributes."""
    return next(
        (one["metrics"][0], one["properties"]) for one in items(received, "Metric") if one["metrics"][0]["name"] == name
    )


def test_everything_is_of_one_role(received: Receiver) -> None:
    assert {one["tags"]["ai.cloud.role"] for one in received.envelopes} == {"runtime-store"}
    assert {one["iKey"] for one in received.envelopes} == {IKEY}


def test_a_request_without_a_host_is_a_request(received: Receiver) -> None:
    (request,) = items(received, "Request")
    assert (request["name"], request["responseCode"], request["success"]) == ("GET /runtimes", "200", True)


def test_below_the_host_it_is_a_dependency_by_the_name_of_its_route(received: Receiver) -> None:
    hosted = named(received, "RemoteDependency", "GET /hosted")
    assert (hosted["type"], hosted["success"]) == ("InProc", False)
    (envelope,) = [one for one in received.envelopes if one["data"]["baseData"] == hosted]
    assert (envelope["tags"]["ai.operation.id"], envelope["tags"]["ai.operation.parentId"]) == ("a" * 32, "b" * 16)


def test_other_spans_are_dependencies_that_keep_our_attributes(received: Receiver) -> None:
    sync = named(received, "RemoteDependency", "sync")
    assert (sync["type"], sync["success"]) == ("InProc", False)
    assert sync["properties"] == {
        "runtime_store.branch": "main",
        "runtime_store.served_after": "1.5",
        "runtime_store.error": "SourceRefused",
    }


def test_statements_and_calls_have_their_types(received: Receiver) -> None:
    assert named(received, "RemoteDependency", "configs.replace")["type"] == "postgresql"
    call = named(received, "RemoteDependency", "GET /contoso/_apis")
    assert (call["type"], call["target"]) == ("HTTP", "dev.azure.com:443")
    assert call["properties"] == {"runtime_store.branch": "main"}


def test_counters_histograms_and_gauges_are_custom_metrics(received: Receiver) -> None:
    value, attributes = metric(received, "runtime_store.syncs")
    assert (value["value"], attributes) == (
        2,
        {"runtime_store.outcome": "Replaced", "runtime_store.trigger": "webhook"},
    )
    value, attributes = metric(received, "runtime_store.request.duration")
    assert {name: value[name] for name in ("value", "count", "min", "max")} == {
        "value": 2,
        "count": 2,
        "min": 0.5,
        "max": 1.5,
    }
    told = {"http.request.method": "GET", "http.route": "/runtimes", "http.response.status_code": "200"}
    assert attributes == told
    assert metric(received, "runtime_store.source.pauses")[1] == {"error.type": "SourceRefused"}
    assert metric(received, "runtime_store.sweep.age")[0]["value"] == 61


def test_logs_are_messages_of_their_operation_with_their_data(received: Receiver) -> None:
    (message,) = items(received, "Message")
    assert (message["message"], message["properties"]["outcome"]) == ("A sync ended", "Failed")
    (exception,) = items(received, "Exception")
    assert exception["exceptions"][0]["typeName"] == "ValueError"
    (tags,) = [one["tags"] for one in received.envelopes if one["data"]["baseData"] == message]
    assert tags["ai.operation.id"] == message["properties"]["trace_id"]
