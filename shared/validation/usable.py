"""Whether a JSON Schema can be judged by here, and what it says of a whole file.

Both libraries must give it one meaning, no judgement may ask the network, and none may go round in circles.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs

from shared.model import JsonValue
from shared.validation.reading import Schema, resolved

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFUSED: Final = ("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef")
"""What gives `$ref` another meaning. Nothing that Samara exports has it."""
_DEEPEST: Final = 100
_SAME_VALUE: Final = ("oneOf", "anyOf", "allOf", "not", "if", "then", "else", "dependentSchemas")
"""Keywords whose rules are about the value itself, not about what is in it."""


class Unusable(Exception):
    """Why it cannot be used, in words that follow its name."""


def of_file(data: bytes) -> dict[str, JsonValue]:
    """The schema of a whole file in these bytes. Raises `Unusable`.

    A schema that names neither of the keys `workflow` and `runtime` is one of what stands under them, as
    `samara export-schema` writes it.
    """
    try:
        schema = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unusable(f"is not JSON: {error}.") from None
    if not isinstance(schema, dict):
        raise Unusable("is not a JSON Schema: an object is expected.")
    _check(schema)
    properties = resolved(schema, schema).get("properties", {})
    whole = schema if properties.keys() & {"workflow", "runtime"} else _around(schema)
    try:
        jsonschema_rs.Draft202012Validator(whole)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise Unusable(f"cannot be used as a JSON Schema: {_first_line(error)}") from None
    return whole


def _around(schema: Schema) -> dict[str, Any]:
    """The schema of a file that has what `schema` describes under one of its two keys."""
    definitions = dict(schema.get("$defs", {}))
    name = "Workflow"
    while name in definitions:
        name += "_"
    definitions[name] = {key: value for key, value in schema.items() if key not in ("$defs", "$schema", "$id")}
    reference = {"$ref": f"#/$defs/{name}"}
    return {
        "$schema": _DRAFT,
        "type": "object",
        "properties": {"workflow": reference, "runtime": reference, "alert": {}},
        "oneOf": [{"required": ["workflow"]}, {"required": ["runtime"]}],
        "$defs": definitions,
    }


def _check(schema: Schema) -> None:
    draft = schema.get("$schema", _DRAFT)
    if not isinstance(draft, str) or draft.rstrip("#") != _DRAFT:
        raise Unusable(f"is a schema of {draft}, and only {_DRAFT} is supported.")
    try:
        # Of the standard's own schema nothing has to be fetched.
        jsonschema_rs.meta.validate({**schema, "$schema": _DRAFT})
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise Unusable(f"is not a valid JSON Schema: {_first_line(error)}") from None
    for rules, depth in _all(schema):
        if depth > _DEEPEST:
            raise Unusable(f"is nested more than {_DEEPEST} deep.")
        _check_references(schema, rules)
        _check_patterns(rules)
    for rules, _ in _all(schema):
        if _leads_to_itself(schema, rules):
            raise Unusable(f"has a $ref that leads back to itself: {rules['$ref']}.")


def _all(schema: Schema) -> Iterator[tuple[Schema, int]]:
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, Mapping):
            yield value, depth
        if isinstance(value, Mapping | list) and depth <= _DEEPEST:
            inner = value.values() if isinstance(value, Mapping) else value
            waiting.extend((one, depth + 1) for one in inner)


def _check_references(schema: Schema, rules: Schema) -> None:
    reference = rules.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")
        if not reference.startswith("#/$defs/") or name not in schema.get("$defs", {}):
            raise Unusable(f"refers to {reference}: a $ref can only lead to #/$defs/ and a name that is there.")
    for keyword in _REFUSED:
        if isinstance(rules.get(keyword), str) and not (keyword == "$id" and rules is schema):
            raise Unusable(f"has {keyword}, which is not supported.")


def _check_patterns(rules: Schema) -> None:
    patterns = [rules.get("pattern")]
    if isinstance(rules.get("patternProperties"), Mapping):
        patterns += rules["patternProperties"]
    for pattern in patterns:
        try:
            re.compile(pattern if isinstance(pattern, str) else "")
        except re.error as error:
            raise Unusable(f"has a pattern that cannot be used, {json.dumps(pattern)}: {error}.") from None


def _leads_to_itself(schema: Schema, start: Schema) -> bool:
    """Whether judging a value by these rules judges the same value by them again, and so for ever."""
    if not isinstance(start.get("$ref"), str):
        return False
    seen: set[str] = set()
    waiting: list[Any] = [start]
    while waiting:
        rules = waiting.pop()
        if not isinstance(rules, Mapping):
            continue
        reference = rules.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            waiting.append(schema["$defs"][reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")])
        elif isinstance(reference, str) and reference == start["$ref"]:
            return True
        for keyword in _SAME_VALUE:
            inner = rules.get(keyword)
            if keyword == "dependentSchemas" and isinstance(inner, Mapping):
                waiting.extend(inner.values())
            else:
                waiting.extend(inner if isinstance(inner, list) else [inner])
    return False


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
