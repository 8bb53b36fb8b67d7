"""Every mistake of a file in one run, where it is, and what was expected; and both libraries of one mind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from jsonschema import TypeChecker

from shared.documents import Limits, parse, places
from shared.model import BlobId, Document, FilePath, Finding, JsonValue, Severity
from shared.validation import Validator, references, unknown
from shared.validation.mistakes import nearest

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
        ({"type": "string"}, "v:", (1, 3, "/v", 'v must be text, but is empty (null). Write "" for none.')),
        ({"type": "string", "minLength": 1}, "v:", (1, 3, "/v", "v must be text, but is empty (null).")),
        ({"type": "array"}, "v:", (1, 3, "/v", "v must be a list, but is empty (null). Write [] for none.")),
        ({"type": "array", "minItems": 1}, "v: {}", (1, 4, "/v", "v must be a list, but is an empty mapping.")),
        ({"type": "object"}, "v:", (1, 3, "/v", "v must be a mapping, but is empty (null). Write {} for none.")),
        (
            {"type": "object", "required": ["a"]},
            "v: []",
            (1, 4, "/v", "v must be a mapping, but is an empty list."),
        ),
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
        ({"type": "object"}, "v: []", (1, 4, "/v", "v must be a mapping, but is an empty list. Write {} for none.")),
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
            (1, 5, "/v/extract", "v lacks the key extracts: was extract meant to be extracts?"),
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


# -- One mistake is one finding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        ({"type": "string", "enum": ["a"]}, "v: 1", ["v must be a, but is 1."]),
        ({"const": "a", "type": "string"}, "v: [1]", ["v must be a, but is a list."]),
        ({"minimum": 1, "exclusiveMinimum": 0, "maximum": 9}, "v: 0", ["v must be from 1 to 9, but is 0."]),
        (
            {"anyOf": [{"type": "string"}, {"type": "string", "format": "file-path"}]},
            "v: 1",
            ["v must be text, but is 1."],
        ),
        (
            {"properties": {"size": {}}, "required": ["size"], "additionalProperties": False},
            "v: {sise: 1}",
            ["v lacks the key size: was sise meant to be size?"],
        ),
        (
            {"properties": {"a_name": {}, "b_name": {}}, "required": ["a_name", "b_name"]},
            "v: {c_name: 1}",
            ["v lacks the key b_name.", "v lacks the key a_name: was c_name meant to be a_name?"],
        ),
        (
            {"properties": {"size": {"type": "string"}}, "required": ["size"]},
            "v: {sise: 1, other: 2}",
            ["v lacks the key size: was sise meant to be size?"],
        ),
    ],
)
def test_one_mistake_is_told_once(rules: dict[str, Any], text: str, expected: list[str]) -> None:
    assert [message for _, _, _, message in under(rules, text)] == expected


class TestAKeyThatTheSchemaAllowsAndDoesNotName:
    NAMED: ClassVar[dict[str, Any]] = {"properties": {"onError": {}, "name": {}}}

    def test_is_a_warning_when_it_looks_misspelled(self) -> None:
        [finding] = judge({"properties": {"v": self.NAMED}}, "v:\n  onEror: [1]\n")
        assert (finding.rule, finding.severity, finding.line, finding.column) == ("unknown-key", Severity.WARNING, 2, 3)
        assert finding.pointer == "/v/onEror"
        assert finding.message == "v has the key onEror, which means nothing here. Did you mean onError?"

    @pytest.mark.parametrize(
        ("rules", "text"),
        [
            (NAMED, "v: {owner: x, colour: y}"),
            (NAMED, "v: {onError: 1, onEror: 2}"),
            (NAMED, "v: {name: x}"),
            (NAMED, "v: [onEror]"),
            ({"type": "object"}, "v: {onEror: 1}"),
            ({**NAMED, "additionalProperties": {"type": "integer"}}, "v: {onEror: 1}"),
            ({**NAMED, "patternProperties": {"^x": {}}}, "v: {onEror: 1}"),
            ({"allOf": [NAMED, {"properties": {"onEror": {}}}]}, "v: {onEror: 1}"),
            ({"anyOf": [NAMED, {"properties": {"onEror": {}}}]}, "v: {onEror: 1}"),
            ({"oneOf": [NAMED], "properties": {"onEror": {}}}, "v: {onErorr: 1}"),
        ],
    )
    def test_is_nobody_s_business_else(self, rules: dict[str, Any], text: str) -> None:
        assert under(rules, text) == []

    @pytest.mark.parametrize(
        ("rules", "text", "pointer"),
        [
            ({"items": NAMED}, "v: [{}, {onEror: 1}]", "/v/1/onEror"),
            ({"additionalProperties": NAMED}, "v: {a: {onEror: 1}}", "/v/a/onEror"),
            ({**NAMED, "additionalProperties": True}, "v: {onEror: 1}", "/v/onEror"),
            ({"anyOf": [NAMED, {"type": "null"}]}, "v: {onEror: 1}", "/v/onEror"),
            ({"anyOf": [{"type": "array", "items": NAMED}, {"type": "string"}]}, "v: [{onEror: 1}]", "/v/0/onEror"),
            ({"properties": {"a/b~c": NAMED}}, "v: {a/b~c: {onEror: 1}}", "/v/a~1b~0c/onEror"),
        ],
    )
    def test_is_found_wherever_it_is(self, rules: dict[str, Any], text: str, pointer: str) -> None:
        assert [(rule, there) for rule, there in self.found(rules, text)] == [("unknown-key", pointer)]

    @pytest.mark.parametrize(("kind", "pointers"), [("a", ["/v/sise"]), ("b", []), ("c", [])])
    def test_is_compared_with_those_of_the_branch_that_is_meant(self, kind: str, pointers: list[str]) -> None:
        rules = {
            "oneOf": [
                {"properties": {"kind": {"const": "a"}, "size": {}}},
                {"properties": {"kind": {"const": "b"}, "colour": {}}},
            ]
        }
        unknown = [there for rule, there in self.found(rules, f"v: {{kind: {kind}, sise: 1}}") if rule == "unknown-key"]
        assert unknown == pointers

    def test_is_not_told_twice_when_a_key_that_must_be_there_is_meant(self) -> None:
        rules = {"properties": {"size": {}, "side": {}}, "required": ["size"]}
        assert self.found(rules, "v: {sise: 1}") == [("schema-required", "/v/sise")]

    def test_is_told_beside_errors_and_after_them_where_there_are_too_many(self) -> None:
        rules = {**self.NAMED, "additionalProperties": True, "minProperties": 9}
        assert self.found(rules, "v: {onEror: 1}") == [("schema-min-properties", "/v"), ("unknown-key", "/v/onEror")]
        many = {"properties": {"a": {"items": {"type": "string"}}, "onError": {}}}
        assert {rule for rule, _ in self.found(many, f"v: {{onEror: 1, a: [{', '.join('1' * 200)}]}}")} == {
            "schema-type"
        }

    def test_is_compared_with_those_beside_a_reference_and_behind_it(self) -> None:
        behind = {"properties": {"names": {}, "size": {}}}
        schema = {"properties": {"v": {"$ref": "#/$defs/A", "properties": {"name": {}}}}, "$defs": {"A": behind}}
        assert judge(schema, "v: {names: 1}") == ()
        found = judge(schema, "v: {nmae: 1, names: 1, sise: 1}")
        assert [finding.message.rpartition(" ")[2] for finding in found] == ["name?", "size?"]

    @pytest.mark.parametrize("key", ["onErro{}", "{}"])
    def test_of_a_file_full_of_them_is_looked_at_no_more_than_is_bearable(
        self, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared = []
        monkeypatch.setattr(unknown, "nearest", lambda *words: compared.append(words) or nearest(*words))
        value = {"v": {key.format(number): 1 for number in range(50_000)}}
        schema = {"properties": {"v": {"properties": {f"onError{number}": {} for number in range(50)}}}}
        Validator(schema).findings(Document(PATH, BLOB, value), b"", lambda data, pointers: {})
        assert 0 < len(compared) <= 1000

    @staticmethod
    def found(rules: dict[str, Any], text: str) -> list[tuple[str, str]]:
        return [(finding.rule, finding.pointer) for finding in judge({"properties": {"v": rules}}, text)]


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

    def test_is_named_by_the_mapping_of_a_discriminator(self) -> None:
        defs = {name.upper(): {"type": "object", "required": [name]} for name in "ab"}
        rules = {
            "discriminator": {"propertyName": "kind", "mapping": {"one": "#/$defs/A", "two": "#/$defs/B"}},
            "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
        }
        schema = {"properties": {"v": rules}, "$defs": defs}
        assert [finding.message for finding in judge(schema, "v: {kind: two}")] == ["v lacks the key b."]
        assert [finding.message for finding in judge(schema, "v: {kind: two, a: 1, b: 1}")] == [
            "v fits more than one of the allowed forms."
        ]
        assert [finding.message for finding in judge(schema, "v: {kind: tow}")] == [
            'kind must be one or two, but is the text "tow". Did you mean two?'
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
            (1, 5, "/v/workflows", "v lacks the key workflow: was workflows meant to be workflow?")
        ]
        assert under(BY_KEY, "v: {jobs: 1}") == [(1, 4, "/v", "v lacks the key workflow or runtime.")]
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


# -- Files full of mistakes ------------------------------------------------------------------------------------------

MANY = 90_000
LOOKS = 20_000
"""More than any file of many values needs, and far fewer than it has."""


EXTRACT: dict[str, Any] = {"id": "e", "extract_type": "file", "method": "batch", "data_format": "csv", "location": "x"}
EXTRACT |= {"schema": "", "options": {}}
TRANSFORM = {"id": "t", "upstream_id": "e", "options": {}}


def job(**others: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {"extracts": [], "transforms": [], "loads": [], "hooks": {}}
    return {"id": "j", "description": "d", "enabled": True, **parts, **others}


def workflow(*jobs: Any) -> dict[str, Any]:
    return {"workflow": {"id": "w", "description": "d", "enabled": True, "jobs": list(jobs)}}


def functions(*those: Any) -> dict[str, Any]:
    return workflow(job(extracts=[EXTRACT], transforms=[{**TRANSFORM, "functions": list(those)}]))


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
    "text that two branches may have": (function("join", other_upstream_id="e", on=[1] * MANY), 100),
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
from shared.validation import Validator, references, unknown
from shared.validation.mistakes import nearest
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

    def test_of_references_that_lead_nowhere_is_compared_with_few_ids(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared = []
        monkeypatch.setattr(references, "did_you_mean", lambda *words: compared.append(words) or "")
        extracts = [{**EXTRACT, "id": f"e{number}"} for number in range(3000)]
        transforms = [{**TRANSFORM, "id": f"t{n}", "upstream_id": f"x{n}", "functions": []} for n in range(3000)]
        value = workflow(job(extracts=extracts, transforms=transforms))
        assert len(SAMARA.findings(Document(PATH, BLOB, value), b"", lambda data, pointers: {})) == 100
        assert len(compared) == 100

    def test_has_its_first_mistakes_told_in_the_order_of_the_file(self) -> None:
        findings = SAMARA.findings(Document(PATH, BLOB, LARGE["invalid headers"][0]), b"", lambda data, pointers: {})
        assert [finding.pointer.rpartition("/")[2] for finding in findings] == [f"h{number}" for number in range(100)]


def test_items_after_a_prefix_are_told_by_their_place() -> None:
    rules = {"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}
    assert [(column, pointer) for _, column, pointer, _ in under(rules, "v: [1, 2, x]")] == [(5, "/v/0"), (11, "/v/2")]


def test_more_items_than_are_allowed_are_told() -> None:
    rules = {"prefixItems": [{}], "items": False}
    assert under(rules, "v: [1, 2]") == [(1, 4, "/v", "v must have at most 1 item, but has 2.")]


def test_keys_that_no_rule_names_are_told_by_their_place() -> None:
    rules = {"properties": {"a": {}}, "patternProperties": {"^x-": {}}, "additionalProperties": {"type": "string"}}
    assert [pointer for _, _, pointer, _ in under(rules, "v: {a: 1, x-b: 1, c: 1, d: d}")] == ["/v/c"]


def test_a_value_that_fits_two_forms_is_told() -> None:
    rules = {"oneOf": [{"type": "integer"}, {"minimum": 0}]}
    assert under(rules, "v: 1") == [(1, 4, "/v", "v fits more than one of the allowed forms.")]


@pytest.mark.parametrize(
    ("pattern", "value"), [("^[a-z]+$", "a\n"), (r"^\d+$", "\u0661\u0662"), ("^(a+)+$", "a" * 40 + "b")]
)
def test_a_pattern_means_the_same_to_who_decides_and_to_who_explains(pattern: str, value: str) -> None:
    text = "v: " + json.dumps(value)
    (place,) = {one[:3] for one in under({"pattern": pattern}, text)}
    assert place == (1, 4, "/v")
    keys = {"patternProperties": {pattern: {"type": "string"}}, "additionalProperties": False}
    ((line, column, _, message),) = under(keys, f"v: {{{json.dumps(value)}: x}}")
    assert (line, column) == (1, 5)
    assert "remove it" in message
    values = {"patternProperties": {pattern: False, "": {"type": "string"}}}
    assert under(values, f"v: {{{json.dumps(value)}: 1}}")[0][3].endswith("Put it in quotes.")


def test_where_no_item_is_allowed_it_is_said_in_our_words() -> None:
    assert under({"items": False}, "v: [1]") == [(1, 4, "/v", "v must be an empty list, but has 1.")]
    assert under({"prefixItems": [{}, {}], "items": False}, "v: [1, 2]") == []


def test_another_case_is_a_question_that_keeps_the_case_of_the_schema() -> None:
    assert under({"enum": ["select", "drop"]}, "v: SELECT")[0][3].endswith("Did you mean select?")
    ((_, column, _, message),) = under({"required": ["LOADS"], "properties": {"LOADS": {}}}, "v: {loads: 1}")
    assert (column, message) == (5, "v lacks the key LOADS: was loads meant to be LOADS?")
    assert [one[3] for one in under({"properties": {"onError": {}}}, "v: {ONERROR: 1}")] == [
        "v has the key ONERROR, which means nothing here. Did you mean onError?"
    ]
