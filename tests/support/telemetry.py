"""What the code tells, kept in memory by the SDK's own collectors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import telemetry


@dataclass
class Told:
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def parent(self, name: str) -> str | None:
        """The name of the span that it hangs below."""
        parent = self.spans[name].parent
        if parent is None:
            return None
        return next(span.name for span in self.spans.values() if span.context.span_id == parent.span_id)

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Values by the values of their attributes."""
        data = self.reader.get_metrics_data()
        found = [] if data is None else [one for of in data.resource_metrics for one in of.scope_metrics[0].metrics]
        return {
            tuple((point.attributes or {}).values()): point.value  # type: ignore[union-attr]
            for metric in found
            for point in metric.data.data_points
            if metric.name == name
        }


@contextmanager
def telling() -> Iterator[Told]:
    told = Told(InMemorySpanExporter(), InMemoryMetricReader())
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([told.reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(told.exporter))
    telemetry.switch_on(tracers, meters)
    try:
        yield told
    finally:
        telemetry.switch_off()
        tracers.shutdown()
        meters.shutdown()
