"""What telemetry costs a read: while it is off, and while it is on and its exporters take everything at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks import reading, workflows
from benchmarks.comparison import Comparison, Table, in_turn, times_less
from benchmarks.stage import MAIN, Stage
from shared import telemetry
from shared.telemetry import metrics

_REPEATS = 100


def run(stage: Stage) -> Iterator[Table]:
    rounds = 200 if stage.quick else 2_000
    with stage.team() as team:
        repository = reading._served(team, stage.repository(100).path)
        url = f"/runtimes/{repository.name}/{MAIN}/{workflows.path(17)}"
        read = partial(reading._call, team, reading._get(url), "200 OK")
        said, off = in_turn(rounds, (1, _said), (1, read))
        with _switched_on():
            (on,) = in_turn(rounds, (1, read))
        yield Table(
            "telemetry of one read",
            [
                Comparison("off, the read that it is in", said / _REPEATS, off, times_less(50)),
                Comparison("a read with it on, with it off", on, off),
            ],
        )


def _said() -> None:
    """All that a read of one config says to telemetry, a hundred times."""
    for _ in range(_REPEATS):
        token = telemetry.correlation_id.set("0123456789abcdef")
        with telemetry.continued(None), telemetry.request("GET"):
            about = {"db.system.name": "postgresql", "db.query.summary": "configs.item"}
            with telemetry.call("configs.item", about):
                pass
            if telemetry.is_on():
                metrics.REQUESTS.record(0.0, "GET", None, 200)
        telemetry.correlation_id.reset(token)


@contextmanager
def _switched_on() -> Iterator[None]:
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    telemetry.switch_on(tracers, MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))
    try:
        yield
    finally:
        telemetry.switch_off()
        tracers.shutdown()
