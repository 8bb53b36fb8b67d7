"""Decides, and gives each mistake its place in the file."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

import jsonschema_rs

from shared.model import Document, Finding, JsonValue, Severity
from shared.validation.mistakes import Mistake, Path

if TYPE_CHECKING:
    from shared.validation.search import Search

Locate: TypeAlias = Callable[[bytes, Collection[str]], Mapping[str, tuple[tuple[int, int], tuple[int, int] | None]]]
"""Bytes and JSON pointers -> line and column (from 1) of each value and of its key, and of all above them."""

_MAX_FINDINGS: Final = 100


class Validator:
    """One JSON Schema (2020-12), compiled. May be shared between threads."""

    def __init__(self, schema: Mapping[str, JsonValue]) -> None:
        self._schema = dict(schema)
        self._rules = jsonschema_rs.Draft202012Validator(self._schema)
        canonical = json.dumps(self._schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self.digest = sha256(canonical.encode()).hexdigest()
        """Of the schema, whatever its layout and the order of its keys."""

    @cached_property
    def _search(self) -> "Search":
        from shared.validation.search import Search

        return Search(self._schema)

    def findings(self, document: Document, data: bytes, locate: Locate) -> tuple[Finding, ...]:
        """Everything in the document that the schema does not allow, in the order of the file; all are errors.

        `data` is what the document was read from; it is only asked for places when there is something to point at.
        """
        if self._rules.is_valid(document.value):
            return ()
        # Imported here: most processes never see a mistake, and a cold start would pay 0.1 s for it.
        from shared.validation.explain import mistakes

        found = list(islice(mistakes(self._schema, self._search.errors(document.value)), _MAX_FINDINGS))
        if not found:
            found = [Mistake((), "schema", "The file does not follow the schema.")]
        return _placed(document, found, locate(data, {_pointer(mistake.path) for mistake in found}))


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
                Severity.ERROR,
                mistake.message,
                line,
                column,
                _pointer(mistake.path),
            )
        )
    return tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.column or 0)))


def _pointer(path: Path) -> str:
    return "".join(f"/{str(token).replace('~', '~0').replace('/', '~1')}" for token in path)
