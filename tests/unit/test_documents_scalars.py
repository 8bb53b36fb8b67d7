"""A plain scalar that we accept is read alike by everybody, and one that we refuse is not.

Against PyYAML itself for YAML 1.1, and for YAML 1.2 against a table written down here from the core schema
(https://yaml.org/spec/1.2.2/#1032-tag-resolution), which shares no line with the code.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.documents import Limits, parse
from shared.model import BlobId, Document, FilePath, Finding

CORE: list[tuple[str, Callable[[str], Any]]] = [
    (r"null|Null|NULL|~|", lambda text: None),
    (r"true|True|TRUE", lambda text: True),
    (r"false|False|FALSE", lambda text: False),
    (r"[-+]?[0-9]+", int),
    (r"0o[0-7]+", lambda text: int(text[2:], 8)),
    (r"0x[0-9a-fA-F]+", lambda text: int(text[2:], 16)),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?(\.inf|\.Inf|\.INF)", lambda text: math.copysign(math.inf, -1 if text[0] == "-" else 1)),
    (r"\.nan|\.NaN|\.NAN", lambda text: math.nan),
]
ERROR = object()
"""What a reader makes of a scalar that it does not read."""

NUMBERS = st.text("0123456789+-._:eExXobTZ", min_size=1, max_size=12)
WORDS = st.text("yesYESnoNOtrueTRUEfalseFALSEoffOFFnulNUL~=<.infaINFA", min_size=1, max_size=6)
DATES = st.from_regex(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt][0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?Z?)?", fullmatch=True)
NUMBERLIKE = st.from_regex(
    r"[-+]?(0[bxo]?)?[0-9a-f_]{0,5}(:[0-9]{1,2}){0,2}(\.[0-9_]{0,3})?([eE][-+]?[0-9]{1,3})?", fullmatch=True
)
SCALARS = (
    NUMBERS | WORDS | DATES | NUMBERLIKE | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
)

KNOWN = """
yes Yes YES no No NO on On ON off Off OFF y Y n N true True TRUE false False FALSE tRUE nO
null Null NULL ~ nULL 0 -0 +0 00 007 08 0777 -0777 0o17 0O17 0b1 -0b1 0b 0x1F -0x1F 0x 0xG 1_000 1__ _1 1:30 1:60 08:30
190:20:30 190:20:30.15 1.5 1. .5 +.5 -.5 1.5e3 1.5e+3 1e3 1e+3 1E3 1.e+3 .5e-1 1_0.5 .5_ . .. .e1 e1 1.2.3 -- +
.inf .Inf .INF -.inf +.inf .iNF .nan .NaN .NAN -.nan 2024-01-01 2024-1-1 2024-01-01T10:00:00Z 2024-13-45 2024-01
= << <<< == 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 1.0e+999 1e999
""".split()  # noqa: SIM905 - a list literal would be a hundred lines


def core(text: str) -> Any:
    return next((read(text) for pattern, read in CORE if re.fullmatch(pattern, text)), text)


def pyyaml(text: str) -> Any:
    try:
        return yaml.safe_load(f"k: {text}\n")["k"]
    except (yaml.constructor.ConstructorError, ValueError, OverflowError):
        return ERROR


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or (one != one and other != other))


def parsed(text: str) -> Document | tuple[Finding, ...]:
    return parse(FilePath("runtime.yaml"), BlobId("0" * 40), text.encode(), Limits())


def is_plain(text: str) -> bool:
    """Whether YAML sees one plain scalar, exactly this one, rather than quotes, a comment, a list."""
    try:
        events = list(yaml.parse(f"k: {text}\n"))
    except yaml.YAMLError:
        return False
    scalars = [event for event in events if isinstance(event, yaml.ScalarEvent)]
    return len(events) == 8 and len(scalars) == 2 and scalars[1].value == text and scalars[1].implicit[0]


def check(text: str) -> None:
    found = parsed(f"k: {text}\n")
    reading_1_1, reading_1_2 = pyyaml(text), core(text)
    if isinstance(found, Document):
        assert isinstance(found.value, dict)
        value = found.value["k"]
        assert same(value, reading_1_1), f"PyYAML reads {reading_1_1!r}"
        assert same(value, reading_1_2), f"YAML 1.2 reads {reading_1_2!r}"
        return
    assert len(found) == 1
    match found[0].rule:
        case "ambiguous-scalar":
            assert not same(reading_1_1, reading_1_2)
        case "merge-key":
            assert text == "<<"
        case "not-finite":
            assert not math.isfinite(reading_1_2)
        case "number-too-large":
            assert not -(2**63) <= reading_1_2 < 2**63
        case rule:
            pytest.fail(f"{rule} is no finding of a scalar")


@pytest.mark.parametrize("text", KNOWN)
def test_a_known_scalar_is_accepted_only_when_all_readers_agree(text: str) -> None:
    assert is_plain(text)
    check(text)


@given(SCALARS)
@example("1:30")
@example("0b_")
@example("0x_")
@example("1" * 90)
def test_any_scalar_is_accepted_only_when_all_readers_agree(text: str) -> None:
    assume(is_plain(text))
    check(text)


@given(SCALARS)
def test_a_key_is_accepted_only_when_all_readers_agree_that_it_is_text(text: str) -> None:
    assume(is_plain(text))
    found = parsed(f"{text}: v\n")
    reading_1_1, reading_1_2 = pyyaml(text), core(text)
    if isinstance(found, Document):
        assert found.value == {text: "v"}
        assert reading_1_1 == reading_1_2 == text
    else:
        assert {finding.rule for finding in found} <= {
            "ambiguous-scalar",
            "merge-key",
            "not-finite",
            "number-too-large",
            "key-not-text",
            "yaml-syntax",
        }
        assert reading_1_1 != text or reading_1_2 != text or found[0].rule == "yaml-syntax"


@pytest.mark.parametrize(
    ("text", "reading_1_1", "reading_1_2", "advice"),
    [
        ("on", "true", 'the text "on"', "put it in quotes if it is text, else write true."),
        ("0777", "the number 511", "the number 777", "put it in quotes if it is text, else write 511 or 777."),
        ("2024-01-01", "a date", 'the text "2024-01-01"', "put it in quotes."),
        ("1e3", 'the text "1e3"', "the number 1000.0", "put it in quotes if it is text, else write 1000.0."),
        ("=", "an error", 'the text "="', "put it in quotes."),
    ],
)
def test_a_message_says_what_each_reads_and_what_to_write(
    text: str, reading_1_1: str, reading_1_2: str, advice: str
) -> None:
    found = parsed(f"k: {text}\n")
    assert isinstance(found, tuple)
    assert found[0].message == f"{text} is {reading_1_1} to YAML 1.1 (PyYAML), and {reading_1_2} to YAML 1.2: {advice}"


@pytest.mark.parametrize("text", ["y", "Y", "n", "N"])
def test_what_only_the_type_repository_of_yaml_1_1_calls_a_boolean_is_text(text: str) -> None:
    found = parsed(f"k: {text}\n")
    assert isinstance(found, Document)
    assert found.value == {"k": text}


@pytest.mark.parametrize("quoted", ['"{}"', "'{}'", "|-\n  {}", ">-\n  {}"])
@pytest.mark.parametrize("text", ["on", "1:30", "0777", "2024-01-01", "~", "<<", "=", "1e3", "null", "true"])
def test_what_is_in_quotes_is_text(quoted: str, text: str) -> None:
    found = parsed(f"k: {quoted.format(text)}\n")
    assert isinstance(found, Document)
    assert found.value == {"k": text}
