"""What docs/operations.md says of limits is what the code has."""

import importlib
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
LIMITS = re.findall(r"^\| [^|]+ \| ([\d,]+) \| `(shared\.[\w.]+)` \|$", PAGE, re.MULTILINE)


def value_of(name: str) -> Any:
    """The constant, or the default of a field."""
    module, _, last = name.rpartition(".")
    if module.rpartition(".")[2][0].isupper():
        module, _, owner = module.rpartition(".")
        return getattr(getattr(importlib.import_module(module), owner)(), last)
    return getattr(importlib.import_module(module), last)


# Looked up now: while tests run, some of them are larger (tests/conftest.py).
@pytest.mark.parametrize(
    ("said", "value"), [(said, value_of(name)) for said, name in LIMITS], ids=[name for _, name in LIMITS]
)
def test_a_limit_is_the_codes(said: str, value: Any) -> None:
    number = value.total_seconds() if isinstance(value, timedelta) else value
    assert f"{number:,.0f}" == said


def test_every_row_of_the_table_is_checked() -> None:
    assert len(LIMITS) == PAGE.count("| `shared.") == 17
