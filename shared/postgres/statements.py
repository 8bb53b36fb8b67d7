"""Named SQL statements, read from `queries/*.sql`.

A file holds statements, each after a line `-- name: identifier`. The names are the attributes of the loaded object, and
equal the methods that use them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)
_FOLDER = Path(__file__).with_name("queries")
_NAMES: dict[str, str] = {}


def name_of(statement: object) -> str:
    """`file.name` of a statement of these files, and `sql` of any other."""
    return _NAMES.get(statement, "sql") if isinstance(statement, str) else "sql"


class Statements:
    """The statements of one file. An unknown name is an error when the adapter is made, not when it is used."""

    def __init__(self, file: str) -> None:
        _head, *parts = _NAME.split((_FOLDER / file).read_text(encoding="utf-8"))
        if not parts:
            raise ValueError(f"{file} holds no statement after a line '-- name: ...'")
        self._statements = dict(zip(parts[::2], parts[1::2], strict=True))
        self._file = file
        _NAMES.update((text, f"{file.removesuffix('.sql')}.{name}") for name, text in self._statements.items())

    def __getitem__(self, name: str) -> LiteralString:
        try:
            # Package data is as literal as the code beside it; no value is ever put into it but by parameters.
            return cast(LiteralString, self._statements[name])
        except KeyError:
            raise KeyError(f"{self._file} has no statement named {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)
