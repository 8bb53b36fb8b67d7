"""What a soak tells at its end."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.soak.program import Soak

_CHECKED = ("lists", "items", "pages")


def told(soak: "Soak") -> str:
    options, calm, troubled = soak.options, soak.watch.calm, soak.watch.troubled
    kinds, faults, network = soak.people.kinds, soak.faults.counts, soak.network.counts
    checked = sum(count for what, count in soak.reads.items() if what.startswith(_CHECKED))
    rate = soak.pushes / max(soak.seconds, 0.001)
    lines = [
        "",
        f"Soak of {soak.pushes:,} pushes in {soak.seconds / 60:.1f} minutes ({rate:.1f} a second, quiet moments "
        f"included), {options.repositories} repositories, 2 servers, seed {options.seed}.",
        f"  pushes         {_listed(kinds)}",
        f"  faults         {faults.total():,}: {_listed(faults)}",
        f"  deliveries     {_listed(network)}",
        f"  sweeps         {_listed(soak.timer.counts)}",
        f"  reads checked  {checked:,}: {_listed(soak.reads)}",
        f"  quiet          {len(soak.quiet)} moments, every branch as it has to be after {_times(soak.quiet)}",
        f"  to be served   without faults  {_times(calm)}",
        f"                 with faults     {_times(troubled)}",
        f"                 all             {_times([*calm, *troubled])}; {soak.returned} led back to what was served",
        f"  violations     {soak.violations:,}",
        *(f"    {one}" for one in soak.examples),
        "Durations belong to this machine, and to what else it did.",
    ]
    return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return " · ".join(f"{what} {count:,}" for what, count in counts.most_common()) or "none"


def _times(seconds: Sequence[float]) -> str:
    if not seconds:
        return "nothing to measure"
    ordered = sorted(seconds)
    p50, p95 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.95))
    return f"p50 {p50:.2f} s, p95 {p95:.2f} s, max {ordered[-1]:.2f} s ({len(ordered):,})"
