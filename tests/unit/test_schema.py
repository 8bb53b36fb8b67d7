"""The shipped schema: readable at every place, and shown by examples at every place."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from shared.model import BlobId, FilePath, Validation
from shared.rules import Rules

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = json.loads((ROOT / "shared/schemas/samara.schema.json").read_text("utf-8"))
VALID = sorted((ROOT / "examples/valid").glob("*.yaml"))
INVALID = sorted((ROOT / "examples/invalid").glob("*.yaml"))
RULES = Rules.shipped()


def rules_of(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything in the schema that has rules for a value, and where it stands."""
    yield place, schema
    for keyword in ("properties", "$defs"):
        for name, inner in schema.get(keyword, {}).items():
            yield from rules_of(inner, f"{place}/{keyword}/{name}")
    for keyword in ("oneOf", "anyOf", "allOf"):
        for number, inner in enumerate(schema.get(keyword, ())):
            yield from rules_of(inner, f"{place}/{keyword}/{number}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from rules_of(schema[keyword], f"{place}/{keyword}")


PLACES = dict(rules_of(SCHEMA, "#"))


def target(rules: dict[str, Any]) -> dict[str, Any]:
    return PLACES[rules["$ref"]] if "$ref" in rules else rules


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_definition_is_used() -> None:
    text = json.dumps(SCHEMA)
    assert [name for name in SCHEMA["$defs"] if f'"#/$defs/{name}"' not in text] == []


def test_every_place_has_a_description_that_is_a_sentence() -> None:
    """A branch or an item that only names a definition has that of the definition; a key says what it is for itself."""
    for place, rules in PLACES.items():
        is_key = place.rpartition("/")[0].endswith("/properties")
        description = rules.get("description") or (None if is_key else target(rules).get("description"))
        assert description, place
        assert description.endswith((".", "?")), place


def test_what_must_be_there_is_described() -> None:
    for place, rules in PLACES.items():
        assert set(rules.get("required", ())) <= {"function_type", "arguments", *known(place, rules)}, place


def known(place: str, rules: dict[str, Any]) -> set[str]:
    """The keys that are named here, or around a branch."""
    around = PLACES.get(place.partition("/oneOf/")[0], {})
    return {*rules.get("properties", {}), *around.get("properties", {})}


# -- Every place is shown ----------------------------------------------------------------------------------------------


def visits(place: str, value: Any, pointer: str = "") -> Iterator[tuple[str, str, Any]]:
    """The places of the schema that a value comes by, the JSON pointers of what comes by them, and that itself."""
    rules = PLACES[place]
    yield place, pointer, value
    if "$ref" in rules:
        yield from visits(rules["$ref"], value, pointer)
    for branch in (f"{place}/{keyword}/{number}" for keyword in ("oneOf", "anyOf") for number in range(20)):
        if branch in PLACES and fits(PLACES[branch], value):
            yield from visits(branch, value, pointer)
    if isinstance(value, dict):
        for key, inner in value.items():
            if f"{place}/properties/{key}" in PLACES:
                yield from visits(f"{place}/properties/{key}", inner, f"{pointer}/{key}")
            elif f"{place}/additionalProperties" in PLACES:
                yield from visits(f"{place}/additionalProperties", inner, f"{pointer}/{key}")
    if isinstance(value, list) and f"{place}/items" in PLACES:
        for number, inner in enumerate(value):
            yield from visits(f"{place}/items", inner, f"{pointer}/{number}")


def fits(branch: dict[str, Any], value: Any) -> bool:
    """Whether a value that may be wrong means this branch: by its function_type, else by its type."""
    rules = target(branch)
    if "function_type" in rules.get("properties", {}):
        constant = rules["properties"]["function_type"]["const"]
        return isinstance(value, dict) and value.get("function_type") == constant
    return Draft202012Validator({key: rules[key] for key in ("type", "required") if key in rules}).is_valid(value)


def shown_by_the_valid() -> dict[str, list[Any]]:
    shown: dict[str, list[Any]] = {}
    for path in VALID:
        for place, _, value in visits("#", yaml.safe_load(path.read_bytes())):
            shown.setdefault(place, []).append(value)
    return shown


def refused_in_the_invalid() -> set[str]:
    """The places that some invalid example has a value for that is refused."""
    refused = set()
    for path in INVALID:
        document, findings = RULES.judge(FilePath(path.name), BlobId("0" * 40), path.read_bytes(), Validation.ENFORCE)
        if document is not None:
            pointers = {finding.pointer for finding in findings if finding.rule.startswith("schema-")}
            refused |= {place for place, pointer, _ in visits("#", document.value) if pointer in pointers}
    return refused


SHOWN = shown_by_the_valid()
REFUSED = refused_in_the_invalid()


def test_every_place_is_in_a_valid_example() -> None:
    assert [place for place in PLACES if place not in SHOWN] == []


@pytest.mark.parametrize("place", [place for place, rules in PLACES.items() if "enum" in rules])
def test_every_value_of_an_enumeration_is_in_a_valid_example(place: str) -> None:
    assert set(SHOWN[place]) == set(PLACES[place]["enum"])


def test_every_place_with_a_rule_is_refused_in_an_invalid_example() -> None:
    """But for what only names a function or a form, which is refused as being none of them, and for the file itself:
    what is no mapping is not read."""
    ruled = {
        place
        for place, rules in PLACES.items()
        if place != "#"
        and rules.keys() & {"type", "enum", "const", "anyOf", "oneOf"}
        and not place.endswith("/properties/function_type")
        and "/anyOf/" not in place
    }
    assert sorted(ruled - REFUSED) == []


# -- The page about it -------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs/schema.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("heading", "folder"), [("What is not checked", "valid"), ("What is refused and Samara accepts", "invalid")]
)
def test_everything_that_is_judged_otherwise_than_by_samara_is_shown_by_an_example(heading: str, folder: str) -> None:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    items = section.split("\n- ")[1:]
    assert len(items) >= 4
    for item in items:
        found = re.search(rf"\]\(\.\./examples/{folder}/([a-z_]+\.yaml)\)", item)
        assert found, item
        assert (ROOT / "examples" / folder / found[1]).is_file(), item


def test_every_rule_about_references_is_on_the_page() -> None:
    source = (ROOT / "shared/validation/references.py").read_text("utf-8")
    rules = set(re.findall(r'"((?:duplicate|upstream)-[a-z-]+)"', source))
    assert len(rules) == 5
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)) == rules
