"""One sentence for each keyword of JSON Schema that a value can fail by itself."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from shared.model import JsonValue
from shared.validation.mistakes import Path, clipped, did_you_mean, either, name_of, shown, types


class Failure(NamedTuple):
    """A keyword that a value fails: what it wants, and the rules that it is one of."""

    keyword: str
    path: Path
    wanted: Any
    value: Any
    rules: Mapping[str, Any]
    message: str
    """In the words of the library, for a keyword that we have none for."""


def phrase(failure: Failure) -> str:
    """What was expected, what is there, and how to write what was probably meant."""
    say = _PHRASES.get(failure.keyword)
    if say is None:
        return f"{name_of(failure.path)}: {clipped(failure.message)}."
    return f"{name_of(failure.path)} {say(failure)}.{_hint(failure)}"


def listed(names: Any) -> list[str]:
    """The value of `type`, which is one name or several."""
    return [names] if isinstance(names, str) else list(names)


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _at_least(unit: str) -> Callable[[Failure], str]:
    def say(failure: Failure) -> str:
        if failure.wanted == 1:
            return "must not be empty"
        return f"must have at least {_count(failure.wanted, unit)}, but has {len(failure.value)}"

    return say


def _at_most(unit: str) -> Callable[[Failure], str]:
    return lambda failure: f"must have at most {_count(failure.wanted, unit)}, but has {len(failure.value)}"


def _bound(words: str) -> Callable[[Failure], str]:
    def say(failure: Failure) -> str:
        low, high = failure.rules.get("minimum"), failure.rules.get("maximum")
        wanted = f"{words} {failure.wanted}" if low is None or high is None else f"from {low} to {high}"
        return f"must be {wanted}, but is {shown(failure.value)}"

    return say


def _pattern(failure: Failure) -> str:
    wanted = str(failure.rules.get("description", f"text that matches {failure.wanted}"))
    return f"has a wrong form, it is {shown(failure.value)}. Expected: {wanted.rstrip('.')}"


def _no_more_items(failure: Failure) -> str:
    most = len(failure.rules.get("prefixItems", ()))
    wanted = f"have at most {_count(most, 'item')}" if most else "be an empty list"
    return f"must {wanted}, but has {len(failure.value)}"


def _plain(value: JsonValue) -> str:
    return clipped(value) if isinstance(value, str) else json.dumps(value)


_PHRASES: Final[Mapping[str, Callable[[Failure], str]]] = {
    "type": lambda failure: f"must be {types(listed(failure.wanted))}, but is {shown(failure.value)}",
    "enum": lambda failure: f"must be {either([_plain(one) for one in failure.wanted])}, but is {shown(failure.value)}",
    "const": lambda failure: f"must be {_plain(failure.wanted)}, but is {shown(failure.value)}",
    "minLength": _at_least("character"),
    "maxLength": _at_most("character"),
    "minItems": _at_least("item"),
    "maxItems": _at_most("item"),
    "minProperties": _at_least("key"),
    "maxProperties": _at_most("key"),
    "minimum": _bound("at least"),
    "maximum": _bound("at most"),
    "exclusiveMinimum": _bound("more than"),
    "exclusiveMaximum": _bound("less than"),
    "pattern": _pattern,
    "items": _no_more_items,
    "uniqueItems": lambda _: "has the same item twice",
}


def _hint(failure: Failure) -> str:
    if failure.keyword == "enum":
        return did_you_mean(str(failure.value), [one for one in failure.wanted if isinstance(one, str)])
    return _hint_of_type(failure, set(listed(failure.wanted))) if failure.keyword == "type" else ""


def _hint_of_type(failure: Failure, wanted: set[str]) -> str:
    value = failure.value
    if value is None or value in ("", [], {}):
        return _hint_of_nothing(failure, wanted)
    if isinstance(value, bool | int | float) and "string" in wanted:
        return " Put it in quotes."
    if isinstance(value, str | dict) and "array" in wanted:
        return " Begin each item with - on a line of its own."
    if isinstance(value, str):
        is_number = wanted & {"integer", "number"} and re.fullmatch(r"-?[0-9]{1,18}", value)
        is_boolean = "boolean" in wanted and value.lower() in ("true", "false")
        return " Remove the quotes." if is_number or is_boolean else ""
    return ""


def _hint_of_nothing(failure: Failure, wanted: set[str]) -> str:
    """How to write nothing, where nothing is allowed."""
    if "array" in wanted and "minItems" not in failure.rules:
        return " Write [] for none."
    if "object" in wanted and not failure.rules.get("required"):
        return " Write {} for none."
    return ' Write "" for none.' if "string" in wanted and "minLength" not in failure.rules else ""
