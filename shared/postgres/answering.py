"""A connection whose caller is not kept waiting for ever.

The server gives up a statement by itself, as its role's settings say. One that is frozen does not: it takes connections
and data, acknowledges what it is sent, and never answers, so that no setting of TCP notices either.
"""

from typing import TypeVar

import psycopg
from psycopg import Connection
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from shared.postgres.migrate import STATEMENT_SECONDS

_T = TypeVar("_T")

ANSWER_SECONDS = STATEMENT_SECONDS + 15.0
"""Longest wait for an answer: above what the server allows itself, so that a statement that is merely slow ends by the
server's word, which means that nothing of it was done."""
SIGN_OF_LIFE_SECONDS = 5.0
"""Longest wait for the answer to an empty statement."""
_INTERVAL = 0.1
"""How often an interrupt is looked for, in seconds: psycopg's own."""


class Silence(psycopg.OperationalError):
    """The server said nothing for too long. Whether it did what it was asked, or still will, is not known."""


class AnsweringConnection(Connection[TupleRow]):
    """Is closed, and raises `Silence`, when an answer takes longer than `patience` seconds."""

    patience: float = ANSWER_SECONDS

    def wait(self, gen: PQGen[_T], interval: float = _INTERVAL, timeout: float | None = None) -> _T:
        limit = self.patience if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.errors._WaitTimeout as error:
            self.close()
            raise Silence(f"The server did not answer within {limit:g} seconds.") from error


class AnsweringPool(ConnectionPool[AnsweringConnection]):
    @staticmethod
    def check_connection(connection: AnsweringConnection) -> None:
        """Called by `check` for one after the other, while callers wait."""
        connection.patience = SIGN_OF_LIFE_SECONDS
        ConnectionPool.check_connection(connection)
        del connection.patience
