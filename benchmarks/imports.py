"""What a cold start waits for before it can register the functions, against what no function app can do without."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.comparison import Comparison, Table, at_most_times, medians
from benchmarks.stage import Stage

_ROOT = Path(__file__).parents[1]
_TIMED = "import time; started = time.perf_counter(); import {}; print(time.perf_counter() - started)"
_MODULES = ("function_app", "azure.functions")


def run(stage: Stage) -> Iterator[Table]:
    rounds = 3 if stage.quick else 9
    for module in _MODULES:
        _imported(module)  # Compiles what is not.
    ours, plain = medians([[_imported(module) for module in _MODULES] for _ in range(rounds)])
    yield Table(
        "import in a new process", [Comparison("function_app, azure.functions", ours, plain, at_most_times(1.6))]
    )


def _imported(module: str) -> float:
    """Seconds, without those of the interpreter's own start."""
    command = [sys.executable, "-c", _TIMED.format(module)]
    return float(subprocess.run(command, cwd=_ROOT, check=True, capture_output=True).stdout)
