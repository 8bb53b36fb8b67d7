"""Peak memory of a whole cold sync, each way in a process of its own; that of an idle process is in both.

`python -m benchmarks.memory ours|plain CONNINFO PATH` is that process: it prints the most bytes it ever held.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks import plain
from benchmarks.comparison import Comparison, Table
from benchmarks.stage import Stage, Team, wired
from shared.model import Replaced

_ROOT = Path(__file__).parents[1]


def run(stage: Stage) -> Iterator[Table]:
    count = 300 if stage.quick else 10_000
    git = stage.repository(count)
    with stage.database() as conninfo:
        ours, usual = (_peak_of(way, conninfo, git.path) for way in ("ours", "plain"))
    yield Table(f"peak memory, {count:,} files, cold", [Comparison("the syncing process", ours, usual, unit="B")])


def _peak_of(way: str, conninfo: str, source: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", way, conninfo, str(source)]
    return float(subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE).stdout)


def _ours(conninfo: str, source: Path) -> None:
    with wired(conninfo, {}) as app:
        team = Team(app, conninfo)
        outcome = team.sync(team.register(source))
        assert isinstance(outcome, Replaced), outcome


def _plain(conninfo: str, source: Path) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(plain.TABLE)
        plain.sync(connection, source, plain.validator())


def _peak() -> int:
    """Bytes. Where Linux tells it, that of this program alone: `ru_maxrss` starts with what its parent held."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text("ascii"))):
        return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    way, conninfo, source = sys.argv[1:]
    {"ours": _ours, "plain": _plain}[way](conninfo, Path(source))
    print(_peak())
