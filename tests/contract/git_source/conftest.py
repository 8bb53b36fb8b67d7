"""Runs the suite of `ports.GitSource` over every adapter of `support.git_sources`."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.git import GitRepository
from support.git_sources import ADAPTERS, THAT_CAN_HANG, Hosted

from shared.model import Deadline, Repository
from shared.ports import GitSource


@pytest.fixture(params=ADAPTERS)
def hosted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosted]:
    with ADAPTERS[request.param](tmp_path) as hosted:
        yield hosted


@pytest.fixture
def git(hosted: Hosted) -> GitRepository:
    return hosted.git


@pytest.fixture
def source(hosted: Hosted) -> GitSource:
    return hosted.source


@pytest.fixture
def repository(hosted: Hosted) -> Repository:
    return hosted.repository


@pytest.fixture
def soon() -> Deadline:
    return Deadline.after(timedelta(seconds=30))


@pytest.fixture(params=THAT_CAN_HANG)
def hanging(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosted]:
    """A host that takes every request and answers none."""
    with ADAPTERS[request.param](tmp_path) as hosted:
        assert hosted.hang is not None
        hosted.hang()
        yield hosted
