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
from typing import TYPE_CHECKING, Protocol

from examples import embedded_postgres, sample_repository
from examples.demo_local_git import LocalGit
from examples.demo_state import ROOT, DemoFolder, DemoProblem, Source
from examples.demo_words import shown
from shared.cli import logs
from shared.cli.output import printable, progress
from shared.cli.serve import PORT, address, ending_on_signals, listen, run
from shared.errors import RuntimeStoreError
from shared.model import (
    BranchName,
    Budget,
    Deadline,
    Deferred,
    Failed,
    Outcome,
    Rejected,
    Repository,
    Trigger,
)

if TYPE_CHECKING:
    from shared.bootstrap import App

FIRST_SYNC = timedelta(seconds=60)
ORGANIZATION_PORT = 7072


class Host(Protocol):
    """Where the sample repository is. What is yielded is told to the person, line by line."""

    def settings(self, url: str) -> Mapping[str, str]:
        """Those of the app at `url` that only this host needs."""
        ...

    def prepare(self) -> Iterator[str]:
        """Afterwards the repository is there, and a work tree of it for the person."""
        ...

    def register(self, app: "App") -> Repository: ...

    def subscribe(self, app: "App") -> Iterator[str]:
        """Afterwards the app is told of pushes."""
        ...

    def what_to_try(self, url: str) -> str: ...


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    try:
        if options.command:
            return _run_command(_meant(options), options.command)
        with ending_on_signals():
            _show(_folder(options, options.source or Source.LOCAL_GIT), options)
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
    parser.add_argument(
        "--source",
        type=Source,
        choices=list(Source),
        help="what it reads through: Git, or the API of an organization of Azure DevOps that it brings along "
        "(default: local-git; for a COMMAND the one that is running)",
    )
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier demo kept")
    parser.add_argument(
        "--port", type=_port, default=PORT, help="of 127.0.0.1 (default: %(default)s; 0 takes a free one)"
    )
    parser.add_argument(
        "--organization-port",
        type=_port,
        default=ORGANIZATION_PORT,
        help="where the organization is, with --source azure-devops (default: %(default)s)",
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


def _folder(options: argparse.Namespace, source: Source) -> DemoFolder:
    return DemoFolder(options.folder.resolve(), source)


def _meant(options: argparse.Namespace) -> DemoFolder:
    """The demo that a command is for: of those that run, if it was not said."""
    demos = [_folder(options, source) for source in ([options.source] if options.source else Source)]
    return next((demo for demo in demos if demo.is_running), demos[0])


def _run_command(demo: DemoFolder, words: Sequence[str]) -> int:
    """A command of `runtime-store`, with the settings of the demo."""
    told = demo.told()
    if told is None:
        raise DemoProblem("The demo is not running. Start it in another terminal: python3 dev.py demo")
    settings = told["settings"]
    assert isinstance(settings, dict)
    return subprocess.run([sys.executable, "-m", "shared", *words], cwd=ROOT, env=settings_on_top(settings)).returncode


def _show(demo: DemoFolder, options: argparse.Namespace) -> None:
    started = time.monotonic()
    sample_repository.require_git()
    with demo.alone(), listen("127.0.0.1", options.port) as listener, ExitStack() as until_end:
        url = address(listener)
        print("Runtime Store, the demo\n")
        if options.fresh:
            with _step("Earlier data") as told:
                demo.clear()
                told.append("removed")
        keys = demo.keys()
        host = _host(demo, options, until_end)
        with _step("PostgreSQL, embedded") as told:
            database = until_end.enter_context(embedded_postgres.running(demo.postgres, keys["database"]))
            told.append(shown(embedded_postgres.location(demo.postgres)))
        settings = {**_settings(database, keys), **host.settings(url)}
        app = _app(settings_on_top(settings), database)
        until_end.callback(app.close)
        with _step("Sample repository") as told:
            told.extend(host.prepare())
        with _step("Register and sync") as told:
            told.extend(_synced(app, host.register(app)))
            told.extend(host.subscribe(app))
        logs.show(logging.INFO)
        # What comes of a push is told here too; the rest only when something is wrong.
        logging.getLogger("shared.sync").setLevel(logging.INFO)
        with demo.telling(url, settings):
            print(f"\nServing at {url} after {time.monotonic() - started:.1f} s.\n")
            print(host.what_to_try(url), flush=True)
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


def _host(demo: DemoFolder, options: argparse.Namespace, until_end: ExitStack) -> Host:
    if demo.source is Source.LOCAL_GIT:
        return LocalGit(demo)
    sys.path.append(str(ROOT / "tests"))  # where the organisation is
    from examples.demo_azure_devops import hosted

    return until_end.enter_context(hosted(demo, options.organization_port))


def _settings(database: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Everybody on this machine may read; that is all right for a sample on the loopback interface."""
    return {
        "ENVIRONMENT": "demo",
        "BRANCHES": ",".join(sample_repository.BRANCHES),
        "DATABASE_URL": database,
        "WEBHOOK_SECRET": keys["webhook"],
        "ADMIN_KEY": keys["admin"],
        "READ_ACCESS": "anonymous",
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


def _synced(app: "App", repository: Repository) -> Iterator[str]:
    """Commits may have been made while nobody listened."""
    budget = Budget(Deadline.after(FIRST_SYNC))
    outcomes: dict[BranchName, Outcome] = {}
    for branch in repository.registration.branches:
        app.queue.ask(repository.repo_id, [branch])
        outcomes[branch] = app.sync.run(repository.repo_id, branch, budget, Trigger.MANUAL, probe=True)
    status = {one.branch: one for one in app.queue.status(repository.repo_id)}
    for branch, outcome in outcomes.items():
        commit, configs = status[branch].commit_id, status[branch].configs
        served = f"{branch}@{commit[:8]}: {configs} configs" if commit else f"{branch}: nothing is served"
        match outcome:
            case Rejected(head, report):
                yield f"{served}; {head[:8]} is rejected, findings: {len(report.findings)}"
            case Failed(error):
                yield f"{served}; {error.message}"
            case Deferred(message=message):
                yield f"{served}; {message}"
            case _:
                yield served


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
