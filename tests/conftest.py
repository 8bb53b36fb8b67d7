"""Fixtures that more than one room of the tests uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import postgres
from support.stores import PATIENCE, Store
from support.world import Team, World

from shared.postgres import pool as pool_module
from shared.postgres.pool import Pool

settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes says how busy the machine is, and nothing about what it shows."""
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """A busy machine may take longer to connect than a live caller is let wait. What that wait is for sets its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "ACQUIRE_SECONDS", PATIENCE)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def _shared_database(postgres_server: postgres.Server) -> Iterator[postgres.Database]:
    with postgres_server.clone() as conninfo, postgres.Database(conninfo) as database:
        yield database


@pytest.fixture
def database(_shared_database: postgres.Database) -> Iterator[str]:
    """The conninfo of a migrated database without rows: the session's, emptied after each test (which is quicker than a
    new one). A test that changes the schema or the server's catalog takes `own_database`."""
    yield _shared_database.conninfo
    _shared_database.empty()


@pytest.fixture
def own_database(postgres_server: postgres.Server) -> Iterator[str]:
    """The conninfo of a migrated, empty database that no other test sees."""
    with postgres_server.clone() as conninfo:
        yield conninfo


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    pool = Pool(database, size=8)
    yield pool
    pool.close()


@pytest.fixture
def store(pool: Pool, database: str) -> Store:
    """All adapters over one empty, migrated database."""
    return Store(pool, database)


@pytest.fixture
def world(pool: Pool, tmp_path: Path) -> World:
    return World(pool, tmp_path)


@pytest.fixture
def team(world: World) -> Team:
    """A registered repository with one branch, `main`, and nothing in it."""
    return world.repository()
