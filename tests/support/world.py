"""Everything that a sync needs, on real parts: a database, Git repositories, the shipped rules.

`Watched` stands around the Git source or the config store: it lets a test do something just before or after one of
their calls, which is how another worker, a person or a fault gets in between.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from support.git import GitRepository, environment
from support.web import KEYS

from shared.azure_devops.events import decode
from shared.by_hand import ByHand
from shared.examination import Examiner
from shared.intake import Intake
from shared.local_git.source import LocalGitSource
from shared.model import (
    BranchName,
    BranchStatus,
    Budget,
    Deadline,
    Outcome,
    Registration,
    RepoId,
    Repository,
    SourceName,
    Trigger,
)
from shared.postgres.configs import PostgresConfigReader, PostgresConfigStore
from shared.postgres.journal import PostgresJournal
from shared.postgres.pool import Pool
from shared.postgres.queue import PostgresQueue
from shared.postgres.registry import PostgresRegistry
from shared.postgres.sweeps import PostgresSweeps
from shared.reconcile import Reconcile
from shared.registration import Registrar
from shared.rules import Rules
from shared.sync import Sync
from shared.web.access import Access
from shared.web.app import App, create_app
from shared.web.services import Limits, Services

MAIN = BranchName("main")


class Watched:
    """The wrapped object, with `calls` counted by name, and actions once `before` or `after` a call."""

    def __init__(self, wrapped: object) -> None:
        self._wrapped = wrapped
        self.calls: Counter[str] = Counter()
        self.order: list[str] = []
        self.before: dict[str, list[Callable[[], object]]] = defaultdict(list)
        self.after: dict[str, list[Callable[[], object]]] = defaultdict(list)
        self.instead: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, name, getattr(self._wrapped, name))

    def _call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.calls[name] += 1
        self.order.append(name)
        _run(self.before[name])
        result = self.instead.get(name, method)(*args, **kwargs)
        _run(self.after[name])
        return result


def _run(actions: list[Callable[[], object]]) -> None:
    """Those that are there now: an action may put itself there again, for the next call."""
    due, actions[:] = actions[:], []
    for action in due:
        action()


def workflow(number: int = 1, **more: object) -> bytes:
    """A small valid runtime config; `number` tells one from another."""
    value = {"id": f"workflow-{number}", "description": "A workflow", "enabled": True, "jobs": [], **more}
    return json.dumps({"workflow": value}).encode()


INVALID = json.dumps({"workflow": {"id": "x", "description": "no jobs", "enabled": True}}).encode()
"""Well-formed YAML that is no Samara workflow."""
NOT_YAML = b"workflow: [unclosed\n"


def budget(seconds: float = 30, files: int | None = None) -> Budget:
    return Budget(Deadline.after(timedelta(seconds=seconds)), files)


class World:
    workers = 3
    """Of a sweep."""

    def __init__(self, pool: Pool, folder: Path, *, rules: Rules | None = None, lease: timedelta | None = None) -> None:
        self.pool = pool
        self.folder = folder
        self.registry = PostgresRegistry(pool)
        self.queue = Watched(PostgresQueue(pool, **({} if lease is None else {"lease": lease})))
        self.store = Watched(PostgresConfigStore(pool))
        self.reader = PostgresConfigReader(pool)
        self.journal = PostgresJournal(pool)
        self.sweeps = PostgresSweeps(pool)
        self.git = Watched(LocalGitSource(timeout=timedelta(seconds=20), environment=environment()))
        self.registrar = Registrar(
            self.registry, branches=[MAIN], url_template=f"{folder.as_posix()}/{{project}}/{{repository}}"
        )
        self.tell: Callable[[Deadline], object] = lambda deadline: None
        self.use(rules or Rules.shipped())

    def use(self, rules: Any) -> None:
        """From now on judge by these rules, as after an upgrade of the app."""
        self.examiner = Examiner(self.git, rules)
        self.sync = Sync(self.registry, self.queue, self.store, self.git, self.examiner)
        self.by_hand = ByHand(self.sync, self.registry, self.queue, self.store, self.git, self.examiner, self.announce)
        self.reconcile = Reconcile(
            self.sweeps,
            self.queue,
            self.journal,
            self.git,
            self.examiner,
            self.sync,
            self.announce,
            workers=self.workers,
            retention=timedelta(days=30),
        )
        take_along = self.reconcile.take_along
        self.intake = Intake(self.registrar, self.queue, self.git, self.sync, take_along, self.announce)

    def announce(self, deadline: Deadline) -> None:
        """What deliveries and sweeps end with; `tell` is what it does."""
        self.tell(deadline)

    def wsgi(self, limits: Limits | None = None) -> App:
        """The HTTP app over all of it."""
        services = Services(
            configs=self.reader,
            registry=self.registry,
            queue=self.queue,
            journal=self.journal,
            by_hand=self.by_hand,
            registrar=self.registrar,
            intake=self.intake,
            reconcile=self.reconcile,
            decode=decode,
        )
        return create_app(services, Access(lambda: KEYS), limits)

    def repository(
        self, name: str = "team", *, branches: tuple[str, ...] = ("main",), repo_id: str | None = None, **more: Any
    ) -> "Team":
        git = GitRepository(self.folder / name)
        registration = Registration(name, SourceName(str(git.path)), tuple(map(BranchName, branches)), **more)
        return Team(self, git, self.registrar.put(RepoId(repo_id or f"id-{name}"), registration, expected=None))

    def execute(self, statement: Any, *parameters: object) -> None:
        """What a person with psql does."""
        with self.pool.connection() as connection:
            connection.execute(statement, parameters)

    def sweep(self, seconds: float = 30) -> Any:
        return self.reconcile.sweep("test", timedelta(seconds=seconds))

    def make_head_checks_due(self) -> None:
        self.execute("UPDATE repositories SET heads_checked_at = NULL")

    def let_back_off_pass(self) -> None:
        self.execute("UPDATE branches SET next_attempt_at = NULL")


class Team:
    """One registered repository: what its owners do, and what they see."""

    def __init__(self, world: World, git: GitRepository, repository: Repository) -> None:
        self.world = world
        self.git = git
        self.repository = repository

    @property
    def repo_id(self) -> RepoId:
        return self.repository.repo_id

    def sync(self, branch: str = "main", *, trigger: Trigger = Trigger.MANUAL, **more: Any) -> Outcome:
        """Ask for a sync and run it."""
        self.ask(branch)
        return self.run(branch, trigger=trigger, **more)

    def ask(self, branch: str = "main", *, deep: bool = False) -> None:
        self.world.queue.ask(self.repo_id, [BranchName(branch)], deep=deep)

    def run(
        self, branch: str = "main", *, trigger: Trigger = Trigger.MANUAL, within: Budget | None = None, **more: Any
    ) -> Outcome:
        return self.world.sync.run(self.repo_id, BranchName(branch), within or budget(), trigger, **more)

    def change(self, **changes: Any) -> None:
        """Change the registration, as an owner does."""
        current = self.world.registry.get(self.repo_id)
        self.repository = self.world.registrar.put(
            self.repo_id, replace(current.registration, **changes), expected=current.revision
        )

    def served(self, branch: str = "main") -> Mapping[str, Any] | None:
        """Every config that a reader gets, by path; None when the branch serves nothing."""
        listing = self.world.reader.listing(self.repo_id, BranchName(branch))
        return None if listing is None else {item.filepath: json.loads(item.config) for item in listing.items}

    def numbers(self, branch: str = "main") -> Mapping[str, str] | None:
        """The served configs made by `workflow`, by path: which one is it?"""
        served = self.served(branch)
        return None if served is None else {path: value["workflow"]["id"] for path, value in served.items()}

    def status(self, branch: str = "main") -> BranchStatus:
        found: Sequence[BranchStatus] = self.world.queue.status(self.repo_id)
        return next(status for status in found if status.branch == branch)

    def outcomes(self, branch: str = "main") -> list[str]:
        """Of every ended sync, the oldest first."""
        records = self.world.journal.syncs(self.repo_id, BranchName(branch), 100)
        return [record.outcome for record in reversed(records)]

    def drop(self) -> None:
        with suppress(FileNotFoundError):
            self.git.path.rename(self.git.path.with_suffix(".gone"))

    def restore(self) -> None:
        self.git.path.with_suffix(".gone").rename(self.git.path)
