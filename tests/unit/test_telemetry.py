"""Spans, instruments and the ids of logs; and what happens when telemetry cannot be sent."""

import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from support.git import GitRepository, environment
from support.telemetry import Told, telling
from werkzeug.test import Client

from shared import bootstrap, telemetry, telemetry_export
from shared.cli.logs import Lines
from shared.local_git.source import LocalGitSource
from shared.model import Deadline, Registration, RepoId, Repository, SourceName
from shared.telemetry import instruments
from shared.telemetry.document import metrics_table, spans_table
from shared.telemetry.instruments import Counter, Gauge
from shared.telemetry.metrics import BRANCH_NOT_READY, METRICS, POOL_WAITING, SWEEP_AGE, SYNCS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
ABOUT = {"runtime_store.repo_id": "r", "runtime_store.branch": "main"}


@pytest.fixture
def told() -> Iterator[Told]:
    with telling() as told:
        yield told


# -- Off -------------------------------------------------------------------------------------------------------------


def test_off_every_span_is_the_same_nothing() -> None:
    with telemetry.span("a", ABOUT) as a, telemetry.call("b") as b, telemetry.request("c") as c:
        assert a is b is c is telemetry.current()
        a.set({"x": 1})
        a.rename("d")
        a.fail("E")
    assert telemetry.ids() == {}


def test_what_was_measured_while_off_is_not_told_later(told: Told) -> None:
    telemetry.switch_off()
    SYNCS.add(1, "Replaced", "webhook", None, None)
    SWEEP_AGE.set(5)
    telemetry.switch_on(TracerProvider(), MeterProvider([reader := InMemoryMetricReader()]))
    data = reader.get_metrics_data()
    assert data is None or not data.resource_metrics


# -- Spans -----------------------------------------------------------------------------------------------------------


def test_spans_nest_and_what_they_are_about_is_handed_down(told: Told) -> None:
    with telemetry.span("sync"):
        telemetry.current().set({**ABOUT, "runtime_store.sync_id": "s"})
        with telemetry.span("sync.write"), telemetry.call("configs.replace", {"db.system.name": "postgresql"}):
            pass
    assert (told.parent("configs.replace"), told.parent("sync.write"), told.parent("sync")) == (
        "sync.write",
        "sync",
        None,
    )
    assert told.spans["sync.write"].attributes == ABOUT
    assert told.spans["configs.replace"].attributes == {**ABOUT, "db.system.name": "postgresql"}


def test_what_happens_while_a_generator_waits_does_not_hang_below_its_call(told: Told) -> None:
    def pieces() -> Iterator[int]:
        with telemetry.call("git cat-file"):
            yield 1
            yield 2

    with telemetry.span("sync"):
        for number in pieces():
            with telemetry.call(f"queue.renew {number}"):
                pass
        assert telemetry.current() is not None
    assert {told.parent(name) for name in told.spans if name != "sync"} == {"sync"}


def test_an_error_is_told_by_its_type_and_never_by_its_text(told: Told) -> None:
    with pytest.raises(ValueError, match="secret"), telemetry.span("sync"):
        raise ValueError("a secret")
    span = told.spans["sync"]
    assert not span.status.is_ok
    assert span.attributes == {"error.type": "ValueError", "runtime_store.error": "ValueError"}
    assert (span.status.description, list(span.events)) == ("ValueError", [])


def test_code_that_ends_itself_early_has_not_failed(told: Told) -> None:
    class _Stop(Exception):
        pass

    with pytest.raises(_Stop), telemetry.span("sync.examine"):
        raise _Stop
    assert told.spans["sync.examine"].attributes == {}
    assert told.spans["sync.examine"].status.is_unset


def test_none_says_nothing(told: Told) -> None:
    with telemetry.span("sync", {"runtime_store.reason": None}):
        pass
    assert told.spans["sync"].attributes == {}


@pytest.mark.parametrize("parent", [None, "", "nonsense", "00-00000000000000000000000000000000-0000000000000000-01"])
def test_without_a_usable_span_of_the_host_a_request_is_the_first(told: Told, parent: str | None) -> None:
    trace = SimpleNamespace(trace_parent=parent, trace_state=None)
    for host in (None, SimpleNamespace(), SimpleNamespace(trace_context=trace)):
        with telemetry.continued(host), telemetry.request("GET /livez"):
            pass
    assert [(span.parent, span.kind.name) for span in told.exporter.get_finished_spans()] == [(None, "SERVER")] * 3


