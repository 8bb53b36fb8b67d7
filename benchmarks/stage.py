"""What measuring needs: an embedded PostgreSQL with a server's default settings, the wired app, and Git repositories.

Durability is on (fsync, synchronous commit, full-page writes) for both ways alike, as on a production server.
"""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks import workflows
from examples import embedded_postgres
from shared import bootstrap
from shared.bootstrap import App
from shared.model import BranchName, Budget, Deadline, Outcome, Registration, RepoId, Repository, SourceName, Trigger
from shared.postgres.migrate import migrate
from tests.support.git import GitRepository

MAIN = BranchName("main")
READER_KEY = "made-up-reader-key-0123456789abcdef"
_PASSWORD = "made-up-password"
_DURABLE = {"autovacuum": "on", "full_page_writes": "on"}
_COUNTABLE = {"autovacuum": "off", "full_page_writes": "off"}


@dataclass
class Stage:
    """One run of the benchmarks. `quick` asks for small sizes."""

    folder: Path
    server: str
    quick: bool
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def database(self) -> Iterator[str]:
        """The conninfo of a migrated, empty database."""
        name = f"bench_{next(self._numbers)}"
        with psycopg.connect(self.server, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            try:
                conninfo = make_conninfo(self.server, dbname=name)
                migrate(conninfo)
                yield conninfo
            finally:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def team(self, **settings: str) -> "Iterator[Team]":
        """An app on a database of its own, as `settings` and the defaults say."""
        with self.database() as conninfo, wired(conninfo, settings) as app:
            yield Team(app, conninfo)

    def repository(self, count: int) -> GitRepository:
        """A real repository with `count` runtime configs on its main branch."""
        git = GitRepository(self.folder / f"repository-{next(self._numbers)}")
        git.commit(workflows.files(count))
        return git

    @contextmanager
    def countable_wal(self) -> Iterator[None]:
        """Write-ahead log without full-page images, which depend on the last checkpoint, nor autovacuum's."""
        self._configure(_COUNTABLE)
        try:
            yield
        finally:
            self._configure(_DURABLE)

    def _configure(self, settings: Mapping[str, str]) -> None:
        with psycopg.connect(self.server, autocommit=True) as admin:
            for name, value in settings.items():
                admin.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            admin.execute("CHECKPOINT")
            admin.execute("SELECT pg_reload_conf()")


@dataclass
class Team:
    """A wired app, and what a team does with it."""

    app: App
    conninfo: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def register(self, source: os.PathLike[str] | str, name: str | None = None) -> Repository:
        name = name or f"team-{next(self._numbers)}"
        registration = Registration(name, SourceName(os.fspath(source)), (MAIN,))
        return self.app.registrar.put(RepoId(f"id-{name}"), registration, expected=None)

    def remove(self, repository: Repository) -> None:
        self.app.registrar.remove(repository.repo_id, expected=repository.revision)

    def ask(self, repository: Repository) -> None:
        self.app.queue.ask(repository.repo_id, [MAIN])

    def sync(self, repository: Repository) -> Outcome:
        budget = Budget(Deadline.after(timedelta(hours=1)))
        return self.app.sync.run(repository.repo_id, MAIN, budget, Trigger.MANUAL)


@contextmanager
def wired(conninfo: str, settings: Mapping[str, str]) -> Iterator[App]:
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "DATABASE_URL": conninfo,
        "READER_KEYS": f"bench={READER_KEY}",
        **settings,
    }
    app = bootstrap.build(environ)
    try:
        yield app
    finally:
        app.close()


@contextmanager
def ready(*, quick: bool) -> Iterator[Stage]:
    with TemporaryDirectory(prefix="runtime-store-bench-") as name:
        folder = Path(name)
        data = folder / "postgres"
        try:
            with embedded_postgres.running(data, _PASSWORD) as server:
                yield Stage(folder, server, quick)
        finally:
            embedded_postgres.remove(data)
