"""A mistake in plain words, and the words for values and types."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from shared.model import JsonValue, Severity

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the top of a document down to a value."""

_TEXT_SHOWN: Final = 60
_CHOICES_SHOWN: Final = 20
_CANDIDATES: Final = 100
"""That a misspelled word is compared with; each comparison takes some ten microseconds."""
_TYPES: Final[Mapping[str, str]] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


class Mistake(NamedTuple):
    """One thing that is not as it should be. `at_key` points at the value's key instead of the value."""

    path: Path
    rule: str
    message: str
    at_key: bool = False
    severity: Severity = Severity.ERROR


def name_of(path: Path) -> str:
    """What a person calls the value at `path`."""
    if not path:
        return "The file"
    if isinstance(path[-1], str):
        return clipped(path[-1])
    return f"Item {path[-1] + 1} of {name_of(path[:-1])}" if len(path) > 1 else f"Item {path[-1] + 1}"


def shown(value: JsonValue) -> str:
    """A value as a message quotes it."""
    if isinstance(value, str):
        return f'the text "{clipped(value)}"' if value else "empty text"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    return "empty (null)" if value is None else clipped(json.dumps(value))


def types(names: Sequence[str]) -> str:
    """JSON Schema's types as people call them."""
    return either(list(dict.fromkeys(_TYPES.get(name, name) for name in names)))


def rule_of(keyword: str) -> str:
    """`minLength` -> `schema-min-length`."""
    return "schema-" + re.sub("[A-Z]", lambda found: f"-{found[0].lower()}", keyword)


def either(words: Sequence[str]) -> str:
    """`a, b or c`."""
    if len(words) > _CHOICES_SHOWN:
        words = [*words[:_CHOICES_SHOWN], "others"]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def clipped(text: str) -> str:
    """On one line, and not longer than some 60 characters."""
    text = json.dumps(text[: _TEXT_SHOWN + 1], ensure_ascii=False)[1:-1]
    return text if len(text) <= _TEXT_SHOWN else text[: _TEXT_SHOWN - 3] + "..."


def nearest(word: str, candidates: Collection[str], likeness: float = 0.6) -> str | None:
    """The candidate that a misspelled word was probably meant to be. `likeness` is between 0 and 1."""
    if len(word) > _TEXT_SHOWN:
        return None
    originals: dict[str, str] = {}
    for candidate in islice(candidates, _CANDIDATES):
        originals.setdefault(candidate.casefold(), candidate)
    close = get_close_matches(word.casefold(), originals, n=1, cutoff=likeness)
    return originals[close[0]] if close else None


def did_you_mean(word: str, candidates: Collection[str]) -> str:
    """A question to end a message with, empty when nothing is close."""
    close = nearest(word, candidates)
    return f" Did you mean {clipped(close)}?" if close else ""
