"""Connections, and what their failures mean to us.

Opened at first use and kept few: instances times processes times `size` must stay below what the server allows. Every
statement is its own transaction (autocommit) unless a method opens one, and nothing relies on a session, so that a
transaction-mode PgBouncer may stand in between.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import Any, LiteralString, NamedTuple, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import PoolTimeout

from shared import telemetry
from shared.errors import DatabaseUnavailable, DocumentRefused, SchemaOutdated
from shared.postgres.answering import AnsweringConnection, AnsweringPool, Silence
from shared.postgres.connecting import failed, not_connected, secured
from shared.postgres.migrate import REQUIRED_VERSION, schema_version
from shared.postgres.statements import name_of
from shared.telemetry import metrics
from shared.telemetry.instruments import Point

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

ACQUIRE_SECONDS = 5.0
"""How long a caller waits for a connection: below any budget, so that a dead database is a quick 503."""
REFUSED_SECONDS = 1.0
"""How long a failure to connect is told to everybody without another attempt, when there is no connection to wait for.
Also when a failed attempt is repeated, once; after that a caller has to want a connection."""
_GLANCE_SECONDS = 0.05
"""How often a caller who waits for the first connection looks whether it failed."""

_REPEATABLE = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_REFUSED_DATA = ("21", "22", "54")
"""SQLSTATE classes of values that the server refuses for ever: cardinality, data, program limit."""
_DISCONNECTED = ("57P01", "57P02", "57P03")
"""SQLSTATEs of a server that ends connections: shutdown, crash, and not up yet."""
_OUTDATED = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours, by class and SQLSTATE; the cause is kept."""
    try:
        yield
    except _OUTDATED as error:
        raise outdated() from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseUnavailable(
            "The database refuses this role a right it needs.",
            hint="Run `runtime-store migrate --app-role ROLE` as the owner.",
        ) from error
    except (psycopg.DataError, UnicodeEncodeError) as error:
        # Also from the driver itself, before anything was sent: NUL, and what is no UTF-8.
        raise _refused(error) from error
    except _NotConnected as error:
        raise not_connected(error.__cause__ or error) from error
    except psycopg.Error as error:
        raise (_refused(error) if (error.sqlstate or "")[:2] in _REFUSED_DATA else failed(error)) from error


def _refused(error: psycopg.Error | UnicodeEncodeError) -> DocumentRefused:
    told = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return DocumentRefused(f"PostgreSQL refuses a value: {told or error}")


def outdated() -> SchemaOutdated:
    return SchemaOutdated(
        "The database's schema is older than this app, or not there.", hint="Run `runtime-store migrate`."
    )


class _Failure(NamedTuple):
    """Why the last attempt to connect failed, and when, in monotonic seconds."""

    at: float
    error: Exception


class _NotConnected(PoolTimeout):
    """There is no connection, and none to wait for: `__cause__` says why."""


