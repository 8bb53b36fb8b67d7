"""The whole service on this machine, filled from a sample repository: `python3 dev.py demo`.

What it starts it also stops, and what it keeps is in one folder. With the words of a command behind it, such as
`status`, that command of `runtime-store` is run against the demo that is running.
"""

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from examples import embedded_postgres, sample_repository, service_hook
from examples.demo_state import ROOT, DemoFolder, DemoProblem
from examples.demo_words import shown, what_to_try
from shared.cli import logs
from shared.cli.output import printable, progress
from shared.cli.serve import PORT, address, ending_on_signals, listen, run
from shared.errors import RuntimeStoreError
from shared.model import (
    BranchName,
    Budget,
    Deadline,
    Failed,
    Outcome,
    Registration,
    Rejected,
    RepoId,
    SourceName,
    Trigger,
)

if TYPE_CHECKING:
    from shared.bootstrap import App

REPO_ID = RepoId(service_hook.REPO_ID)
FIRST_SYNC = timedelta(seconds=60)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    demo = DemoFolder(options.folder.resolve())
    try:
        if options.command:
            return _run_command(demo, options.command)
        with ending_on_signals():
            _show(demo, options.port, fresh=options.fresh)
        print("Stopped. The data is kept: the same command goes on with it, with --fresh it begins anew.")
    except (DemoProblem, sample_repository.GitProblem, embedded_postgres.CannotRun) as problem:
        print(problem, file=sys.stderr)
        return 1
    except RuntimeStoreError as error:
        print("\n  ".join(filter(None, (error.message, error.hint))), file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"{error.filename} cannot be written. If another user made it (root?), remove it.", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev.py demo",
        description="Runs the whole service on this machine, filled from a sample repository. Ctrl-C stops it.",
        epilog="With a COMMAND of runtime-store, such as `status`: runs that against the demo that is running.",
    )
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier demo kept")
    parser.add_argument(
        "--port", type=_port, default=PORT, help="of 127.0.0.1 (default: %(default)s; 0 takes a free one)"
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".local", help="where it keeps its data (default: .local)"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _run_command(demo: DemoFolder, words: Sequence[str]) -> int:
    """A command of `runtime-store`, with the settings of the demo."""
    told = demo.told()
    if told is None:
        raise DemoProblem("The demo is not running. Start it in another terminal: python3 dev.py demo")
    settings = told["settings"]
    assert isinstance(settings, dict)
    return subprocess.run([sys.executable, "-m", "shared", *words], cwd=ROOT, env=settings_on_top(settings)).returncode


def _show(demo: DemoFolder, port: int, *, fresh: bool) -> None:
    started = time.monotonic()
    sample_repository.require_git()
    with demo.alone(), listen("127.0.0.1", port) as listener, ExitStack() as until_end:
        print("Runtime Store, the demo\n")
        if fresh:
            with _step("Earlier data") as told:
                demo.clear()
                told.append("removed")
        keys = demo.keys()
        with _step("PostgreSQL, embedded") as told:
            database = until_end.enter_context(embedded_postgres.running(demo.postgres, keys["database"]))
            told.append(shown(embedded_postgres.location(demo.postgres)))
        app = _app(settings_on_top(settings := _settings(database, keys)), database)
        until_end.callback(app.close)
        with _step("Sample repository") as told:
            is_new = sample_repository.prepare(demo.repository, demo.running)
            told.append(f"{shown(demo.repository)} ({'made from examples/team' if is_new else 'as it was'})")
        with _step("Register and sync") as told:
            told.extend(_synced(app, _register(app, demo.repository)))
        logs.show(logging.INFO)
        # What comes of a push is told here too; the rest only when something is wrong.
        logging.getLogger("shared.sync").setLevel(logging.INFO)
        with demo.telling(address(listener), settings):
            print(f"\nServing at {address(listener)} after {time.monotonic() - started:.1f} s.\n")
            print(what_to_try(demo, address(listener)), flush=True)
            run(app, listener)
            print("\nStopping ...", flush=True)


@contextmanager
def _step(title: str) -> Iterator[list[str]]:
    """One line for a step, with its seconds; the first thing told stands beside it, the others below."""
    told: list[str] = []
    started = time.monotonic()
    with progress(title):
        yield told
    first, *others = told or [""]
    print(f"  {title:<22}{time.monotonic() - started:5.2f} s   {printable(first)}")
    for line in others:
        print(f"{' ' * 34}{printable(line)}")
    sys.stdout.flush()


# -- What is done ----------------------------------------------------------------------------------------------------


def _settings(database: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Everybody on this machine may read; that is all right for a sample on the loopback interface."""
    return {
        "ENVIRONMENT": "demo",
        "BRANCHES": ",".join(sample_repository.BRANCHES),
        "DATABASE_URL": database,
        "WEBHOOK_SECRET": keys["webhook"],
        "ADMIN_KEY": keys["admin"],
        "READ_ACCESS": "anonymous",
        "AUTO_REGISTER": "false",
        "LOG_LEVEL": "WARNING",
    }


def settings_on_top(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment with our settings, and with none of somebody's own."""
    from shared.settings import SETTINGS

    theirs = {setting.name for setting in SETTINGS}
    return {name: value for name, value in os.environ.items() if name not in theirs} | dict(ours)


def _app(environment: Mapping[str, str], database: str) -> "App":
    with _step("Schema") as told:
        from shared import bootstrap
        from shared.postgres.migrate import REQUIRED_VERSION, migrate

        ran = migrate(database)
        told.append(f"version {REQUIRED_VERSION}" + (f", {len(ran)} new" if ran else ", as it was"))
        return bootstrap.build(environment)


def _register(app: "App", repository: Path) -> Registration:
    branches = tuple(map(BranchName, sample_repository.BRANCHES))
    wanted = Registration(service_hook.NAME, SourceName(str(repository)), branches, project="demo")
    known = app.registry.find(REPO_ID)
    return app.registrar.put(REPO_ID, wanted, expected=known.revision if known else None).registration


def _synced(app: "App", registration: Registration) -> Iterator[str]:
    """Commits may have been made while nobody listened."""
    budget = Budget(Deadline.after(FIRST_SYNC))
    outcomes: dict[BranchName, Outcome] = {}
    for branch in registration.branches:
        app.queue.ask(REPO_ID, [branch])
        outcomes[branch] = app.sync.run(REPO_ID, branch, budget, Trigger.MANUAL, probe=True)
    status = {one.branch: one for one in app.queue.status(REPO_ID)}
    for branch, outcome in outcomes.items():
        commit, configs = status[branch].commit_id, status[branch].configs
        served = f"{branch}@{commit[:8]}: {configs} configs" if commit else f"{branch}: nothing is served"
        match outcome:
            case Rejected(head, report):
                yield f"{served}; {head[:8]} is rejected, findings: {len(report.findings)}"
            case Failed(error):
                yield f"{served}; {error.message}"
            case _:
                yield served


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