def test_the_git_executable_is_told_by_its_command(told: Told, tmp_path: Path) -> None:
    git = GitRepository(tmp_path / "team")
    git.commit({"a-runtime.yaml": b"a: 1"})
    source = LocalGitSource(timeout=timedelta(seconds=20), environment=environment())
    registration = Registration("team", SourceName(str(git.path)), ())
    moment: Any = None
    source.heads(Repository(RepoId("r"), registration, 1, moment, moment), Deadline.after(timedelta(seconds=20)))
    assert told.spans
    assert all(re.fullmatch(r"git [a-z-]+", name) for name in told.spans)
    assert {span.kind.name for span in told.spans.values()} == {"CLIENT"}
    assert str(tmp_path) not in str([(span.name, dict(span.attributes or {})) for span in told.spans.values()])


# -- Instruments -----------------------------------------------------------------------------------------------------


def test_an_instrument_takes_exactly_its_attributes(told: Told) -> None:
    with pytest.raises(ValueError, match="zip"):
        SYNCS.add(1, "Replaced")


def test_a_gauge_that_was_not_measured_again_falls_silent(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(instruments, "time", SimpleNamespace(monotonic=lambda: now))
    SWEEP_AGE.set(61)
    assert told.points(SWEEP_AGE.name) == {(): 61}
    now += 149
    assert told.points(SWEEP_AGE.name) == {(): 61}
    now += 2
    assert told.points(SWEEP_AGE.name) == {}


def test_a_branch_that_became_ready_is_not_told_any_more(told: Told) -> None:
    late, other = ("team", "main", "Invalid"), ("other", "main", "Invalid")
    BRANCH_NOT_READY.replace([(10, late), (20, other)])
    assert told.points(BRANCH_NOT_READY.name) == {late: 10, other: 20}
    BRANCH_NOT_READY.replace([(30, other)])
    assert told.points(BRANCH_NOT_READY.name) == {other: 30}


def test_a_watched_gauge_is_looked_at_whenever_values_are_collected(told: Told) -> None:
    values = iter([3.0, 0.0])
    POOL_WAITING.watch(lambda: [(next(values), ())])
    assert [told.points(POOL_WAITING.name) for _ in range(2)] == [{(): 3.0}, {(): 0.0}]


# -- Logs ------------------------------------------------------------------------------------------------------------


def test_a_log_line_names_the_answer_and_the_trace_it_belongs_to(told: Told) -> None:
    record = logging.makeLogRecord({"msg": "A sync ended", "levelname": "INFO", "outcome": "Replaced"})
    token = telemetry.correlation_id.set("c-1")
    try:
        with telemetry.span("sync"):
            line = Lines().format(record)
    finally:
        telemetry.correlation_id.reset(token)
    trace_id = f"{told.spans['sync'].context.trace_id:032x}"
    assert line.endswith(f"INFO A sync ended outcome=Replaced correlation_id=c-1 trace_id={trace_id}")
    assert Lines().format(record).endswith("A sync ended outcome=Replaced")


# -- What cannot be sent ---------------------------------------------------------------------------------------------


def test_an_app_whose_telemetry_cannot_be_sent_works_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(*_: object, **__: object) -> None:
        raise ValueError("no such place")

    monkeypatch.setattr(telemetry_export, "start", start)
    place = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    app = bootstrap.build({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", **place})
    assert Client(app.wsgi).get("/livez").status_code == 200
    app.close()
    assert "Telemetry cannot be sent" in caplog.messages


# -- The page --------------------------------------------------------------------------------------------------------


def test_the_page_holds_the_tables_of_the_code() -> None:
    assert metrics_table() in PAGE, "python -m shared.telemetry prints the tables of docs/telemetry.md"
    assert spans_table() in PAGE, "python -m shared.telemetry prints the tables of docs/telemetry.md"


def test_every_name_on_the_page_is_one_of_the_tables() -> None:
    known = set(re.findall(r"runtime_store\.[a-z_.]*[a-z]", metrics_table() + spans_table()))
    assert set(re.findall(r"runtime_store\.[a-z_.]*[a-z]", PAGE)) <= known


def test_a_name_is_used_once() -> None:
    names = [one.name for one in METRICS]
    assert len(set(names)) == len(names)
    assert all(isinstance(one, Counter | Gauge | instruments.Histogram) for one in METRICS)
