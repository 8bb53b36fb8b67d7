"""What the whole app tells an OTLP receiver: one story is played once, and every test looks at what arrived of it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest
from emulators import otlp
from emulators.azure_devops import Emulator, Fault, HostedRepository
from emulators.key_vault import vault
from emulators.key_vault.vault import Answer, StaticCredential
from emulators.otlp import Receiver, Span
from support import postgres
from support.functions import functions
from support.web import ADMIN_KEY, HOOK_KEY, READER_KEY, Api, bearer
from support.world import INVALID, workflow
from werkzeug.serving import make_server

import function_app
from shared import bootstrap, telemetry
from shared.bootstrap import App
from shared.errors import DatabaseUnavailable
from shared.key_vault import KeyVaultSecrets, secret_client
from shared.model import Deadline
from shared.postgres import pool as pools
from shared.postgres.pool import Pool
from shared.telemetry.metrics import METRICS
from shared.telemetry.spans import ERROR, INHERITED, SPANS

PAT = "emulator-personal-access-token"
VAULTED = "sentinel-secret-of-the-vault"
WRONG = "sentinel-wrong-key-0123456789-0123456789"
CONFIG = "etl/sentinel-runtime.yaml"
TRACE, HOST_SPAN, TIMER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Story:
    """What there was to tell, and what was told."""

    received: Receiver
    repo_id: str
    correlation_id: str
    """Of a delivery."""
    commit: str


@pytest.fixture(scope="module")
def story(postgres_server: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("telemetry")
    with (
        otlp.running() as receiver,
        postgres_server.clone() as database,
        Emulator(folder / "organisation", pace=0.001) as emulator,
    ):
        app = bootstrap.build(
            {
                "ENVIRONMENT": "acc",
                "DATABASE_URL": database,
                "AZURE_DEVOPS_ORGANIZATION": emulator.url,
                "AZURE_DEVOPS_PAT": PAT,
                "PUBLIC_URL": "http://127.0.0.1:1",
                "WEBHOOK_SECRET": HOOK_KEY,
                "WEBHOOK_BUDGET_FILES": "1",
                "ADMIN_KEY": ADMIN_KEY,
                "READER_KEYS": f"test={READER_KEY}",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            }
        )
        try:
            hosted, correlation_id, commit = _played(app, emulator, folder)
            _exhausted(database)
        finally:
            app.close()
        yield Story(receiver, hosted.id, correlation_id, commit)


def _played(app: App, emulator: Emulator, folder: Path) -> tuple[HostedRepository, str, str]:
    api = Api(app.wsgi, ADMIN_KEY)
    hosted = emulator.repository("data", "orders")
    server = make_server("127.0.0.1", 0, app.wsgi, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/webhooks/azure-devops"
        emulator.subscribe(address, basicAuthPassword=HOOK_KEY, httpHeaders="X-Correlation-Id: the-delivery")
        commit = hosted.git.commit({CONFIG: workflow(1)})
        emulator.pushed(hosted)
        emulator.delivered()
        # More files than a delivery may fetch are left to the timer.
        hosted.git.commit({f"{number}-runtime.yaml": workflow(number) for number in range(2)})
        emulator.pushed(hosted)
        assert [one.status for one in emulator.delivered()] == [200, 202]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    emulator.subscribe("http://127.0.0.1:1/webhooks/azure-devops", basicAuthPassword=HOOK_KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(function_app, "_built", app)
        functions()["reconcile"].get_user_function()(SimpleNamespace(past_due=False), _host(TIMER_SPAN))
        assert api.get("/runtimes/orders/main").status_code == 200
        assert _read_in_azure() == 200
    assert Api(app.wsgi, WRONG).get("/runtimes/orders/main").status_code == 401
    assert api.get("/nowhere").status_code == 404
    assert api.get(f"/nowhere%3Fcode={WRONG}").status_code == 404
    assert api("MADEUP", "/nowhere").status_code == 404

    # A push that nobody announced, to a branch that is then asked for deeply.
    hosted.git.commit({CONFIG: workflow(2), "broken-runtime.yaml": INVALID})
    _sweep(app)
    api.post("/repositories/orders/sync", query_string={"branch": "main", "deep": "true"})
    app.reconcile.take_along(Deadline.after(timedelta(seconds=5)))

    # The organisation cannot be told a status, then refuses us, and then wants to be left alone.
    emulator.misbehave(Fault.ERROR, route="statuses", status=500)
    hosted.git.commit({CONFIG: workflow(3), "broken-runtime.yaml": None})
    api.post("/repositories/orders/sync", query_string={"branch": "main"})
    emulator.behave()
    emulator.misbehave(Fault.UNAUTHORIZED, route="refs")
    api.post("/repositories/orders/sync", query_string={"branch": "main"})
    app.sweep()
    emulator.behave()
    emulator.misbehave(Fault.SLOW_DOWN, route="refs", times=1, retry_after=None)
    api.post("/repositories/orders/sync", query_string={"branch": "main"})
    _secret(folder)
    return hosted, "the-delivery", commit


def _sweep(app: App) -> None:
    with app.pool.connection() as connection:
        connection.execute("UPDATE repositories SET heads_checked_at = NULL")
    app.sweep()


def _host(span: str) -> Any:
    """What the Functions worker gives a function besides the request: the host's span around it."""
    return SimpleNamespace(trace_context=SimpleNamespace(trace_parent=f"00-{TRACE}-{span}-01", trace_state=""))


