"""Decides, and gives each mistake its place in the file."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, TypeAlias

import jsonschema_rs

from shared.model import Document, Finding, JsonValue
from shared.validation import references
from shared.validation.mistakes import Mistake, Path
from shared.validation.unknown import UnknownKeys

if TYPE_CHECKING:
    from shared.validation.search import Search

Locate: TypeAlias = Callable[[bytes, Collection[str]], Mapping[str, tuple[tuple[int, int], tuple[int, int] | None]]]
"""Bytes and JSON pointers -> line and column (from 1) of each value and of its key, and of all above them."""

VALIDATION_VERSION: Final = "1"
"""Goes up when what is found in a document may change under the same schema, so that every file is judged again."""

_MAX_FINDINGS: Final = 100


class Validator:
    """One JSON Schema (2020-12), compiled, and what it cannot say. May be shared between threads."""

    def __init__(self, schema: Mapping[str, JsonValue]) -> None:
        self._schema = dict(schema)
        self._rules = jsonschema_rs.Draft202012Validator(self._schema)
        self._unknown_keys = UnknownKeys(self._schema)
        canonical = json.dumps(self._schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self.digest = sha256(canonical.encode()).hexdigest()
        """Of the schema, whatever its layout and the order of its keys."""

    @cached_property
    def _search(self) -> "Search":
        from shared.validation.search import Search

        return Search(self._schema)

    def findings(self, document: Document, data: bytes, locate: Locate) -> tuple[Finding, ...]:
        """Everything in the document that is not as it should be, at most 100, in the order of the file.

        What the schema does not allow, and references that lead nowhere, are errors; keys that look misspelled, where
        the schema allows any, are warnings. `data` is what the document was read from; it is only asked for places
        when there is something to point at.
        """
        found = list(islice(self._mistakes(document.value), _MAX_FINDINGS))
        return _placed(document, found, locate(data, {_pointer(mistake.path) for mistake in found})) if found else ()

    def _mistakes(self, value: JsonValue) -> Iterator[Mistake]:
        """The errors first: of too many, they are kept."""
        of_schema = () if self._rules.is_valid(value) else self._of_schema(value)
        return chain(of_schema, references.mistakes(value), self._unknown_keys.mistakes(value))

    def _of_schema(self, value: JsonValue) -> list[Mistake]:
        # Imported here: most processes never see a mistake, and a cold start would pay 0.1 s for it.
        from shared.validation.explain import mistakes, without_echoes

        found = without_echoes(islice(mistakes(self._schema, self._search.errors(value)), _MAX_FINDINGS))
        return found or [Mistake((), "schema", "The file does not follow the schema.")]


def _placed(
    document: Document,
    found: Iterable[Mistake],
    places: Mapping[str, tuple[tuple[int, int], tuple[int, int] | None]],
) -> tuple[Finding, ...]:
    findings = []
    for mistake in found:
        path = mistake.path
        while path and _pointer(path) not in places:
            path = path[:-1]  # An alias brought it: its place is the alias.
        value, key = places.get(_pointer(path), ((1, 1), None))
        line, column = key if mistake.at_key and key else value
        findings.append(
            Finding(
                document.path,
                mistake.rule,
                mistake.severity,
                mistake.message,
                line,
                column,
                _pointer(mistake.path),
            )
        )
    return tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.column or 0)))


def _pointer(path: Path) -> str:
    return "".join(f"/{str(token).replace('~', '~0').replace('/', '~1')}" for token in path)
