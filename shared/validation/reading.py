"""How a JSON Schema is read by people: what a reference points at, and which branch of several a value means."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from shared.model import JsonValue

Schema: TypeAlias = Mapping[str, Any]

_LONGEST_CHAIN: Final = 20
"""References that lead to each other. Nobody writes more, and none may lead round and round."""


class Branch(NamedTuple):
    """One of the forms that `oneOf` or `anyOf` allow."""

    rules: Schema
    """As the schema has them; `{}` for those that are just true or false."""
    resolved: Schema
    tags: tuple[JsonValue, ...]
    """What a value has under the discriminator when it means this one."""


def resolved(schema: Schema, rules: Any) -> Schema:
    """What the rules say themselves, and what their `$ref` into the schema points at."""
    for _ in range(_LONGEST_CHAIN):
        if not isinstance(rules, Mapping):
            return {}
        reference = rules.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return rules
        target: Any = schema
        for token in reference[2:].split("/"):
            target = target[token.replace("~1", "/").replace("~0", "~")]
        rules = _both(target, rules) if len(rules) > 1 and isinstance(target, Mapping) else target
    return {}


def _both(target: Schema, rules: Schema) -> Schema:
    """What stands beside a `$ref` counts as well. Where both say something, these rules are the nearer ones."""
    own = {key: value for key, value in rules.items() if key != "$ref"}
    if "properties" in target and "properties" in own:
        own["properties"] = {**target["properties"], **own["properties"]}
    return {**target, **own}


def choice(schema: Schema, rules: Schema, keyword: str) -> tuple[str | None, list[Branch]]:
    """The key whose value tells the branches apart, None when there is none, and the branches.

    That key is the one that OpenAPI's `discriminator` names (Samara's export has it), else one that is constant in
    every branch.
    """
    found = [(branch, resolved(schema, branch)) for branch in rules[keyword]]
    told = rules.get("discriminator")
    key = told.get("propertyName") if isinstance(told, Mapping) else None
    if key is None:
        keys = [{key for key in branch.get("properties", {}) if _constants(schema, branch, key)} for _, branch in found]
        key = min(set[str].intersection(*keys), default=None) if keys else None
    mapping = told.get("mapping", {}) if isinstance(told, Mapping) else {}
    branches = []
    for rules_of_branch, branch in found:
        own = rules_of_branch if isinstance(rules_of_branch, Mapping) else {}
        tags = _constants(schema, branch, key) if key is not None else ()
        mapped = [tag for tag, target in mapping.items() if target == own.get("$ref") and tag not in tags]
        branches.append(Branch(own, branch, (*tags, *mapped)))
    return key, branches


def _constants(schema: Schema, branch: Schema, key: str) -> tuple[JsonValue, ...]:
    """The values that the branch allows under `key`, where it names them."""
    rules = resolved(schema, branch.get("properties", {}).get(key))
    return (rules["const"],) if "const" in rules else tuple(rules.get("enum", ()))


def asks_for_one_key(branches: list[Branch]) -> bool:
    """Whether the branches only differ in which key must be there."""
    return all(branch.resolved.keys() - {"description", "title"} == {"required"} for branch in branches)