def _read_in_azure() -> int:
    request = func.HttpRequest(
        "GET", "https://store.example/runtimes/orders/main", headers=bearer(READER_KEY), body=b""
    )
    answer = functions()["config_api"].get_user_function()(request, _host(HOST_SPAN))
    return int(answer.status_code)


def _secret(folder: Path) -> None:
    """One is read that expires."""
    attributes = {"enabled": True, "exp": 4102444800}
    body = {"value": VAULTED, "id": "https://vault/secrets/admin-key/1", "attributes": attributes}
    with vault.running(folder) as running:
        running.answer = Answer(200, json.dumps(body).encode())
        credential = StaticCredential(running.token)
        options: dict[str, Any] = {"connection_verify": str(running.ca_file), "verify_challenge_resource": False}
        client = secret_client(running.url, credential, **options)
        secrets = KeyVaultSecrets(running.url, lambda: client, ttl=timedelta(minutes=10), environment={})
        assert secrets.get("admin-key") == VAULTED


def _exhausted(database: str) -> None:
    """A pool whose only connection is in use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "ACQUIRE_SECONDS", 1)
        pool = Pool(database, size=1)
        try:
            with pool.connection():
                patch.setattr(pools, "ACQUIRE_SECONDS", 0.05)
                with pytest.raises(DatabaseUnavailable), pool.connection():
                    pass
        finally:
            pool.close()


# -- Metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_of_the_table_arrives_as_it_says(story: Story, metric: Any) -> None:
    points = [point for point in story.received.points if point.metric == metric.name]
    assert points
    assert {(point.kind, point.unit) for point in points} == {(metric.kind, metric.unit)}
    assert {name for point in points for name in point.attributes} == set(metric.attributes)


def test_no_metric_arrives_that_is_not_in_the_table(story: Story) -> None:
    assert {point.metric for point in story.received.points} == {metric.name for metric in METRICS}


def value(story: Story, metric: str, **attributes: Any) -> float:
    """The last value of the one series that has these attributes."""
    points = story.received.of(metric, **attributes)
    assert len({tuple(sorted(point.attributes.items())) for point in points}) == 1, points
    return points[-1].value


def test_a_push_is_counted_and_the_time_until_it_is_served_is_measured(story: Story) -> None:
    assert value(story, "deliveries", decision="requested") == 2
    assert value(story, "syncs", outcome="Deferred", trigger="webhook", reason="budget") == 1
    assert value(story, "syncs", outcome="Replaced", trigger="webhook") == 1
    (served,) = story.received.of("push.served.duration", trigger="webhook")
    assert served.count == 1
    assert 0 < served.value < 60


def test_a_push_that_nobody_announced_is_counted_by_the_sweep_that_finds_it(story: Story) -> None:
    assert value(story, "heads.unannounced") == 1
    assert value(story, "syncs", outcome="Rejected", trigger="sweep") == 1
    assert value(story, "sweep.duration", trigger="timer") > 0


def test_a_source_that_refuses_us_is_told_by_type_and_its_branch_by_name(story: Story) -> None:
    assert value(story, "syncs", outcome="Failed", type="SourceRefused") == 1
    assert value(story, "source.pauses", type="SourceRefused") >= 1
    assert value(story, "branches", condition="AuthenticationFailed") == 1
    assert value(story, "branches", condition="Ready") == 0
    late = {"repository": "orders", "branch": "main"}
    assert 0 < value(story, "branch.not_ready.age", condition="AuthenticationFailed", **late) < 60
    assert 0 < value(story, "branch.served.age", **late) < 60


def test_refused_callers_are_counted_by_the_role_that_they_lack(story: Story) -> None:
    assert value(story, "auth.refusals", role="reader", type="Unauthenticated") == 1


def test_requests_are_measured_by_route_and_status(story: Story) -> None:
    route = "/runtimes/<alias>/<rest:rest>"
    assert [point.count for point in story.received.of("request.duration", route=route, status_code=200)] == [2]
    assert [point.count for point in story.received.of("request.duration", route=route, status_code=401)] == [1]


def test_a_method_that_somebody_made_up_is_no_series_of_its_own(story: Story) -> None:
    known = {"GET", "POST", "PUT", "_OTHER"}
    assert {point.attributes["http.request.method"] for point in story.received.of("request.duration")} <= known
    assert "_OTHER unknown" in {span.name for span in story.received.spans}


def test_the_pool_says_how_large_it_is_and_how_often_it_was_exhausted(story: Story) -> None:
    assert value(story, "pool.limit") == 8
    assert value(story, "pool.connections", state="used") == 0
    assert value(story, "pool.connections", state="idle") >= 1
    assert value(story, "pool.timeouts") == 1


def test_what_azure_devops_says_about_itself_is_told(story: Story) -> None:
    assert value(story, "source.rate_limit.remaining", resource="Concurrency") == 0
    assert value(story, "subscriptions", status="enabled") == 1
    assert value(story, "statuses", outcome="posted") >= 1
    assert value(story, "statuses", outcome="failed", type="SourceFailed") >= 1


def test_the_days_until_a_secret_expires_are_told(story: Story) -> None:
    assert value(story, "secret.expires_in", secret="admin-key") > 365


# -- Spans -----------------------------------------------------------------------------------------------------------


def names_below(story: Story, span: Span) -> set[str]:
    found = story.received.below(span)
    return {one.name for one in found}.union(*(names_below(story, one) for one in found))


def webhook(story: Story) -> Span:
    return story.received.span("POST /webhooks/azure-devops")


def sync(story: Story) -> Span:
    (found,) = [span for span in story.received.below(webhook(story)) if span.name == "sync"]
    return found


def test_a_delivery_is_the_parent_of_its_sync_and_of_every_statement_and_call(story: Story) -> None:
    told = webhook(story).attributes
    assert told["runtime_store.decision"] == "requested"
    assert told["runtime_store.caller"] == "hook"
    assert told["http.response.status_code"] == 200
    assert (webhook(story).kind, webhook(story).parent_id, webhook(story).error) == ("SERVER", "", None)
    assert {"queue.request", "queue.claim", "sync", "POST"} <= {one.name for one in story.received.spans}
    inside = names_below(story, sync(story))
    assert {"registry.get", "GET", "configs.stored", "sync.examine", "sync.write", "configs.replace"} <= inside
    assert {span.trace_id for span in story.received.below(sync(story))} == {webhook(story).trace_id}


def test_a_sync_says_what_it_was_about_and_what_came_of_it(story: Story) -> None:
    told = dict(sync(story).attributes)
    assert told.pop("runtime_store.sync_id")
    assert 0 < told.pop("runtime_store.served_after") < 60
    assert told == {
        "runtime_store.repo_id": story.repo_id,
        "runtime_store.repository": "orders",
        "runtime_store.branch": "main",
        "runtime_store.trigger": "webhook",
        "runtime_store.outcome": "Replaced",
        "runtime_store.commit": story.commit,
    }


def test_git_calls_and_statements_say_what_they_were_for(story: Story) -> None:
    (examine,) = [span for span in story.received.below(sync(story)) if span.name == "sync.examine"]
    call = next(span for span in story.received.below(examine) if span.name == "GET")
    about = {"runtime_store.repository": "orders", "runtime_store.branch": "main", "runtime_store.trigger": "webhook"}
    assert about.items() <= call.attributes.items()
    assert call.kind == "CLIENT"
    assert call.attributes["http.response.status_code"] == 200
    assert "?" not in call.attributes["url.full"]
    (write,) = [span for span in story.received.below(sync(story)) if span.name == "sync.write"]
    (replace,) = story.received.below(write)
    about |= {"db.system.name": "postgresql", "db.query.summary": "configs.replace"}
    assert about | {"runtime_store.repo_id": story.repo_id} == replace.attributes


def test_a_source_that_refuses_is_an_error_of_its_call_and_of_the_sync(story: Story) -> None:
    failed = next(span for span in story.received.spans if span.attributes.get("runtime_store.outcome") == "Failed")
    assert failed.error == failed.attributes["error.type"] == "SourceRefused"
    refused = next(span for span in story.received.below(failed) if span.name == "GET")
    assert (refused.error, refused.attributes["http.response.status_code"]) == ("SourceRefused", 401)


def test_syncs_of_a_sweep_hang_below_it_although_threads_do_them(story: Story) -> None:
    sync = next(one for one in story.received.spans if one.attributes.get("runtime_store.outcome") == "Rejected")
    (sweep,) = [one for one in story.received.spans if one.span_id == sync.parent_id]
    assert sweep.name == "sweep"
    assert (sweep.attributes["runtime_store.trigger"], sweep.attributes["runtime_store.complete"]) == ("timer", True)


def test_in_azure_a_request_hangs_below_the_span_of_the_host_and_is_no_second_request(story: Story) -> None:
    (span,) = [span for span in story.received.spans if span.parent_id == HOST_SPAN]
    assert (span.name, span.trace_id, span.kind) == ("GET /runtimes/<alias>/<rest:rest>", TRACE, "INTERNAL")
    assert names_below(story, span) == {"configs.generation"}


def test_in_azure_a_sweep_hangs_below_the_span_of_the_timer(story: Story) -> None:
    below = {(span.name, span.trace_id) for span in story.received.spans if span.parent_id == TIMER_SPAN}
    assert ("sweep", TRACE) in below


@cache
def patterns() -> dict[str, Any]:
    """Of each sort of span, what its names match; the more special come first."""
    return {
        sort.name: re.compile(
            sort.name.replace("{method} {route}", r"(GET|POST|PUT|DELETE|_OTHER) (/\S*|unknown)")
            .replace("{file}.{statement}", r"(configs|journal|outbox|queue|registry|sweeps)\.[a-z_]+|sql")
            .replace("{method}", "GET|POST|OPTIONS")
            .replace("{command}", r"[a-z-]+")
        )
        for sort in SPANS
    }


def test_every_span_is_of_a_sort_of_the_table_with_its_kind_and_attributes(story: Story) -> None:
    everywhere = {*INHERITED, ERROR, "error.type"}
    seen: dict[str, set[str]] = {}
    for span in story.received.spans:
        sort = next(sort for sort in SPANS if patterns()[sort.name].fullmatch(span.name))
        assert span.kind.lower() in sort.kind
        seen.setdefault(sort.name, set()).update(set(span.attributes) - everywhere)
    declared = {sort.name: set(sort.attributes) - everywhere for sort in SPANS}
    # Only a repository elsewhere is read with the executable: see tests/unit/test_telemetry.py.
    del declared["git {command}"]
    assert seen == declared


def test_every_span_says_which_app_in_which_environment_it_is_of(story: Story) -> None:
    resources = [span.resource for span in story.received.spans]
    told = {(one["service.name"], one["deployment.environment.name"]) for one in resources}
    assert told == {("runtime-store", "acc")}


# -- Logs ------------------------------------------------------------------------------------------------------------


def test_a_log_carries_its_data_and_what_ties_it_to_the_answer_and_the_trace(story: Story) -> None:
    span = webhook(story)
    assert span.attributes["runtime_store.correlation_id"] == story.correlation_id
    ended = next(log for log in story.received.logs if log.message == "A sync ended" and log.trace_id == span.trace_id)
    assert ended.severity == "INFO"
    assert (ended.attributes["outcome"], ended.attributes["branch"]) == ("Replaced", "main")
    assert ended.attributes["correlation_id"] == story.correlation_id


# -- What is never told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [PAT, VAULTED, WRONG, HOOK_KEY, ADMIN_KEY, READER_KEY])
def test_no_secret_is_told(story: Story, secret: str) -> None:
    assert not [body for body in story.received.bodies if secret.encode() in body]


def test_no_value_of_a_statement_nor_text_of_an_error_is_told_in_a_span(story: Story) -> None:
    assert not [span for span in story.received.spans if span.events]
    told = [str(text) for span in story.received.spans for text in (span.error, *span.attributes.values())]
    assert not [text for text in told if CONFIG in text or "workflow-1" in text]


def test_off_nothing_of_it_is_imported_and_a_request_is_answered_all_the_same() -> None:
    script = """
import sys
from werkzeug.test import Client
from shared import bootstrap
app = bootstrap.build({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"})
assert Client(app.wsgi).get("/livez").status_code == 200
app.close()
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "azure.monitor", "google"))))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_after_its_end_the_app_tells_nothing_more(story: Story) -> None:
    assert not telemetry.is_on()
