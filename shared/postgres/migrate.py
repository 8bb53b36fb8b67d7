"""Schema changes: plain SQL files, run by a deploy step, never when a function starts.

All pending files run in one transaction, in the order of their numbers, under a lock that ends with it: two migrations
at once wait for each other, and a failing one leaves no trace.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import Connection, IsolationLevel, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from shared.errors import DatabaseUnavailable, InvalidRequest
from shared.postgres.connecting import secured

FOLDER = Path(__file__).with_name("migrations")
_FILE = re.compile(r"^(\d{4})_([a-z0-9]+(?:_[a-z0-9]+)*)\.sql$")
_LOCK = 0x52_53_4D_49  # "RSMI": any number that nothing else in the database uses

_LOCK_TIMEOUT: LiteralString = "SET LOCAL lock_timeout = '3s'"
_REPEATS = 4
"""The app goes on meanwhile: a table that it holds, or a deadlock with it, is tried again."""

_PRINCIPALS = "postgres"
"""The database in which Azure's flexible server keeps the functions for roles of Microsoft Entra."""

STATEMENT_SECONDS = 60
"""How long the server works on one statement of the app before it gives up."""
TIMEOUTS: Mapping[LiteralString, str] = {
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "60s",
}
"""Settings of the app's role. A `SET` of our own would leak to other clients of a transaction-mode pooler."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: LiteralString


def read_migrations(folder: Path = FOLDER) -> Sequence[Migration]:
    """The files of a folder by number. Raises ValueError for a name off the grammar `0001_words.sql`, or a number
    that is missing or there twice."""
    migrations = []
    for file in sorted(folder.glob("*.sql")):
        match = _FILE.match(file.name)
        if not match:
            raise ValueError(f"{file.name}: a migration is called like 0001_words_in_lower_case.sql")
        migrations.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError("the migrations are not numbered 1, 2, 3 ... without gap or double")
    return migrations


REQUIRED_VERSION = len(list(FOLDER.glob("*.sql")))
"""The schema that this code was written for. A newer one serves as well: migrations expand first, and contract a
release later."""


def schema_version(connection: Connection[TupleRow]) -> int:
    """The number of the last migration that ran; 0 for a database without any."""
    row = connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone()
    return int(row[0]) if row else 0


def migrate(
    conninfo: str,
    *,
    is_token_login: bool = False,
    password: str | None = None,
    app_role: str | None = None,
    app_identity: str | None = None,
    migrations: Sequence[Migration] | None = None,
    progress: Callable[[Migration], None] = lambda migration: None,
) -> Sequence[Migration]:
    """Run what is pending as the database's owner and return it; grant the app's role its rights and time-outs.

    With `is_token_login` the password is a token. `app_identity` is the object id of the managed identity that logs in
    as the app's role, which is then made where it is missing. Raises `DatabaseUnavailable` when the server cannot be
    reached or refuses a migration, `InvalidRequest` when the app's role does not exist, or belongs to another identity,
    `SettingsInvalid` as `connecting.secured`.
    """
    secure = make_conninfo(secured(conninfo, is_token_login=is_token_login), password=password, connect_timeout=10)
    files = read_migrations() if migrations is None else migrations
    try:
        if app_role and app_identity:
            _make_role(make_conninfo(secure, dbname=_PRINCIPALS), app_role, app_identity)
        for _ in range(_REPEATS):
            with suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                return _migrated(secure, files, app_role, progress)
        return _migrated(secure, files, app_role, progress)
    except psycopg.Error as error:
        raise DatabaseUnavailable(
            f"The migration did not happen: {error}".strip(),
            hint="Nothing was changed. Check DATABASE_URL, and that its role owns the schema and may alter the app's.",
        ) from error


def _make_role(conninfo: str, role: str, identity: str) -> None:
    """https://learn.microsoft.com/azure/postgresql/flexible-server/security-manage-entra-users"""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        try:
            found = connection.execute(
                "SELECT objectid FROM pgaadauth_list_principals(false) WHERE rolname = %s", (role,)
            ).fetchone()
            if found is None:
                connection.execute(
                    "SELECT pgaadauth_create_principal_with_oid(%s, %s, 'service', false, false)", (role, identity)
                )
        except psycopg.errors.UndefinedFunction as error:
            raise InvalidRequest(
                "This server knows no identities of Microsoft Entra.",
                field="app-identity",
                hint="Leave --app-identity out, and create the role by hand.",
            ) from error
    if found and str(found[0]).lower() != identity.lower():
        raise InvalidRequest(
            f"The role {role!r} belongs to another identity, {found[0]}.",
            field="app-identity",
            hint=f'If that one is gone: DROP OWNED BY "{role}"; DROP ROLE "{role}"; and migrate again.',
        )


def _migrated(
    conninfo: str, files: Sequence[Migration], app_role: str | None, progress: Callable[[Migration], None]
) -> Sequence[Migration]:
    with psycopg.connect(conninfo) as connection:
        # Who waited for the lock has to see what the other did, whatever the database's default is.
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        # Whoever waits behind a waiting ALTER TABLE waits as long: readers too.
        connection.execute(_LOCK_TIMEOUT)
        pending = _run_pending(connection, files, progress)
        if app_role:
            _grant(connection, app_role)
        return pending


def _run_pending(
    connection: Connection[TupleRow], migrations: Sequence[Migration], progress: Callable[[Migration], None]
) -> Sequence[Migration]:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        " version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    version = schema_version(connection)
    pending = [migration for migration in migrations if migration.version > version]
    for migration in pending:
        progress(migration)
        connection.execute(migration.sql)
        connection.execute(
            "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)", (migration.version, migration.name)
        )
    return pending


def _grant(connection: Connection[TupleRow], role: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
        raise InvalidRequest(
            f"The database has no role {role!r}.", field="app-role", hint="Create the role first, then migrate again."
        )
    app = sql.Identifier(role)
    grants: tuple[LiteralString, ...] = (
        # Up to PostgreSQL 14 everybody may create tables there.
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "GRANT USAGE ON SCHEMA public TO {}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
        # And on those of later migrations, which may run without naming the role.
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}",
        "REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM {}",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {}",
    )
    for grant in grants:
        connection.execute(sql.SQL(grant).format(app))
    for setting, value in TIMEOUTS.items():
        connection.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(app, sql.SQL(setting), sql.Literal(value)))
