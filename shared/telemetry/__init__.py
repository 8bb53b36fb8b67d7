"""Spans, metrics, and the ids that tie logs to them.

The API of OpenTelemetry only, and that not before `switch_on`: until then nothing is imported and every call here does
nothing. An error is told by its type: texts may quote what was asked for. The tables are `metrics` and `spans`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar

from shared.telemetry.instruments import Value
from shared.telemetry.metrics import METRICS
from shared.telemetry.spans import ERROR, INHERITED

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

Attributes: TypeAlias = Mapping[str, Value | None]
SpanKind: TypeAlias = Literal["INTERNAL", "CLIENT", "SERVER"]
_P = ParamSpec("_P")
_R = TypeVar("_R")

NAME = "runtime_store"
correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
"""Of the request that is being answered: the header X-Correlation-Id of its answer."""


class Span:
    """A piece of work that does not interest anybody."""

    __slots__ = ()

    def __enter__(self) -> "Span":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        return None

    def set(self, attributes: Attributes) -> None:
        """Say more about it; None says nothing."""

    def rename(self, name: str) -> None: ...

    def fail(self, error: str) -> None:
        """It went wrong; `error` is a type, never a text."""


_SILENT = Span()
_tracer: "Tracer | None" = None
_current: ContextVar[Span] = ContextVar("span", default=_SILENT)


def switch_on(tracers: "TracerProvider | None" = None, meters: "MeterProvider | None" = None) -> None:
    """Measure from now on, with these providers, by default the process's own."""
    from opentelemetry import metrics, trace

    global _tracer
    _tracer = trace.get_tracer(NAME, tracer_provider=tracers)
    meter = metrics.get_meter(NAME, meter_provider=meters)
    for instrument in METRICS:
        instrument.connect(meter)


def switch_off() -> None:
    global _tracer
    _tracer = None
    for instrument in METRICS:
        instrument.disconnect()


def is_on() -> bool:
    return _tracer is not None


def span(name: str, attributes: Attributes | None = None, kind: SpanKind = "INTERNAL") -> Span:
    """A piece of work, for a `with`: what begins inside hangs below it."""
    return _SILENT if _tracer is None else _Recorded(_tracer, name, attributes or {}, kind, is_parent=True)


def request(name: str) -> Span:
    """The span of a request; below the host's, which counts as the server's, an internal one."""
    return _SILENT if _tracer is None else span(name, kind="INTERNAL" if _has_parent() else "SERVER")


def call(name: str, attributes: Attributes | None = None) -> Span:
    """A call to somebody else, for a `with` that may also stand in a generator: nothing hangs below it."""
    return _SILENT if _tracer is None else _Recorded(_tracer, name, attributes or {}, "CLIENT", is_parent=False)


def traced(name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Every call of the function is a span."""

    def decorate(work: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(work)
        def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with span(name):
                return work(*args, **kwargs)

        return inside

    return decorate


def current() -> Span:
    """The span that this code runs in."""
    return _current.get()


@contextmanager
def continued(host: object) -> Iterator[None]:
    """What begins inside hangs below the invocation's span, which Azure Functions tells in the function's context."""
    told = getattr(host, "trace_context", None)
    if _tracer is None or not getattr(told, "trace_parent", None):
        yield
        return
    from opentelemetry import context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": told.trace_parent, "tracestate": told.trace_state or ""}  # type: ignore[union-attr]
    token = context.attach(TraceContextTextMapPropagator().extract(carrier, context.Context()))
    try:
        yield
    finally:
        context.detach(token)


def ids() -> dict[str, str]:
    """What ties a log record to its answer and its trace."""
    found = {"correlation_id": correlation_id.get(), "trace_id": _trace_id() if _tracer else None}
    return {name: value for name, value in found.items() if value}


def _trace_id() -> str | None:
    from opentelemetry import trace

    told = trace.get_current_span().get_span_context()
    return f"{told.trace_id:032x}" if told.is_valid else None


def _has_parent() -> bool:
    return _trace_id() is not None


class _Recorded(Span):
    __slots__ = ("_attributes", "_inherited", "_is_parent", "_kind", "_name", "_span", "_tokens", "_tracer")

    def __init__(self, tracer: "Tracer", name: str, attributes: Attributes, kind: str, *, is_parent: bool) -> None:
        self._tracer, self._name, self._kind, self._is_parent = tracer, name, kind, is_parent
        self._attributes = attributes
        self._inherited: dict[str, Value] = {}
        self._span: Any = None
        self._tokens: Any = None

    def __enter__(self) -> "_Recorded":
        from opentelemetry import context, trace

        parent = _current.get()
        if isinstance(parent, _Recorded):
            self._inherited = dict(parent._inherited)
        self._span = self._tracer.start_span(
            self._name, kind=trace.SpanKind[self._kind], attributes=self._inherited, record_exception=False
        )
        self.set(self._attributes)
        if self._is_parent:
            self._tokens = context.attach(trace.set_span_in_context(self._span)), _current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_parent:
            from opentelemetry import context

            attached, current = self._tokens
            context.detach(attached)
            _current.reset(current)
        # A private exception is how a piece of code ends itself early, and no failure.
        if kind is not None and issubclass(kind, Exception) and not kind.__name__.startswith("_"):
            self.fail(kind.__name__)
        self._span.end()

    def set(self, attributes: Attributes) -> None:
        told = {name: value for name, value in attributes.items() if value is not None}
        self._inherited |= {name: value for name, value in told.items() if name in INHERITED}
        self._span.set_attributes(told)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, error: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        # Azure Monitor keeps the first to itself.
        self._span.set_attributes({"error.type": error, ERROR: error})
        self._span.set_status(Status(StatusCode.ERROR, error))
