"""The errors that `jsonschema` tells, one after the other, without going through what is valid.

`jsonschema-rs` collects all errors of a document before it gives the first, and `jsonschema` takes milliseconds for a
kilobyte: for a file of a megabyte, gigabytes the one and ten seconds the other. So the first only decides, also for
each item of a list, and the second goes only into items that were refused, and no further than it is asked to.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from shared.model import JsonValue
from shared.validation.patterns import matcher

MAX_ERRORS: Final = 100
"""Of one branch of `oneOf` or `anyOf`: their errors are kept until the branch that was meant is known."""

Errors = Iterator[ValidationError]


class Search:
    """One schema, whose references all begin with `#/$defs/`. May be shared between threads."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._definitions = schema.get("$defs", {})
        self._compiled: dict[int, jsonschema_rs.Draft202012Validator] = {}
        keywords = {
            "items": self._items,
            "pattern": _pattern,
            "patternProperties": self._pattern_properties,
            "additionalProperties": self._additional_properties,
            "oneOf": _choice(lambda valid: valid == 1),
            "anyOf": _choice(lambda valid: valid >= 1),
        }
        extended: type[Draft202012Validator] = extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call]
        self._validator = extended(schema)

    def errors(self, value: JsonValue) -> Errors:
        """Lazily; nothing for a valid value."""
        return self._validator.iter_errors(value)

    def _items(self, validator: Any, rules: Any, value: Any, around: Mapping[str, Any]) -> Errors:
        if not isinstance(value, list):
            return
        first = len(around.get("prefixItems", ()))
        if rules is False:
            if len(value) > first:
                yield ValidationError("has more items than are allowed")
        else:
            yield from self._refused(validator, rules, islice(enumerate(value), first, None))

    def _additional_properties(self, validator: Any, rules: Any, value: Any, around: Mapping[str, Any]) -> Errors:
        if not isinstance(value, dict):
            return
        others = unknown_keys(value, around)
        if rules is not False:
            yield from self._refused(validator, rules, ((key, value[key]) for key in others))
        elif next(others, None) is not None:
            yield ValidationError("has keys that are not allowed")

    def _pattern_properties(self, validator: Any, wanted: Any, value: Any, around: Mapping[str, Any]) -> Errors:
        for pattern, rules in wanted.items() if isinstance(value, dict) else ():
            matches = matcher(pattern)
            yield from self._refused(validator, rules, ((key, value[key]) for key in value if matches(key)))

    def _refused(self, validator: Any, rules: Any, values: Iterator[tuple[str | int, Any]]) -> Errors:
        accepts = self._rules(rules).is_valid
        for place, value in values:
            if not accepts(value):
                yield from validator.descend(value, rules, path=place)

    def _rules(self, rules: Any) -> jsonschema_rs.Draft202012Validator:
        compiled = self._compiled.get(id(rules))  # The schema keeps them alive, so no other rules have this id.
        if compiled is None:
            compiled = jsonschema_rs.Draft202012Validator({"$defs": self._definitions, "allOf": [rules]})
            self._compiled[id(rules)] = compiled
        return compiled


def unknown_keys(value: Mapping[str, Any], rules: Mapping[str, Any]) -> Iterator[str]:
    """The keys that `additionalProperties` is about, in the order of the file."""
    known, patterns = rules.get("properties", {}), [matcher(one) for one in rules.get("patternProperties", ())]
    return (key for key in value if key not in known and not any(matches(key) for matches in patterns))


def _pattern(validator: Any, pattern: Any, value: Any, around: Any) -> Errors:
    if isinstance(value, str) and not matcher(pattern)(value):
        yield ValidationError("has another form")


def _choice(fits: Callable[[int], bool]) -> Callable[[Any, Any, Any, Any], Errors]:
    """`oneOf` or `anyOf`. The error has no context when the value fits some branch."""

    def choose(validator: Any, branches: Any, value: Any, around: Any) -> Errors:
        below = [
            list(islice(validator.descend(value, rules, schema_path=index), MAX_ERRORS))
            for index, rules in enumerate(branches)
        ]
        valid = sum(not errors for errors in below)
        if not fits(valid):
            context = [] if valid else [error for errors in below for error in errors]
            yield ValidationError("fits none, or too many, of the allowed forms", context=context)

    return choose
