"""The command: `python -m benchmarks [NAME ...] [--quick]`. Ends with 1 when a target is missed.

`python -m benchmarks soak [--pushes N] ...` is no benchmark, and never part of them: it looks for a broken promise.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from benchmarks import imports, listing, memory, reading, replace, soak, stage, sweep, sync, telemetry, validating
from benchmarks.comparison import Table
from examples.embedded_postgres import CannotRun

BENCHMARKS: Mapping[str, Callable[[stage.Stage], Iterator[Table]]] = {
    "imports": imports.run,
    "listing": listing.run,
    "reading": reading.run,
    "telemetry": telemetry.run,
    "replace": replace.run,
    "sync": sync.run,
    "sweep": sweep.run,
    "memory": memory.run,
    "validating": validating.run,
}


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["soak"]:
        return soak.main(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Our way against the plain way.",
        epilog="`soak` is a command of its own, with its own --help.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these, of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, and some of the targets")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    try:
        missed = _run(chosen.names or list(BENCHMARKS), quick=chosen.quick)
    except CannotRun as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{missed} missed." if missed else "Every target that was measured is met.")
    return 1 if missed else 0


def _run(names: list[str], *, quick: bool) -> int:
    """How many targets were missed."""
    missed = 0
    started = time.monotonic()
    print(f"Python {platform.python_version()}. Medians; the ratio is ours against plain.\n", flush=True)
    with stage.ready(quick=quick) as ready:
        for name in names:
            for table in BENCHMARKS[name](ready):
                missed += sum(row.is_missed for row in table.rows)
                print(f"{table}\n", flush=True)
    print(f"{time.monotonic() - started:.0f} s.")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
