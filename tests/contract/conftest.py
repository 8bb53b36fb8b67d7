"""Fixtures of the suites that hold the database adapters to the promises of their ports."""

import pytest
from support.stores import Store

from shared.postgres.pool import Pool


@pytest.fixture
def store(pool: Pool, database: str) -> Store:
    """All adapters over one empty, migrated database."""
    return Store(pool, database)
