"""Two ways of the same work, measured in turn, and the line that tells them apart.

Only medians and their ratios are told: absolute figures belong to a machine and its mood.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Unit = Literal["s", "B", "calls"]
Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised. `holds` gets our figure and the plain way's."""

    words: str
    holds: Callable[[float, float], bool]


def times_less(factor: float) -> Target:
    return Target(f"{factor:g} x less", lambda ours, plain: ours * factor <= plain)


def at_most_times(factor: float) -> Target:
    return Target(f"at most {factor:g} x", lambda ours, plain: ours <= factor * plain)


def below(limit: int) -> Target:
    return Target(f"below {_shown(limit, 'B')}", lambda ours, _: ours < limit)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line: medians of several measurements, in seconds, bytes or calls to Git."""

    what: str
    ours: float
    plain: float
    target: Target | None = None
    unit: Unit = "s"

    @property
    def is_missed(self) -> bool:
        return self.target is not None and not self.target.holds(self.ours, self.plain)

    def cells(self) -> tuple[str, ...]:
        target = self.target.words if self.target else ""
        verdict = "" if self.target is None else "MISSED" if self.is_missed else "met"
        return self.what, _shown(self.ours, self.unit), _shown(self.plain, self.unit), self._ratio(), target, verdict

    def _ratio(self) -> str:
        if not self.ours or not self.plain:
            return ""
        if self.plain >= self.ours:
            return f"{self.plain / self.ours:,.{_digits(self.plain / self.ours)}f} x less"
        return f"{self.ours / self.plain:,.{_digits(self.ours / self.plain)}f} x more"


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    rows: Sequence[Comparison]

    def __str__(self) -> str:
        lines = [("", "ours", "plain", "ratio", "target", ""), *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join([self.title, *(_aligned(line, widths) for line in lines)])


def seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(rounds: int, *works: tuple[int, Work]) -> list[float]:
    """The median of each work's seconds. They take turns, so that what else the machine does strikes all of them; in
    each turn a work is done as often as said."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for times, (repeats, work) in zip(taken, works, strict=True):
            times.extend([seconds(work) for _ in range(repeats)])
    return list(map(median, taken))


def medians(rows: Iterable[Iterable[float]]) -> list[float]:
    return [median(column) for column in zip(*rows, strict=True)]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    padded = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
    return "  ".join([f"  {first:<{widths[0]}}", *padded]).rstrip()


def _shown(figure: float, unit: Unit) -> str:
    if unit == "calls":
        return f"{figure:,.0f}"
    names = ("s", "ms", "us") if unit == "s" else ("MB", "kB", "B")
    scaled = figure if unit == "s" else figure / 1e6
    for name in names[:-1]:
        if scaled >= 1:
            return f"{scaled:.{_digits(scaled)}f} {name}"
        scaled *= 1000
    return f"{scaled:.0f} {names[-1]}"


def _digits(number: float) -> int:
    return 0 if number >= 20 else 1
