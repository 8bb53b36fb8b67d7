"""A real PostgreSQL for tests: the server of the embedded wheel, one migrated template, a clone for each test."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from examples import embedded_postgres
from shared.postgres.migrate import migrate

TEMPLATE = "runtime_store_template"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class Server:
    """A running server; `clone()` gives a fresh migrated database."""

    def __init__(self, conninfo: str) -> None:
        self._numbers = itertools.count(1)
        self.conninfo = conninfo
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
    try:
        with embedded_postgres.running(folder, "made-up") as conninfo:
            yield Server(conninfo)
    finally:
        embedded_postgres.remove(folder)
