"""Fixtures that more than one room of the tests uses."""

from collections.abc import Iterator

import pytest
from support import postgres

from shared.postgres.pool import Pool


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def database(postgres_server: postgres.Server) -> Iterator[str]:
    """The conninfo of a migrated, empty database."""
    with postgres_server.clone() as conninfo:
        yield conninfo


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    pool = Pool(database, size=8)
    yield pool
    pool.close()
