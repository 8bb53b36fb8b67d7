"""A file that is read says one thing, and a file that is not says all that is wrong with it, and where."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.documents import Limits, parse, places
from shared.model import BlobId, Document, FilePath, Finding, Severity

PATH = FilePath("team/runtime.yaml")
BLOB = BlobId("0" * 40)

# What YAML may hold as it is: no control characters, no line breaks of YAML 1.1, no surrogates. Beyond the BMP, JSON
# escapes in pairs, which YAML does not know.
TEXT = st.text(
    st.characters(
        min_codepoint=0x20, max_codepoint=0xD7FF, exclude_characters="\x7f\x85\u2028\u2029", exclude_categories=["Cc"]
    ),
    max_size=100,  # A key must fit into 1,024 characters as it is written, also in escapes.
)
# 1e-05 is text to PyYAML and a number to JSON, so it is refused.
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda value: "e" not in repr(value) or "." in repr(value)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
MAPPINGS = st.dictionaries(TEXT, VALUES, max_size=5)


def read(text: str | bytes, **limits: int) -> Any:
    document = parse(PATH, BLOB, text if isinstance(text, bytes) else text.encode(), Limits(**limits))
    assert isinstance(document, Document), document
    return document.value


def refused(text: str | bytes, **limits: int) -> tuple[Finding, ...]:
    findings = parse(PATH, BLOB, text if isinstance(text, bytes) else text.encode(), Limits(**limits))
    assert isinstance(findings, tuple), findings
    assert findings
    assert all(finding.path == PATH and finding.severity is Severity.ERROR for finding in findings)
    return findings


def places_of(findings: tuple[Finding, ...]) -> list[tuple[str, int | None, int | None]]:
    return [(finding.rule, finding.line, finding.column) for finding in findings]


def test_a_document_keeps_its_path_and_blob_id() -> None:
    assert parse(PATH, BLOB, b"a: 1", Limits()) == Document(PATH, BLOB, {"a": 1})


@given(MAPPINGS)
def test_json_is_read_as_json_reads_it(value: dict[str, Any]) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
        again = read(text)
        assert again == value
        assert json.dumps(again) == json.dumps(value)


@given(MAPPINGS, st.sampled_from(['"', "'", "|", ">", None]), st.booleans())
def test_what_pyyaml_writes_is_read_as_pyyaml_reads_it(value: dict[str, Any], style: Any, flow: bool) -> None:
    text = yaml.safe_dump(value, default_style=style, default_flow_style=flow, allow_unicode=True)
    document = parse(PATH, BLOB, text.encode(), Limits())
    if isinstance(document, Document):
        assert document.value == yaml.safe_load(text) == value
    else:  # PyYAML tags what a style would change, and writes text as plain that is not text to YAML 1.2.
        assert {finding.rule for finding in document} <= {"tag", "ambiguous-scalar", "key-not-text"}


def test_all_styles_of_text() -> None:
    text = "a: plain text\nb: 'it''s'\nc: \"tab\\t\"\nd: |\n  two\n  lines\ne: >-\n  one\n  line\nf: plain\n  goes on\n"
    value = {"a": "plain text", "b": "it's", "c": "tab\t", "d": "two\nlines\n", "e": "one line", "f": "plain goes on"}
    assert read(text) == value


def test_a_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    assert read(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - 2\r\n") == {"a": 1, "b": [2]}
    assert places_of(refused(b"\xef\xbb\xbfa: \x07")) == [("yaml-syntax", 1, 4)]
    assert places_of(refused(b"\xef\xbb\xbfa: yes")) == [("ambiguous-scalar", 1, 4)]


def test_an_alias_repeats_a_value() -> None:
    assert read("a: &x {k: [1]}\nb: *x\nc: [*x, *x]\nd: &s text\n*s : key\n") == {
        "a": {"k": [1]},
        "b": {"k": [1]},
        "c": [{"k": [1]}, {"k": [1]}],
        "d": "text",
        "text": "key",
    }


def test_every_mistake_is_told_in_one_go_in_the_order_of_the_file() -> None:
    findings = refused("a: yes\nb: {c: 1, c: 2}\nd: !!str 1\n1: x\nb: .nan\ne: *nowhere\n")
    assert places_of(findings) == [
        ("ambiguous-scalar", 1, 4),
        ("duplicate-key", 2, 11),
        ("tag", 3, 4),
        ("key-not-text", 4, 1),
        ("duplicate-key", 5, 1),
        ("not-finite", 5, 4),
        ("alias", 6, 4),
    ]
    assert [finding.pointer for finding in findings] == ["/a", "/b/c", "/d", "", "/b", "/b", "/e"]


def test_a_mistake_of_syntax_comes_with_what_was_found_before_it() -> None:
    findings = refused("a: yes\nb: 1\nb: 2\nc: [1\nd: 2\n")
    assert places_of(findings)[:2] == [("ambiguous-scalar", 1, 4), ("duplicate-key", 3, 1)]
    assert findings[2].rule == "yaml-syntax"
    assert "The first one is on line 2." in findings[1].message


def test_a_repeated_key_is_told_with_the_line_of_the_first() -> None:
    finding = refused("list:\n  - name: x\n    other: 1\n    name: y\n")[0]
    assert (finding.rule, finding.line, finding.column, finding.pointer) == ("duplicate-key", 4, 5, "/list/0/name")
    assert '"name"' in finding.message
    assert "line 2" in finding.message


def test_of_several_repeated_keys_each_is_told_with_its_first() -> None:
    messages = [finding.message for finding in refused("b: 1\nb: 2\nc: 3\nc: 4\nb: 5\n")]
    assert [message[-2] for message in messages] == ["1", "3", "1"]


def test_a_pointer_escapes_what_json_pointers_escape() -> None:
    assert refused('"a/b~c": {d: yes}')[0].pointer == "/a~1b~0c/d"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "not-a-mapping"),
        ("# a comment\n", "not-a-mapping"),
        ("---\n", "not-a-mapping"),
        ("null\n", "not-a-mapping"),
        ("text\n", "not-a-mapping"),
        ("- a\n", "not-a-mapping"),
        ("a: 1\n---\nb: 1\n", "several-documents"),
        ("a: 1\n--- \n", "several-documents"),
        ("%YAML 1.1\n---\na: 1\n", "directive"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", "directive"),
        ("a: !custom 1\n", "tag"),
        ("a: ! 1\n", "tag"),
        ("a: !!map {}\n", "tag"),
        ("a: !!python/object/apply:os.system [ls]\n", "tag"),
        ("a: &x [*x]\n", "alias"),
        ("a: &x {b: {c: *x}}\n", "alias"),
        ("a: *x\n", "alias"),
        ("a: &x 1\nb: &x 2\n", "repeated-anchor"),
        ("<<: {a: 1}\n", "merge-key"),
        ("a: <<\n", "merge-key"),
        ('a: "x\\0"\n', "nul-character"),
        ('"\\0": x\n', "nul-character"),
        ('a: "\\ud800"\n', "yaml-syntax"),
        ('a: "\\udc00\\ud800"\n', "yaml-syntax"),
        ("1: x\n", "key-not-text"),
        ("true: x\n", "key-not-text"),
        ("?\n: x\n", "key-not-text"),
        ("? [a]\n: x\n", "key-not-text"),
        ("? {a: 1}\n: x\n", "key-not-text"),
        ("a: &x [1]\n*x : z\n", "key-not-text"),
        ("on: x\n", "ambiguous-scalar"),
        ("a: [.inf]\n", "not-finite"),
        ("a: 9223372036854775808\n", "number-too-large"),
        ("a: -9223372036854775809\n", "number-too-large"),
        ("a: 1.0e+400\n", "number-too-large"),
        ("a: " + "9" * 5000 + "\n", "number-too-large"),
        ("a: x\x07\n", "yaml-syntax"),
        ("a: x\0\n", "yaml-syntax"),
        ("a: x\u2028b: y\n", "ambiguous-line-break"),
        ("# x\u0085a: y\n", "ambiguous-line-break"),
    ],
)
def test_a_trap_is_one_finding(text: str, rule: str) -> None:
    assert [finding.rule for finding in refused(text)] == [rule]


def test_bytes_that_are_not_utf_8_are_told_by_line_and_column() -> None:
    finding = refused("a: é\nb: Prüft ".encode() + b"\xfcber")[0]
    assert (finding.rule, finding.line, finding.column) == ("not-utf-8", 2, 10)
    assert "0xFC" in finding.message


@pytest.mark.parametrize("data", [b"a: \xed\xa0\x80", b"a: \xc0\x80", b"a: \xf4\x90\x80\x80", b"a: \xe2\x82"])
def test_surrogates_overlong_and_cut_off_sequences_are_not_utf_8(data: bytes) -> None:
    assert [finding.rule for finding in refused(data)] == ["not-utf-8"]


def test_utf_16_is_called_by_its_name() -> None:
    assert "UTF-16" in refused("a: 1".encode("utf-16"))[0].message


def test_a_control_character_is_found_where_it_stands() -> None:
    assert places_of(refused("a: 1\nb: é\x07\n")) == [("yaml-syntax", 2, 5)]


def test_an_unclosed_quote_is_told_where_it_was_opened() -> None:
    assert places_of(refused('a: 1\nb: "text\nc: 2\nd: 3\n')) == [("yaml-syntax", 2, 4)]


def test_syntax_is_explained_in_words_and_keeps_those_of_the_library() -> None:
    message = refused("a: b: c\n")[0].message
    assert message.startswith("A colon that is not expected here.")
    assert "mapping values are not allowed in this context" in message


class TestLimits:
    def test_a_file_over_the_size_is_not_looked_at(self) -> None:
        assert [finding.rule for finding in refused(b"\xff" * 11, max_bytes=10)] == ["file-too-large"]
        assert read("a: 12345\n", max_bytes=9) == {"a": 12345}

    def test_depth(self) -> None:
        assert read("a: [[1]]", max_depth=3) == {"a": [[1]]}
        assert places_of(refused("a: [[[1]]]", max_depth=3)) == [("too-deep", 1, 6)]

    def test_depth_counts_what_an_alias_repeats(self) -> None:
        text = "a: &x [[1]]\nb: [*x]\n"
        assert read(text, max_depth=4)["b"] == [[[1]]]
        assert places_of(refused(text, max_depth=3)) == [("too-deep", 2, 5)]

    def test_nodes(self) -> None:
        assert read("a: [1, 2]", max_nodes=5) == {"a": [1, 2]}
        assert places_of(refused("a: [1, 2]", max_nodes=4)) == [("too-many-values", 1, 8)]

    def test_nodes_count_what_an_alias_repeats(self) -> None:
        text = "a: &x {b: 1}\nc: *x\n"
        assert read(text, max_nodes=9)["c"] == {"b": 1}
        assert places_of(refused(text, max_nodes=8)) == [("aliases-too-large", 2, 4)]

    def test_text_that_aliases_repeat(self) -> None:
        text = "a: &x 12345 is text\nb: *x\nc: {k: *x}\n"
        assert read(text, max_alias_text=26)["b"] == "12345 is text"
        assert places_of(refused(text, max_alias_text=25)) == [("aliases-too-large", 3, 8)]

    def test_findings(self) -> None:
        findings = refused("a: [yes, no, on, off, y, n]\n", max_findings=3)
        assert [finding.rule for finding in findings] == ["ambiguous-scalar"] * 3 + ["too-many-findings"]


class TestPlaces:
    TEXT = b"a:\n  - b: 1\n    c/d: [x, y]\n  -   e\nf: {g: {h: 2}}\n"

    def test_of_values_and_keys_and_all_above(self) -> None:
        found = places(self.TEXT, ["/a/0/c~1d/1", "/f/g/h"])
        assert {pointer: tuple(place) for pointer, place in found.items()} == {
            "": ((1, 1), None),
            "/a": ((2, 3), (1, 1)),
            "/a/0": ((2, 5), None),
            "/a/0/c~1d": ((3, 10), (3, 5)),
            "/a/0/c~1d/1": ((3, 14), None),
            "/f": ((5, 4), (5, 1)),
            "/f/g": ((5, 8), (5, 5)),
            "/f/g/h": ((5, 12), (5, 9)),
        }

    def test_what_is_not_there_has_no_place(self) -> None:
        assert set(places(self.TEXT, ["/a/7", "/f/x/y"])) == {"", "/a", "/f"}

    def test_what_an_alias_brings_has_the_place_of_what_is_above(self) -> None:
        found = places(b"a: &x {b: {c: 1}}\nd: *x\n", ["/d/b/c"])
        assert found["/d"].value == (2, 4)
        assert "/d/b" not in found

    def test_of_a_broken_file_are_those_before_the_mistake(self) -> None:
        assert places(b"a: 1\nb: [\n", ["/a", "/b/0"])["/a"].value == (1, 4)

    @given(MAPPINGS, st.booleans())
    def test_are_those_of_pyyaml_s_own_nodes(self, value: dict[str, Any], flow: bool) -> None:
        text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
        expected = dict(marks(yaml.compose(text), ""))
        found = places(text.encode(), expected)
        assert {pointer: tuple(place) for pointer, place in found.items()} == expected


def marks(node: Any, pointer: str, key: Any = None) -> Any:
    def at(one: Any) -> tuple[int, int]:
        return one.start_mark.line + 1, one.start_mark.column + 1

    yield pointer, (at(node), at(key) if key else None)
    if isinstance(node, yaml.MappingNode):
        for name, child in node.value:
            yield from marks(child, f"{pointer}/{name.value.replace('~', '~0').replace('/', '~1')}", name)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from marks(child, f"{pointer}/{index}")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a:\n  id w\n  jobs: []\n", (3, 7), "Or line 2 lacks a colon and a space after its key."),
        ("a:\n  id:w\n\n  jobs: []\n", (4, 7), "Or line 2 lacks a colon and a space after its key."),
        ("a:\n  b: c\n  id w\n  jobs: []\n", (3, 3), "A colon and a space are missing after the key"),
        ("a:\n  - id: a\n  -id: j\n", (3, 3), "A space is missing after the dash (-)."),
        ("a:\n  -id: j\n    b: c\n", (3, 6), "Or a space is missing after the dash (-) of line 2."),
        ('a: "w\nb: "c"\n', (2, 5), "Or a quote that is opened here or further up is closed too late."),
        ("a: 1\nb: [1, 2\nc: 3\n", (2, 4), "A list in brackets begins here and is not closed"),
        ("a: 1\nb: {c: 2\nd: 3\n", (2, 4), "A mapping in braces begins here and is not closed"),
        ("a: [\n", (2, 1), "or a bracket or brace further up is not closed."),
        ("a: [*]\n", (1, 6), "put * in quotes"),
        ("{a:, b: 1}\n", (1, 3), "A space is missing after this colon"),
        ("a: {{ x }}\n", (1, 5), "Put the {{ }} of a template in quotes."),
        ("a:\n\tb: 1\n", (2, 1), "A tab stands here: use spaces."),
        ("a: `x`\n", (1, 4), "No value can begin with this character: put the text in quotes."),
    ],
)
def test_a_frequent_slip_is_told_where_it_is_and_how_to_mend_it(text: str, place: tuple[int, int], words: str) -> None:
    finding = refused(text)[0]
    assert (finding.line, finding.column) == place
    assert words in finding.message


def test_a_line_above_that_has_its_colon_is_not_suspected() -> None:
    for text in ("a: b: c\n", "a: b\n  c: d\n"):
        assert "Or " not in refused(text)[0].message


@pytest.mark.parametrize("text", ["", "# only this\n"])
def test_an_empty_file_has_a_place(text: str) -> None:
    assert places_of(refused(text)) == [("not-a-mapping", 1, 1)]


def test_a_file_that_is_too_large_has_a_place() -> None:
    assert places_of(refused(b"a: 12", max_bytes=1)) == [("file-too-large", 1, 1)]
