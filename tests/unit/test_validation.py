"""Every mistake of a file in one run, where it is, and what was expected; and both libraries of one mind."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, TypeChecker

from shared.documents import Limits, parse, places
from shared.model import BlobId, Document, FilePath, Finding, JsonValue, Severity
from shared.validation import Validator

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = json.loads((ROOT / "shared/schemas/samara.schema.json").read_text("utf-8"))
SAMARA = Validator(SCHEMA)
PATH = FilePath("runtime.yaml")
BLOB = BlobId("0" * 40)
EXAMPLES = [yaml.safe_load(path.read_bytes()) for path in sorted((ROOT / "examples/valid").glob("*.yaml"))]


def judge(schema: dict[str, JsonValue], text: str) -> tuple[Finding, ...]:
    document = parse(PATH, BLOB, text.encode(), Limits())
    assert isinstance(document, Document), document
    return Validator(schema).findings(document, text.encode(), places)


def under(rules: dict[str, Any], text: str) -> list[tuple[int | None, int | None, str, str]]:
    """What is found in `text` when the value of the key v has these rules."""
    found = judge({"properties": {"v": rules}}, text)
    return [(finding.line, finding.column, finding.pointer, finding.message) for finding in found]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_definition_is_used() -> None:
    text = json.dumps(SCHEMA)
    assert [name for name in SCHEMA["$defs"] if f'"#/$defs/{name}"' not in text] == []


def test_the_digest_is_the_schema_s_whatever_its_layout() -> None:
    assert (
        Validator({"type": "object", "maxProperties": 1}).digest
        == Validator({"maxProperties": 1, "type": "object"}).digest
    )
    assert Validator({"maxProperties": 1}).digest != Validator({"maxProperties": 2}).digest


def test_places_are_not_looked_for_in_a_valid_file() -> None:
    def never(data: bytes, pointers: object) -> Any:
        pytest.fail("a valid file was read twice")

    assert SAMARA.findings(Document(PATH, BLOB, EXAMPLES[0]), b"", never) == ()


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        ({"type": "string"}, "v: 1", (1, 4, "/v", "v must be text, but is 1. Put it in quotes.")),
        ({"type": "string"}, "v: true", (1, 4, "/v", "v must be text, but is true. Put it in quotes.")),
        ({"type": "string"}, "v:", (1, 3, "/v", "v must be text, but is empty (null).")),
        ({"type": "string"}, "v: [1]", (1, 4, "/v", "v must be text, but is a list.")),
        (
            {"type": "integer"},
            "v: '3'",
            (1, 4, "/v", 'v must be a whole number, but is the text "3". Remove the quotes.'),
        ),
        ({"type": "integer"}, "v: three", (1, 4, "/v", 'v must be a whole number, but is the text "three".')),
        (
            {"type": "boolean"},
            "v: 'True'",
            (1, 4, "/v", 'v must be true or false, but is the text "True". Remove the quotes.'),
        ),
        (
            {"type": "array"},
            "v: x",
            (1, 4, "/v", 'v must be a list, but is the text "x". Begin each item with - on a line of its own.'),
        ),
        ({"type": ["integer", "null"]}, "v: x", (1, 4, "/v", 'v must be a whole number or null, but is the text "x".')),
        ({"type": "object"}, "v: []", (1, 4, "/v", "v must be a mapping, but is an empty list.")),
        (
            {"enum": ["batch", "streaming"]},
            "v: stream",
            (1, 4, "/v", 'v must be batch or streaming, but is the text "stream". Did you mean streaming?'),
        ),
        ({"enum": ["a", 1, None]}, "v: 2", (1, 4, "/v", "v must be a, 1 or null, but is 2.")),
        ({"const": "file"}, "v: jdbc", (1, 4, "/v", 'v must be file, but is the text "jdbc".')),
        ({"minLength": 1}, 'v: ""', (1, 4, "/v", "v must not be empty.")),
        ({"minLength": 3}, "v: ab", (1, 4, "/v", "v must have at least 3 characters, but has 2.")),
        ({"maxLength": 1}, "v: ab", (1, 4, "/v", "v must have at most 1 character, but has 2.")),
        ({"minItems": 1}, "v: []", (1, 4, "/v", "v must not be empty.")),
        ({"maxItems": 1}, "v: [1, 2]", (1, 4, "/v", "v must have at most 1 item, but has 2.")),
        ({"minProperties": 2}, "v: {a: 1}", (1, 4, "/v", "v must have at least 2 keys, but has 1.")),
        ({"uniqueItems": True}, "v: [1, 1]", (1, 4, "/v", "v has the same item twice.")),
        ({"minimum": 1, "maximum": 30}, "v: 60", (1, 4, "/v", "v must be from 1 to 30, but is 60.")),
        ({"minimum": 1}, "v: 0", (1, 4, "/v", "v must be at least 1, but is 0.")),
        ({"exclusiveMaximum": 1}, "v: 1", (1, 4, "/v", "v must be less than 1, but is 1.")),
        (
            {"pattern": "^a", "description": "Begins with a."},
            "v: b",
            (1, 4, "/v", 'v has a wrong form, it is the text "b". Expected: Begins with a.'),
        ),
        (
            {"required": ["extracts"]},
            "v: {extract: 1}",
            (1, 4, "/v", "v lacks the key extracts. Did you mean extract?"),
        ),
        (
            {"items": {"type": "string"}},
            "v:\n  - a\n  - 2\n",
            (3, 5, "/v/1", "Item 2 of v must be text, but is 2. Put it in quotes."),
        ),
        (
            {"additionalProperties": False, "properties": {"size": {}}},
            "v: {a: 1}",
            (1, 5, "/v/a", "v has no key a: remove it."),
        ),
        (
            {"additionalProperties": False, "properties": {"size": {}}},
            "v:\n  sise: [1]\n",
            (2, 3, "/v/sise", "v has no key sise: remove it. Did you mean size?"),
        ),
        ({"multipleOf": 2}, "v: 3", (1, 4, "/v", "v: 3 is not a multiple of 2.")),
    ],
)
def test_a_mistake_is_told_in_words(rules: dict[str, Any], text: str, expected: tuple[int, int, str, str]) -> None:
    assert under(rules, text) == [expected]


def test_every_mistake_is_told_in_one_run_in_the_order_of_the_file() -> None:
    rules = {
        "required": ["z"],
        "properties": {"a": {"type": "string"}, "b": {"minItems": 1, "items": {"type": "integer"}}},
    }
    text = "v:\n  b: [x, 1, z]\n  a: 1\n"
    assert [(line, pointer) for line, _, pointer, _ in under(rules, text)] == [
        (2, "/v"),
        (2, "/v/b/0"),
        (2, "/v/b/2"),
        (3, "/v/a"),
    ]


def test_keys_that_a_pattern_allows_are_known() -> None:
    rules = {
        "additionalProperties": False,
        "properties": {"size": {}},
        "patternProperties": {"^x-": {"type": "string"}},
    }
    assert under(rules, "v: {x-note: a, size: 1, y-note: b}") == [
        (1, 25, "/v/y-note", "v has no key y-note: remove it.")
    ]


def test_what_one_branch_of_a_schema_finds_twice_is_told_once() -> None:
    assert len(under({"allOf": [{"type": "string"}, {"type": "string"}]}, "v: 1")) == 1


def test_everything_is_an_error_with_the_rule_s_name() -> None:
    finding = judge({"properties": {"v": {"minLength": 1}}}, 'v: ""')[0]
    assert (finding.path, finding.rule, finding.severity) == (PATH, "schema-min-length", Severity.ERROR)


def test_a_file_full_of_mistakes_has_at_most_a_hundred_findings() -> None:
    assert len(judge({"properties": {"v": {"items": {"type": "string"}}}}, f"v: [{', '.join('1' * 500)}]")) == 100


def test_a_mistake_that_an_alias_brings_is_shown_at_the_alias() -> None:
    rules = {"required": ["b"], "properties": {"b": {"properties": {"c": {"type": "string"}}}}}
    assert under(rules, "a: &x {c: 1}\nv:\n  b: *x\n") == [
        (3, 6, "/v/b/c", "c must be text, but is 1. Put it in quotes.")
    ]


BY_TYPE = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
BY_KIND = {
    "type": "object",
    "oneOf": [
        {"properties": {"kind": {"const": "file"}, "path": {"type": "string"}}, "required": ["path"]},
        {"properties": {"kind": {"const": "table"}, "name": {"type": "string"}}, "required": ["name"]},
    ],
}
BY_KEY = {"oneOf": [{"required": ["workflow"]}, {"required": ["runtime"]}]}


class TestTheBranchThatWasMeant:
    def test_is_the_one_whose_type_the_value_has(self) -> None:
        assert under(BY_TYPE, "v: [a, 1]") == [(1, 8, "/v/1", "Item 2 of v must be text, but is 1. Put it in quotes.")]

    def test_is_none_when_no_type_fits(self) -> None:
        assert under(BY_TYPE, "v: {}") == [(1, 4, "/v", "v must be text or a list, but is an empty mapping.")]

    def test_is_named_by_the_value_itself(self) -> None:
        assert under(BY_KIND, "v: {kind: table, path: 1}") == [(1, 4, "/v", "v lacks the key name.")]
        assert under(BY_KIND, "v: {kind: file, path: 1}") == [
            (1, 23, "/v/path", "path must be text, but is 1. Put it in quotes.")
        ]

    def test_is_the_one_with_the_fewest_mistakes_when_several_have_its_type(self) -> None:
        rules = {"anyOf": [{"type": "object", "required": ["a", "b"]}, {"type": "object", "required": ["c"]}]}
        assert under(rules, "v: {d: 1}") == [(1, 4, "/v", "v lacks the key c.")]

    def test_is_asked_for_when_the_value_names_none_that_is_known(self) -> None:
        assert under(BY_KIND, "v: {kind: fil}") == [
            (1, 11, "/v/kind", 'kind must be file or table, but is the text "fil". Did you mean file?')
        ]

    def test_is_asked_for_when_the_value_names_none(self) -> None:
        assert under(BY_KIND, "v: {path: x, name: z}") == [(1, 4, "/v", "v lacks the key kind.")]

    def test_is_not_looked_for_in_a_value_of_another_type(self) -> None:
        assert under(BY_KIND, "v: file") == [(1, 4, "/v", 'v must be a mapping, but is the text "file".')]

    def test_is_told_by_its_key(self) -> None:
        assert under(BY_KEY, "v: {workflows: 1}") == [
            (1, 4, "/v", "v lacks the key workflow or runtime. Did you mean workflows?")
        ]
        message = "v has the keys runtime and workflow: only one of them may be there."
        assert under(BY_KEY, "v: {runtime: 1, workflow: 1}") == [(1, 17, "/v/workflow", message)]

    @pytest.mark.parametrize(
        "kind",
        sorted(
            SCHEMA["$defs"][name.rpartition("/")[2]]["properties"]["function_type"]["const"]
            for name in [branch["$ref"] for branch in SCHEMA["$defs"]["Function"]["oneOf"]]
        ),
    )
    def test_of_samara_s_functions_is_told_by_its_function_type(self, kind: str) -> None:
        functions = {"oneOf": SCHEMA["$defs"]["Function"]["oneOf"]}
        found = judge({**functions, "$defs": SCHEMA["$defs"]}, f"function_type: {kind}\narguments: 1\n")
        assert [finding.message for finding in found] == ["arguments must be a mapping, but is 1."]


# -- Both libraries of one mind --------------------------------------------------------------------------------------

KEYS = st.sampled_from(["id", "workflow", "runtime", "jobs", "function_type", "arguments", "on", "columns", "retry"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
NEAR_A_LIMIT = st.sampled_from([0, 1, 0.0, 1.0, -0.0, 30, 30.0, 30.5, 31, 1e300, 2**53 + 1, 2**63 - 1])
WORDS = st.sampled_from(["", " ", "file", "batch", "filter", "join", "http://x", "é", "🚀"])
SCALARS = st.none() | st.booleans() | NUMBERS | NEAR_A_LIMIT | TEXT | WORDS
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | KEYS, inner, max_size=3), max_leaves=5
)


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from containers(inner)


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A valid document with one to three changes anywhere in it."""
    value = copy.deepcopy(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(1, 3))):
        container = draw(st.sampled_from(list(containers(value))))
        if isinstance(container, dict):
            key = draw(st.sampled_from(sorted(container)) | KEYS if container else KEYS)
            if draw(st.booleans()):
                container.pop(key, None)
            else:
                container[key] = draw(JSON)
        elif container and draw(st.booleans()):
            container.pop(draw(st.integers(0, len(container) - 1)))
        else:
            container.insert(0, draw(JSON))
    return value


