"""The registered repositories. A change takes the claims of running syncs away: none ends under old settings."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, LiteralString

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from shared.errors import DatabaseUnavailable, InvalidRequest, NameTaken, RepositoryNotFound, RevisionMoved
from shared.model import BranchName, Names, Registration, RepoId, Repository
from shared.postgres.pool import Pool
from shared.postgres.rows import repository
from shared.postgres.statements import Statements


class PostgresRegistry:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = Statements("registry.sql")

    def get(self, repo_id: RepoId) -> Repository:
        rows = self._pool.rows(self._sql["get"], {"repo_id": repo_id})
        if not rows:
            raise _not_found(repo_id)
        return repository(rows[0])

    def find(self, alias: str) -> Repository | None:
        rows = self._pool.rows(self._sql["find"], {"alias": alias})
        return repository(rows[0]) if rows else None

    def list(self) -> Sequence[Repository]:
        return [repository(row) for row in self._pool.rows(self._sql["list"])]

    def names(self) -> Names:
        rows = self._pool.rows(self._sql["names"])
        by_name = {name: RepoId(repo_id) for repo_id, name, _ in rows}
        by_id = {repo_id: RepoId(repo_id) for repo_id, _, _ in rows}
        return Names(
            repositories=by_name | by_id,
            branches={RepoId(repo_id): tuple(map(BranchName, branches)) for repo_id, _, branches in rows},
        )

    def put(self, repo_id: RepoId, registration: Registration, *, expected: int | None) -> Repository:
        def work(connection: Connection[TupleRow]) -> Repository:
            if expected is None:
                row = _one(connection, self._sql["add"], _columns(repo_id, registration))
            else:
                before = self._locked(connection, repo_id, expected)
                if before.name != registration.name:
                    raise _named(before)
                if before.registration == registration:
                    return before
                row = _one(connection, self._sql["change"], _columns(repo_id, registration))
            self._ask_again(connection, repo_id, registration)
            return repository(row)

        try:
            return self._pool.in_transaction(work)
        except DatabaseUnavailable as error:
            if isinstance(error.__cause__, psycopg.errors.UniqueViolation):
                raise _taken(error.__cause__, repo_id, registration) from error
            raise

    def remove(self, repo_id: RepoId, *, expected: int) -> None:
        def work(connection: Connection[TupleRow]) -> None:
            self._locked(connection, repo_id, expected)
            connection.execute(self._sql["lock_branches"], {"repo_id": repo_id})
            connection.execute(self._sql["remove"], {"repo_id": repo_id})

        self._pool.in_transaction(work)

    def _locked(self, connection: Connection[TupleRow], repo_id: RepoId, expected: int) -> Repository:
        row = connection.execute(self._sql["lock"], {"repo_id": repo_id}).fetchone()
        if row is None:
            raise _not_found(repo_id)
        before = repository(row)
        if before.revision != expected:
            raise RevisionMoved(
                f"Somebody changed this repository meanwhile: its revision is {before.revision}, not {expected}.",
                hint="Read it again and repeat the change with the new revision.",
            )
        return before

    def _ask_again(self, connection: Connection[TupleRow], repo_id: RepoId, registration: Registration) -> None:
        parameters = {"repo_id": repo_id, "branches": list(registration.branches)}
        connection.execute(self._sql["lock_branches"], parameters)
        connection.execute(self._sql["ask_named"], parameters)
        connection.execute(self._sql["drop_unnamed"], parameters)


def _one(connection: Connection[TupleRow], statement: LiteralString, parameters: dict[str, Any]) -> TupleRow:
    """The row of a statement that always returns one: an INSERT, or an UPDATE of a row that is locked."""
    return connection.execute(statement, parameters).fetchall()[0]


def _columns(repo_id: RepoId, registration: Registration) -> dict[str, Any]:
    return {**asdict(registration), "branches": list(registration.branches), "repo_id": repo_id}


def _not_found(repo_id: RepoId) -> RepositoryNotFound:
    return RepositoryNotFound(f"No repository {repo_id!r} is registered.")


def _named(before: Repository) -> InvalidRequest:
    return InvalidRequest(
        f"This repository is called {before.name!r}, and a name is set once.",
        field="name",
        hint="Keep its name, or remove the repository and register it anew.",
    )


def _taken(error: psycopg.errors.UniqueViolation, repo_id: RepoId, registration: Registration) -> NameTaken:
    if error.diag.constraint_name == "repositories_name":
        return NameTaken(
            f"Another repository is called {registration.name!r}.",
            hint="Choose another name, such as project.repository.",
        )
    return NameTaken(f"The id {repo_id!r} is registered already.", hint="Name its revision to change it.")
