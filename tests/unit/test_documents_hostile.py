"""No file ends the process, makes it wait, or raises: the worst is a finding.

Each of these takes PyYAML's loaders or libyaml itself minutes, gigabytes or the process; the suite's timeout judges.
"""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.documents import Limits, parse
from shared.model import BlobId, Document, FilePath

MIB = 1024 * 1024
EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = [path.read_bytes() for path in sorted([*EXAMPLES.glob("valid/*.yaml"), *EXAMPLES.glob("invalid/*.yaml")])]


def rules(data: bytes) -> list[str]:
    found = parse(FilePath("runtime.yaml"), BlobId("0" * 40), data, Limits())
    return [] if isinstance(found, Document) else [finding.rule for finding in found]


@pytest.mark.parametrize("unit", [b"[", b"{a: ", b"- ", b"? ", b"[\n", b"{a: [", b"!t [", b"{? "])
@pytest.mark.parametrize("times", [65, 10_000, 100_000])
def test_deep_nesting_stops_at_the_limit(unit: bytes, times: int) -> None:
    assert "too-deep" in rules(b"k:\n " + unit * times)


def test_deep_nesting_by_indentation_stops_at_the_limit() -> None:
    assert rules(b"".join(b" " * depth + b"a:\n" for depth in range(1000))) == ["too-deep"]


def test_nesting_across_lines_up_to_the_last_byte_stops_at_the_limit() -> None:
    assert "too-deep" in rules((b"k: " + b"[\n" * MIB)[:MIB])


def test_repeated_keys_before_deep_nesting_are_found_without_reading_on() -> None:
    assert set(rules((b"a: 1\na: 2\nk: " + b"[\n" * MIB)[:MIB])) == {"duplicate-key", "too-deep"}


def test_fifty_megabytes_are_refused_by_their_size() -> None:
    assert rules(b"a: " + b"x" * (50 * MIB)) == ["file-too-large"]


def laughs(levels: int, width: int = 10) -> bytes:
    lines = ["l0: &l0 lol"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines).encode()


def test_a_billion_laughs_end_at_the_limit() -> None:
    assert rules(laughs(10)) == ["aliases-too-large"]
    assert rules(laughs(60, 2)) == ["aliases-too-large"]
    assert rules(laughs(4)) == []


def test_one_long_text_repeated_often_ends_at_the_limit() -> None:
    assert rules(b"a: &a " + b"x" * 500_000 + b"\nb: [" + b"*a, " * 100_000 + b"]") == ["aliases-too-large"]


def test_long_keys_repeated_often_end_at_the_limit() -> None:
    assert rules(b"a: &a {" + b"x" * 500 + b": 1}\nb: [" + b"*a, " * 100_000 + b"]") == ["aliases-too-large"]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"- a\n" * (MIB // 4), "too-many-values"),
        (b"k: [" + b"a," * (MIB // 2 - 10) + b"]", "too-many-values"),
        (b"k: [" + b"yes," * (MIB // 4 - 10) + b"]", "too-many-findings"),
        (b"a: 1\n" * (MIB // 5), "too-many-findings"),
        (b"a: " + b"&a " * (MIB // 3 - 10), "yaml-syntax"),
        (b'a: "' + b"\\" * (MIB - 10), "yaml-syntax"),
        (b"a: 0" + b"1" * (MIB - 10), "number-too-large"),
        (b"a: 1" + b":1" * (MIB // 2 - 10), "ambiguous-scalar"),
        (b"a: 1" + b"_1" * (MIB // 2 - 10) + b".5", "ambiguous-scalar"),
        (b"a: 1.0e+" + b"9" * (MIB - 10), "number-too-large"),
        (b"a: 2024-01-01" + b" " * (MIB - 20) + b"1", None),
        (b"a: " + b"x: " * 1000, "yaml-syntax"),
    ],
)
def test_a_megabyte_of_one_thing_is_judged_in_time(data: bytes, rule: str | None) -> None:
    assert len(data) <= MIB
    found = rules(data)
    assert rule in found if rule else not found


def test_a_megabyte_of_tag_directives_is_refused_before_libyaml_compares_each_with_all() -> None:
    data = b"".join(b"%%TAG !a%d! b\n" % number for number in range(60_000)) + b"---\na: 1\n"
    started = time.process_time()
    assert rules(data) == ["directive"]
    assert time.process_time() - started < 1.0  # Seconds: libyaml needs about three of them.


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_findings(data: bytes) -> None:
    rules(data)


@given(st.text("ab:- \n\t#[]{},&*!|>'\"%@`?~<=\\0x1.", max_size=60))
def test_any_signs_of_yaml_are_a_document_or_findings(text: str) -> None:
    rules(text.encode())


@given(st.sampled_from(FILES), st.data())
def test_any_damage_to_a_file_is_a_document_or_findings(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, min(len(data), start + 20)))
    rules(data[:start] + draw.draw(st.binary(max_size=5)) + data[end:])
