"""Receivers of telemetry: OTLP over HTTP with protobuf, and the ingestion endpoint of Azure Monitor.

Written from https://opentelemetry.io/docs/specs/otlp/#otlphttp, with the protocol's own messages, and from what Azure
Monitor's exporter posts to `/v2.1/track`.
"""

import gzip
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    name: str
    kind: str
    """`INTERNAL`, `CLIENT` or `SERVER`."""
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, Any]
    error: str | None
    """The description of its status, if that is an error."""
    resource: Mapping[str, Any]
    events: int


@dataclass(frozen=True)
class Point:
    """One value of a metric. Of a histogram, `value` is the sum and `count` how many it was made of."""

    metric: str
    kind: str
    unit: str
    attributes: Mapping[str, Any]
    value: float
    count: int | None = None


@dataclass(frozen=True)
class Log:
    message: str
    severity: str
    trace_id: str
    attributes: Mapping[str, Any]


@dataclass
class Receiver:
    """What arrived, in order."""

    url: str
    spans: list[Span] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    envelopes: list[dict[str, Any]] = field(default_factory=list)
    """Of Azure Monitor."""
    bodies: list[bytes] = field(default_factory=list)

    def span(self, name: str) -> Span:
        """The first of that name."""
        return next(span for span in self.spans if span.name == name)

    def below(self, parent: Span) -> list[Span]:
        return [span for span in self.spans if span.parent_id == parent.span_id]

    def of(self, metric: str, **attributes: Any) -> list[Point]:
        """Points that have at least these attributes, told by what stands behind their last dot."""
        return [
            point
            for point in self.points
            if point.metric == f"runtime_store.{metric}"
            and attributes.items()
            <= {name.rpartition(".")[2]: value for name, value in point.attributes.items()}.items()
        ]

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        match path:
            case "/v1/traces":
                self.spans += _spans(ExportTraceServiceRequest.FromString(body))
            case "/v1/metrics":
                self.points += _points(ExportMetricsServiceRequest.FromString(body))
            case "/v1/logs":
                self.logs += _logs(ExportLogsServiceRequest.FromString(body))
            case "/v2.1/track":
                self.envelopes += json.loads(body)


@contextmanager
def running() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            before = len(receiver.envelopes)
            receiver.take(self.path, gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            taken = len(receiver.envelopes) - before
            answer = json.dumps({"itemsReceived": taken, "itemsAccepted": taken, "errors": []}).encode()
            answer = answer if self.path.startswith("/v2") else b""
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(request: Any) -> Iterator[Span]:
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for span in (span for scope in of_resource.scope_spans for span in scope.spans):
            yield Span(
                span.name,
                {1: "INTERNAL", 2: "SERVER", 3: "CLIENT"}[span.kind],
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                _attributes(span.attributes),
                span.status.message if span.status.code == 2 else None,
                resource,
                len(span.events),
            )


def _points(request: Any) -> Iterator[Point]:
    for metric in (metric for of in request.resource_metrics for scope in of.scope_metrics for metric in scope.metrics):
        kind = {"sum": "counter", "gauge": "gauge", "histogram": "histogram"}[metric.WhichOneof("data")]
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            about = metric.name, kind, metric.unit, _attributes(point.attributes)
            if kind == "histogram":
                yield Point(*about, point.sum, point.count)
            else:
                yield Point(*about, getattr(point, point.WhichOneof("value")))


def _logs(request: Any) -> Iterator[Log]:
    for record in (record for of in request.resource_logs for scope in of.scope_logs for record in scope.log_records):
        attributes = _attributes(record.attributes)
        yield Log(record.body.string_value, record.severity_text, record.trace_id.hex(), attributes)


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
