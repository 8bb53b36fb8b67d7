"""A sweep over an organisation of Azure DevOps whose answers take 20 ms, with nothing to do and with pushes to find.

The plain way asks for each branch, with as many workers; of it only the calls and their waits are counted.
"""

import gc
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg

from benchmarks.comparison import Comparison, Table, at_most_times
from benchmarks.organisation import BRANCHES, TOKEN, Hosted, hosting
from benchmarks.stage import Stage, wired
from shared.bootstrap import App
from shared.model import BranchName, Registration, RepoId, SourceName

_LATENCY = 0.02
_BUDGET = timedelta(minutes=10)


def run(stage: Stage) -> Iterator[Table]:
    count = 30 if stage.quick else 1_000
    with hosting(stage.folder / "organisation", count) as hosted, stage.database() as conninfo:
        settings = {
            "AZURE_DEVOPS_ORGANIZATION": hosted.url,
            "AZURE_DEVOPS_PAT": TOKEN,
            "BRANCHES": ",".join(BRANCHES),
            "COMMIT_STATUSES": "false",
        }
        with wired(conninfo, settings) as app, psycopg.connect(conninfo, autocommit=True) as connection:
            _register(app, hosted)
            app.reconcile.sweep("benchmark", _BUDGET)
            hosted.ask(f"latency {_LATENCY}")
            hosted.ask("calls")
            # What one call costs besides its wait is paid by both ways.
            yield _swept("nothing to do", app, connection, hosted, pushes=0)
            yield _swept("1 % of the repositories pushed", app, connection, hosted, pushes=max(1, count // 100))


def _register(app: App, hosted: Hosted) -> None:
    for number, repo_id in enumerate(hosted.repositories):
        branches = tuple(map(BranchName, BRANCHES))
        registration = Registration(f"team-{number}", SourceName(hosted.url), branches)
        app.registrar.put(RepoId(repo_id), registration, expected=None)


def _swept(what: str, app: App, connection: "psycopg.Connection[object]", hosted: Hosted, pushes: int) -> Table:
    hosted.ask(f"push {pushes}")
    connection.execute("UPDATE repositories SET heads_checked_at = NULL")
    before = _memory()
    started = time.perf_counter()
    summary = app.reconcile.sweep("benchmark", _BUDGET)
    took = time.perf_counter() - started
    grown = max(0, _memory() - before)
    repositories = len(hosted.repositories)
    # A repository whose planned moment comes while the sweep runs is checked twice.
    checks = summary.heads_checked
    assert repositories <= checks <= repositories * 1.1, summary
    assert (summary.moved, summary.is_complete) == (pushes, True), summary
    calls = hosted.ask("calls")
    plain = checks * len(BRANCHES) + pushes * 3
    workers = app.settings.reconcile_workers
    allowed = (checks + pushes * 4) / plain
    return Table(
        f"sweep, {repositories:,} repositories of {len(BRANCHES)} branches, {what}",
        [
            Comparison("calls", sum(calls.values()), plain, at_most_times(allowed), unit="calls"),
            *(Comparison(f"  {route}", number, 0, unit="calls") for route, number in sorted(calls.items())),
            Comparison("wall", took, plain * _LATENCY / workers),
            Comparison("memory grown", grown, 0, unit="B"),
        ],
    )


def _memory() -> int:
    """Bytes that this process holds now; 0 where Linux does not tell."""
    gc.collect()
    told = Path("/proc/self/statm")
    if sys.platform == "win32" or not told.exists():
        return 0
    return int(told.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
