"""Where spans, metrics and logs are sent: the one room of OpenTelemetry's SDK and of its exporters.

Imported only where somebody set a destination (0.3 s for Azure Monitor, 0.1 s for OTLP). The invariant: telemetry never
delays or fails what it tells about. What cannot be sent is dropped, in threads of its own.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from shared import telemetry
from shared.telemetry import records

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_LONGEST_END = 5.0
"""Seconds for what is left to be sent."""
_LOGGERS = ("shared", "function_app")
_SEVERITIES = {"DEBUG": "DEBUG", "INFO": "INFO", "WARNING": "WARN", "ERROR": "ERROR", "CRITICAL": "FATAL"}


class _Exporters(NamedTuple):
    """To one destination."""

    spans: "SpanExporter"
    metrics: "MetricExporter"
    logs: "LogRecordExporter"


def start(environment: str, *, otlp_endpoint: str | None, connection_string: str | None) -> Callable[[], None]:
    """Send from now on, to each destination that is given; returns what sends the rest and ends it.

    `otlp_endpoint` is a collector's base URL. What else OpenTelemetry's own variables say is read by its SDK, and
    `APPLICATIONINSIGHTS_AUTHENTICATION_STRING` by Azure's exporters.
    """
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = _resource(environment)
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    destinations = list(_destinations(otlp_endpoint, connection_string, tracers))
    readers = [PeriodicExportingMetricReader(one.metrics) for one in destinations]
    meters = MeterProvider(readers, resource, shutdown_on_exit=False)
    loggers = LoggerProvider(resource, shutdown_on_exit=False)
    for one in destinations:
        tracers.add_span_processor(BatchSpanProcessor(one.spans))
        loggers.add_log_record_processor(BatchLogRecordProcessor(one.logs))
    handler = _Handler(loggers.get_logger(telemetry.NAME))
    telemetry.switch_on(tracers, meters)
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)

    def stop() -> None:
        atexit.unregister(stop)
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        _at_once([tracers.shutdown, meters.shutdown, loggers.shutdown])
        telemetry.switch_off()

    # Azure Functions never closes the app: its process just ends.
    atexit.register(stop)
    return stop


def _at_once(works: Sequence[Callable[[], object]]) -> None:
    """Each tries again for ten seconds when nobody is there, and a person waits who has pressed Ctrl-C."""
    give_up_at = time.monotonic() + _LONGEST_END
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))


def _destinations(
    otlp_endpoint: str | None, connection_string: str | None, tracers: "TracerProvider"
) -> Iterator[_Exporters]:
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        url = otlp_endpoint.rstrip("/")
        yield _Exporters(
            OTLPSpanExporter(f"{url}/v1/traces"),
            OTLPMetricExporter(f"{url}/v1/metrics"),
            OTLPLogExporter(f"{url}/v1/logs"),
        )
    if connection_string:
        from azure.monitor.opentelemetry.exporter import (
            AzureMonitorLogExporter,
            AzureMonitorMetricExporter,
            AzureMonitorTraceExporter,
        )

        to = {"connection_string": connection_string}
        yield _Exporters(
            AzureMonitorTraceExporter(**to, tracer_provider=tracers),
            AzureMonitorMetricExporter(**to),
            AzureMonitorLogExporter(**to),
        )


def _resource(environment: str) -> "Resource":
    """What this process is; OpenTelemetry's own variables win."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours: dict[str, str | int] = {
        "service.name": "runtime-store",
        # Pools are a process's own, and so are the sums of its counters.
        "service.instance.id": str(uuid4()),
        "deployment.environment.name": environment,
        "process.pid": os.getpid(),
    }
    return Resource.create(ours).merge(OTELResourceDetector().detect())


class _Handler(logging.Handler):
    """The SDK's own is deprecated, and its successor takes every logger's records."""

    def __init__(self, logger: "Logger") -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except Exception:
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        from opentelemetry._logs import LogRecord, SeverityNumber

        severity = _SEVERITIES.get(record.levelname, "INFO")
        attributes = {name: _plain(value) for name, value in records.data(record).items()}
        attributes["code.function.name"] = f"{record.name}.{record.funcName}"
        if record.exc_info and record.exc_info[0]:
            attributes["exception.type"] = record.exc_info[0].__name__
            attributes["exception.message"] = str(record.exc_info[1])
            attributes["exception.stacktrace"] = logging.Formatter().formatException(record.exc_info)
        self._logger.emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                severity_number=SeverityNumber[severity],
                severity_text=severity,
                body=record.getMessage(),
                attributes=attributes,
            )
        )


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else str(value)