class Pool:
    """Runs statements.

    `conninfo` is a libpq connection string or URL; what it leaves open about TLS is filled in by `connecting.secured`,
    so that `SettingsInvalid` may be raised here. `password` is asked for every new connection, and with
    `is_token_login` is a token; `refused` is asked for a newer one after a connection failed, and the connection is
    tried once more when it differs. With `transaction_pooler` no statement is prepared.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        size: int = 8,
        transaction_pooler: bool = False,
        is_token_login: bool = False,
        password: Callable[[], str | None] = lambda: None,
        refused: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._password = password
        self._refused = refused
        self._is_open = False
        self._failure: _Failure | None = None
        self._made: WeakSet[AnsweringConnection] = WeakSet()
        self._lock = Lock()
        self._pool = AnsweringPool(
            secured(conninfo, is_token_login=is_token_login),
            connection_class=self._connection_class(),
            kwargs={
                "autocommit": True,
                # Prepared by the second use: reads are a handful of statements, used again and again.
                "prepare_threshold": None if transaction_pooler else 1,
                "connect_timeout": int(ACQUIRE_SECONDS),
                # Azure cuts connections that were silent for four minutes.
                "keepalives_idle": 60,
                # A server that vanished without a word is given up after this many milliseconds, not after a quarter
                # of an hour.
                "tcp_user_timeout": 20_000,
                "application_name": "runtime-store",
            },
            min_size=0,
            max_size=size,
            timeout=ACQUIRE_SECONDS,
            max_idle=300,
            reconnect_timeout=REFUSED_SECONDS,
            open=False,
            name="runtime-store",
        )

    def _connection_class(self) -> type[AnsweringConnection]:
        pool = self

        class PasswordConnection(AnsweringConnection):
            def execute(  # type: ignore[override]
                self, query: LiteralString, params: Any = None, **options: Any
            ) -> Any:
                name = name_of(query)
                with telemetry.call(name, {"db.system.name": "postgresql", "db.query.summary": name}):
                    return super().execute(query, params, **options)

            @classmethod
            def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:
                try:
                    connection = cls._tried(conninfo, kwargs)
                except Exception as error:
                    pool._failure = _Failure(monotonic(), error)
                    raise
                with pool._lock:
                    pool._made.add(connection)
                return connection

            @classmethod
            def _tried(cls, conninfo: str, kwargs: dict[str, Any]) -> Any:
                secret = pool._password()
                try:
                    return super().connect(conninfo, **_with(kwargs, secret))
                except psycopg.OperationalError:
                    newer = pool._refused()
                    if newer is None or newer == secret:
                        raise
                    return super().connect(conninfo, **_with(kwargs, newer))

        return PasswordConnection

    @contextmanager
    def connection(self) -> Iterator[Connection[TupleRow]]:
        """One connection in autocommit mode; driver errors leave it translated."""
        with translated():
            if not self._is_open:
                self._open()
            with self._borrowed() as connection:
                try:
                    yield connection
                except psycopg.errors.ReadOnlySqlTransaction:
                    # After a failover this one leads to what is a standby now.
                    connection.close()
                    raise

    def _open(self) -> None:
        self._pool.open()
        with self._borrowed() as connection:
            version = schema_version(connection)
        if version < REQUIRED_VERSION:
            raise outdated()
        self._is_open = True

    @contextmanager
    def _borrowed(self) -> Iterator[Connection[TupleRow]]:
        connection = self._taken()
        try:
            with connection:
                yield connection
        except Silence:
            # The others lead to the same server: the next caller is to learn at once what this one waited for.
            self._pool.drain()
            raise
        finally:
            self._pool.putconn(connection)

    def _taken(self) -> AnsweringConnection:
        """A connection of the pool, or why there is none as soon as that is known: the pool itself would let everybody
        wait for as long as it tries again."""
        give_up_at = monotonic() + ACQUIRE_SECONDS
        while (left := give_up_at - monotonic()) > 0:
            has_some, failure = self._has_some(), self._failure
            if failure and not has_some and monotonic() - failure.at < REFUSED_SECONDS:
                raise _NotConnected from failure.error
            try:
                return self._pool.getconn(left if has_some else min(left, _GLANCE_SECONDS))
            except PoolTimeout:
                continue
        metrics.POOL_TIMEOUTS.add(1)
        raise PoolTimeout(f"no connection within {ACQUIRE_SECONDS} seconds")

    def _has_some(self) -> bool:
        """Whether there are connections, which may be in use: one of them will come back."""
        with self._lock:
            return any(not connection.closed for connection in self._made)

    def rows(
        self, statement: LiteralString, parameters: Mapping[str, Any] | None = None, *, binary: bool = False
    ) -> list[TupleRow]:
        """Read: one statement, all its rows. Repeated once after a connection died, with the dead ones sorted out."""
        return self._twice(lambda: self._run(statement, parameters, binary=binary), is_read=True)

    def write(
        self, statement: LiteralString, parameters: Mapping[str, Any], *, prepare: bool | None = None
    ) -> list[TupleRow]:
        """Write: one statement, the rows it returned. Repeated once only after the server undid it itself. With
        `prepare` False it is planned each time, for the values at hand."""
        return self._twice(lambda: self._run(statement, parameters, prepare=prepare))

    @contextmanager
    def transaction(self) -> Iterator[Connection[TupleRow]]:
        """Several statements, all or nothing."""
        with self.connection() as connection, connection.transaction():
            yield connection

    def in_transaction(self, work: Callable[[Connection[TupleRow]], _T]) -> _T:
        """Run `work` in one transaction, once more when the server undid it for a deadlock."""

        def once() -> _T:
            with self.transaction() as connection:
                return work(connection)

        return self._twice(once)

    def _run(
        self,
        statement: LiteralString,
        parameters: Mapping[str, Any] | None,
        *,
        binary: bool = False,
        prepare: bool | None = None,
    ) -> list[TupleRow]:
        with self.connection() as connection:
            return connection.execute(statement, parameters, binary=binary, prepare=prepare).fetchall()

    def _twice(self, work: Callable[[], _T], *, is_read: bool = False) -> _T:
        try:
            return work()
        except DatabaseUnavailable as error:
            is_cut = _is_cut(error.__cause__)
            if is_cut:
                # A dead connection seldom comes alone. Without this, each of the pool fails one caller.
                with translated():
                    self._pool.check()
            if not isinstance(error.__cause__, _REPEATABLE) and not (is_cut and is_read):
                raise
            _log.info("statement repeated", extra={"cause": type(error.__cause__).__name__})
            return work()

    def watch(self) -> None:
        """Let metrics tell, from now on, how much of the pool is used."""

        def connections() -> list[Point]:
            told = self._pool.get_stats()
            idle = told["pool_available"]
            return [(idle, ("idle",)), (told["pool_size"] - idle, ("used",))]

        metrics.POOL_CONNECTIONS.watch(connections)
        metrics.POOL_LIMIT.watch(lambda: [(self._pool.max_size, ())])
        metrics.POOL_WAITING.watch(lambda: [(self._pool.get_stats()["requests_waiting"], ())])

    def close(self) -> None:
        self._pool.close()


def _is_cut(error: BaseException | None) -> bool:
    """Whether the connection died under the statement, so that nobody knows what became of it. After a silence nobody
    knows either, but a repeat would wait as long."""
    if not isinstance(error, psycopg.OperationalError) or isinstance(error, PoolTimeout | Silence):
        return False
    return error.sqlstate is None or error.sqlstate.startswith("08") or error.sqlstate in _DISCONNECTED


def _with(kwargs: dict[str, Any], password: str | None) -> dict[str, Any]:
    return kwargs if password is None else {**kwargs, "password": password}