@given(mutants() | JSON)
def test_both_libraries_give_one_verdict_and_every_no_is_explained(value: Any) -> None:
    is_valid = jsonschema_rs.Draft202012Validator(SCHEMA).is_valid(value)
    assert is_valid == Draft202012Validator(SCHEMA).is_valid(value)
    findings = SAMARA.findings(Document(PATH, BLOB, value), b"", lambda data, pointers: {})
    assert is_valid == (not findings)
    assert "schema" not in {finding.rule for finding in findings}, "the libraries disagree, or nothing explains it"
    assert all(finding.message[-1] in ".?" for finding in findings)


# -- Files full of mistakes ------------------------------------------------------------------------------------------

MANY = 90_000
LOOKS = 20_000
"""More than any file of many values needs, and far fewer than it has."""


def job(**others: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {"extracts": [], "transforms": [], "loads": [], "hooks": {}}
    return {"id": "j", "description": "d", "enabled": True, **parts, **others}


def workflow(*jobs: Any) -> dict[str, Any]:
    return {"workflow": {"id": "w", "description": "d", "enabled": True, "jobs": list(jobs)}}


def functions(*those: Any) -> dict[str, Any]:
    return workflow(job(transforms=[{"id": "t", "upstream_id": "e", "options": {}, "functions": list(those)}]))


def function(kind: str, **arguments: Any) -> dict[str, Any]:
    return functions({"function_type": kind, "arguments": arguments})


def headers(*values: Any) -> dict[str, Any]:
    request: dict[str, Any] = {"id": "h", "description": "d", "enabled": True, "url": "http://x", "method": "GET"}
    request |= {"timeout": 1, "retry": {"max_attempts": 0, "delay_in_seconds": 1}, "action_type": "http"}
    return workflow(
        job(hooks={"onStart": [{**request, "headers": {f"h{n}": value for n, value in enumerate(values)}}]})
    )


COLUMN = {"column_name": "a", "cast_type": "b"}
LARGE: dict[str, tuple[Any, int]] = {
    "invalid jobs": (workflow(*[{}] * MANY), 100),
    "invalid hooks": (workflow(job(hooks={"onStart": [{}] * MANY})), 100),
    "valid jobs, then an invalid one": (workflow(*[job()] * (MANY // 8), job(id=1)), 1),
    "invalid functions": (functions(*[{}] * MANY), 100),
    "functions of an unknown type": (functions(*[{"function_type": "x", "arguments": {}}] * (MANY // 3)), 100),
    "a list for a function": (functions(["x"] * MANY), 1),
    "invalid columns of a function": (function("cast", columns=[{}] * MANY), 100),
    "text that two branches may have": (function("join", other_upstream_id="a", on=[1] * MANY), 100),
    "valid columns, then an invalid one": (
        function("cast", columns=[COLUMN] * (MANY // 3) + [{**COLUMN, "cast_type": 1}]),
        1,
    ),
    "valid text, then a number": (function("select", columns=["x"] * MANY + [1]), 1),
    "valid headers, then a number": (headers(*["x"] * MANY, 1), 1),
    "invalid headers": (headers(*[1] * MANY), 100),
}

IN_LITTLE_MEMORY = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (600 * 2**20, 600 * 2**20))
from shared.model import BlobId, Document, FilePath
from shared.validation import Validator
with open("shared/schemas/samara.schema.json", encoding="utf-8") as file:
    validator = Validator(json.load(file))
document = Document(FilePath("a"), BlobId("0" * 40), json.load(sys.stdin))
print(len(validator.findings(document, b"", lambda data, pointers: {})))
"""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often `jsonschema` looked at a value's type, which it does once or more for nearly every value."""
    count = [0]
    is_type = TypeChecker.is_type

    def counted(self: TypeChecker, instance: Any, type: str) -> bool:
        count[0] += 1
        return bool(is_type(self, instance, type))

    monkeypatch.setattr(TypeChecker, "is_type", counted)
    return count


class TestALargeFile:
    @pytest.mark.parametrize("name", LARGE)
    def test_is_explained_without_a_look_at_all_of_it(self, name: str, looks: list[int]) -> None:
        value, expected = LARGE[name]
        findings = SAMARA.findings(Document(PATH, BLOB, value), b"", lambda data, pointers: {})
        assert len(findings) == expected
        assert all(finding.pointer for finding in findings)
        assert 0 < looks[0] <= LOOKS

    @pytest.mark.parametrize("name", ["invalid hooks", "invalid columns of a function"])
    def test_is_explained_in_little_memory(self, name: str) -> None:
        """In a process of its own: nothing in Python sees what `jsonschema-rs` takes."""
        value, expected = LARGE[name]
        done = subprocess.run(
            [sys.executable, "-c", IN_LITTLE_MEMORY],
            input=json.dumps(value),
            capture_output=True,
            cwd=ROOT,
            text=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr[-300:]) == (f"{expected}\n", "")

    def test_has_its_first_mistakes_told_in_the_order_of_the_file(self) -> None:
        findings = SAMARA.findings(Document(PATH, BLOB, LARGE["invalid headers"][0]), b"", lambda data, pointers: {})
        assert [finding.pointer.rpartition("/")[2] for finding in findings] == [f"h{number}" for number in range(100)]


def test_items_after_a_prefix_are_told_by_their_place() -> None:
    rules = {"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}
    assert [(column, pointer) for _, column, pointer, _ in under(rules, "v: [1, 2, x]")] == [(5, "/v/0"), (11, "/v/2")]


def test_more_items_than_are_allowed_are_told() -> None:
    rules = {"prefixItems": [{}], "items": False}
    assert under(rules, "v: [1, 2]") == [(1, 4, "/v", "v: Expected at most 1 item but found 1 extra: 2.")]


def test_keys_that_no_rule_names_are_told_by_their_place() -> None:
    rules = {"properties": {"a": {}}, "patternProperties": {"^x-": {}}, "additionalProperties": {"type": "string"}}
    assert [pointer for _, _, pointer, _ in under(rules, "v: {a: 1, x-b: 1, c: 1, d: d}")] == ["/v/c"]


def test_a_value_that_fits_two_forms_is_told() -> None:
    rules = {"oneOf": [{"type": "integer"}, {"minimum": 0}]}
    assert under(rules, "v: 1") == [(1, 4, "/v", "v fits more than one of the allowed forms.")]
