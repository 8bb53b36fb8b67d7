"""Fixtures of the suites that hold the adapters to the promises of their ports."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator
from support.stores import MAIN, REPO, TWO, Store, commit, judgement

from shared.azure_devops.client import Organisation
from shared.postgres.pool import Pool


@pytest.fixture
def served(store: Store) -> Store:
    """`main` serves a.yaml and b.yaml at commit 1, and another sync is asked for."""
    store.register()
    store.configs.replace(store.claim(), judgement(1), TWO, serve=commit(1))
    store.queue.ask(REPO, [MAIN])
    return store


@pytest.fixture
def own_store(own_database: str) -> Iterator[Store]:
    """The same over a database that no other test sees: for those that change its schema, or measure it."""
    with closing(Pool(own_database)) as pool:
        yield Store(pool, own_database)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    """An organisation of Azure DevOps on this machine."""
    with Emulator(tmp_path) as emulator:
        yield emulator


@pytest.fixture
def organisation(emulator: Emulator) -> Organisation:
    return Organisation(emulator.url, authorization=lambda: EMULATOR_AUTHORIZATION, timeout=timedelta(seconds=30))
