"""The tables of `docs/telemetry.md`."""

from shared.telemetry.metrics import METRICS
from shared.telemetry.spans import SPANS


def metrics_table() -> str:
    return "\n".join(
        [
            "| metric | kind | unit | attributes | meaning |",
            "|---|---|---|---|---|",
            *(
                f"| `{one.name}` | {one.kind} | `{one.unit}` | {_listed(one.attributes)} | {one.meaning} |"
                for one in METRICS
            ),
        ]
    )


def spans_table() -> str:
    return "\n".join(
        [
            "| span | kind | attributes | meaning |",
            "|---|---|---|---|",
            *(f"| `{one.name}` | {one.kind} | {_listed(one.attributes)} | {one.meaning} |" for one in SPANS),
        ]
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
