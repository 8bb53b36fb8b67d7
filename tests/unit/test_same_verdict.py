"""Whatever a document looks like, both libraries and the validator are of one mind about it, and no never lacks a why.

Documents are the valid examples with changes anywhere in them, and JSON of any shape. They are judged by the shipped
schema and by one in the shape that Samara exports.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.schemas import EXPORTED

from shared.documents import Limits, parse, places
from shared.model import BlobId, Document, FilePath, Finding, Severity
from shared.validation import Validator
from shared.validation.usable import of_file

ROOT = Path(__file__).parents[2]
SHIPPED: dict[str, Any] = json.loads((ROOT / "shared/schemas/samara.schema.json").read_text("utf-8"))
OTHER = of_file(json.dumps(EXPORTED).encode())
SCHEMAS = {
    name: (Validator(schema), jsonschema_rs.Draft202012Validator(schema), Draft202012Validator(schema))
    for name, schema in {"shipped": SHIPPED, "exported": OTHER}.items()
}
PATH, BLOB = FilePath("runtime.yaml"), BlobId("0" * 40)
EXAMPLES = [yaml.safe_load(path.read_bytes()) for path in sorted((ROOT / "examples/valid").glob("*.yaml"))]

_KEYS = """
id workflow runtime jobs function_type arguments on columns
retry upstream_id hooks other_upstream_id alert
"""
KEYS = st.sampled_from(_KEYS.split())
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
NEAR_A_LIMIT = st.sampled_from([0, 1, 0.0, 1.0, -0.0, 30, 30.0, 30.5, 31, 1e300, 2**53 + 1, 2**63 - 1])
WORDS = st.sampled_from(["", " ", "file", "batch", "filter", "join", "http://x", "orders", "é", "🚀"])
SCALARS = st.none() | st.booleans() | NUMBERS | NEAR_A_LIMIT | TEXT | WORDS
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | KEYS, inner, max_size=3), max_leaves=5
)


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


def changed(draw: st.DrawFn, value: Any) -> None:
    """Drop, rename, replace, swap or add something somewhere in `value`."""
    container = draw(st.sampled_from(list(containers(value))))
    slots = sorted(container) if isinstance(container, dict) else range(len(container))
    slot = draw(st.sampled_from(slots)) if slots else None
    change = draw(st.sampled_from(["drop", "rename", "replace", "swap", "add"]))
    if slot is None or change == "add":
        if isinstance(container, dict):
            container[draw(KEYS)] = draw(JSON)
        else:
            container.insert(0, draw(JSON))
    elif change == "drop":
        del container[slot]
    elif change == "rename" and isinstance(container, dict):
        container[slot[:-1] + draw(st.sampled_from(["", "x", "sx"]))] = container.pop(slot)
    elif change == "swap":
        other = draw(st.sampled_from(slots))
        container[slot], container[other] = container[other], container[slot]
    else:
        container[slot] = draw(JSON)


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A valid document with one to three changes anywhere in it."""
    value = copy.deepcopy(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(1, 3))):
        changed(draw, value)
    return value


def of_schema(findings: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.rule.startswith("schema")]


@pytest.mark.parametrize("name", SCHEMAS)
@given(value=mutants() | JSON)
@settings(max_examples=300)
def test_both_libraries_and_the_validator_give_one_verdict_and_every_no_is_explained(name: str, value: Any) -> None:
    validator, decides, explains = SCHEMAS[name]
    is_valid = decides.is_valid(value)
    assert is_valid == explains.is_valid(value)
    findings = validator.findings(Document(PATH, BLOB, value), b"", lambda data, pointers: {})
    assert is_valid == (not of_schema(findings))
    assert "schema" not in {finding.rule for finding in findings}, "the libraries disagree, or nothing explains it"
    assert all(finding.message[-1] in ".?" for finding in findings)
    assert len({(finding.pointer, finding.message) for finding in findings}) == len(findings)


@given(value=mutants(), style=st.sampled_from([None, True, False]))
@settings(max_examples=200)
def test_every_finding_has_a_place_inside_the_file(value: Any, style: bool | None) -> None:
    text = yaml.safe_dump(value, default_flow_style=style, allow_unicode=True, sort_keys=False)
    found = parse(PATH, BLOB, text.encode(), Limits())
    if not isinstance(found, Document):
        return
    lines = text.split("\n")
    for finding in SCHEMAS["shipped"][0].findings(found, text.encode(), places):
        assert finding.line is not None
        assert finding.column is not None
        assert 1 <= finding.line <= len(lines)
        assert 1 <= finding.column <= len(lines[finding.line - 1]) + 1


@pytest.mark.parametrize("name", SCHEMAS)
@given(value=JSON)
@settings(max_examples=30)
def test_a_key_of_one_s_own_changes_no_verdict(name: str, value: Any) -> None:
    document = yaml.safe_load((ROOT / "examples/valid/aliases.yaml").read_bytes())
    document["workflow"]["jobs"][0]["extracts"][0]["note_of_our_own"] = value
    findings = SCHEMAS[name][0].findings(Document(PATH, BLOB, document), b"", lambda data, pointers: {})
    assert Severity.ERROR not in {finding.severity for finding in findings}
