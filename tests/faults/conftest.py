"""The whole app, as the tests of the faults use it from outside, and what is chosen for them on the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from emulators.azure_devops import HostedRepository
from hypothesis import settings
from support.contoso import Contoso, whole_app

settings.register_profile("long", max_examples=6000, stateful_step_count=50, print_blob=True)
"""`--hypothesis-profile=long`: other histories each time, many, and long ones (test_any_history.py)."""


@pytest.fixture
def contoso(database: str, tmp_path: Path) -> Iterator[Contoso]:
    """Its timer was seen just now, so that no delivery does the timer's work."""
    with whole_app(database, tmp_path / "organisation") as whole:
        whole.app.sweep()
        yield whole


@pytest.fixture
def hosted(contoso: Contoso) -> HostedRepository:
    """Its first commit is served."""
    hosted = contoso.repository()
    contoso.sweep()
    return hosted
