"""What can be measured. An instrument that no exporter was switched on for does nothing, in a tenth of a microsecond.

Attributes are declared with the instrument and given in that order, so that the table, the page made from it and what
is sent cannot differ; None leaves one out.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

Value: TypeAlias = str | bool | int | float
Point: TypeAlias = tuple[float, tuple[Value | None, ...]]
"""A value, and its attributes in the order of the instrument's."""


class Instrument(ABC):
    kind: ClassVar[str]

    def __init__(self, name: str, unit: str, meaning: str, *attributes: str) -> None:
        self.name = f"runtime_store.{name}"
        self.unit = unit
        self.meaning = meaning
        self.attributes = attributes
        self._put: Callable[..., object] | None = None

    @abstractmethod
    def connect(self, meter: "Meter") -> None:
        """From now on, what is measured goes to `meter`."""

    def disconnect(self) -> None:
        self._put = None

    def _named(self, values: Sequence[Value | None]) -> dict[str, Value]:
        return {name: value for name, value in zip(self.attributes, values, strict=True) if value is not None}


class Counter(Instrument):
    kind = "counter"

    def connect(self, meter: "Meter") -> None:
        self._put = meter.create_counter(self.name, self.unit, self.meaning).add

    def add(self, amount: float, *values: Value | None) -> None:
        if self._put is not None:
            self._put(amount, self._named(values))


class Histogram(Instrument):
    kind = "histogram"

    BOUNDARIES: ClassVar = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
    """Seconds: from a read out of the cache to a push that waited for a source for an hour."""

    def connect(self, meter: "Meter") -> None:
        self._put = meter.create_histogram(
            self.name, self.unit, self.meaning, explicit_bucket_boundaries_advisory=self.BOUNDARIES
        ).record

    def record(self, value: float, *values: Value | None) -> None:
        if self._put is not None:
            self._put(value, self._named(values))


class Gauge(Instrument):
    """Values as of now. One that was set long ago is not told: what measured it may be gone, and it may not be true."""

    kind = "gauge"

    def __init__(
        self, name: str, unit: str, meaning: str, *attributes: str, fresh_for: timedelta = timedelta(seconds=150)
    ) -> None:
        super().__init__(name, unit, meaning, *attributes)
        self._fresh_for = fresh_for.total_seconds()
        self._lock = Lock()
        self._set: dict[tuple[Value | None, ...], tuple[float, float]] = {}
        self._look: Callable[[], Iterable[Point]] = tuple

    def connect(self, meter: "Meter") -> None:
        # A provider keeps an instrument's first callbacks when it is asked for the same one again.
        meter.create_observable_gauge(self.name, [self._observe], self.unit, self.meaning)
        self._put = self._keep

    def disconnect(self) -> None:
        super().disconnect()
        self._set, self._look = {}, tuple

    def set(self, value: float, *values: Value | None) -> None:
        if self._put is not None:
            self._put(value, values)

    def replace(self, points: Iterable[Point]) -> None:
        """These are all: what was set before is not told any more."""
        if self._put is not None:
            now = time.monotonic()
            with self._lock:
                self._set = {values: (value, now) for value, values in points}

    def watch(self, look: Callable[[], Iterable[Point]]) -> None:
        """Look whenever values are collected."""
        if self._put is not None:
            self._look = look

    def _keep(self, value: float, values: tuple[Value | None, ...]) -> None:
        with self._lock:
            self._set[values] = value, time.monotonic()

    def _observe(self, _options: "CallbackOptions") -> "Iterator[Observation]":
        from opentelemetry.metrics import Observation

        now = time.monotonic()
        with self._lock:
            self._set = {values: kept for values, kept in self._set.items() if now - kept[1] < self._fresh_for}
            points: list[Any] = [(value, values) for values, (value, _) in self._set.items()]
        for value, values in (*points, *self._look()):
            yield Observation(value, self._named(values))
