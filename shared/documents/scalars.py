"""What a plain (unquoted) scalar means, and whether all readers agree about it.

YAML 1.1 as PyYAML resolves it (https://yaml.org/type/, `yaml/resolver.py`) against the core schema of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema). Where the two differ, the scalar is refused rather than guessed.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

Plain: TypeAlias = bool | int | float | str | None


class Refusal(NamedTuple):
    """Why a scalar has no meaning here."""

    rule: str
    message: str


MERGE_KEY: Final = Refusal("merge-key", "Merge keys (<<) do not exist in YAML 1.2: write the keys out.")

_INT64 = range(-(2**63), 2**63)
_LONGEST_INT = 80
"""Digits and underscores; longer ones are never converted, since `int` is quadratic, and refuses 4,300 digits."""
_TEXT_SHOWN = 60

_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_NUMBER_STARTS = frozenset("-+.0123456789")

_INT_1_2 = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT_1_2 = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INT_1_1 = re.compile(
    r"[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+"
)
_FLOAT_1_1 = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*"
)
_DATE_1_1 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?"
    r"(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?"
)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class _Unsayable(NamedTuple):
    """A reading that JSON has no value for; two of them are never the same."""

    words: str


def quoted(text: str) -> str:
    """`text` as people see it in a message: on one line, in quotes, not longer than some 60 characters."""
    return json.dumps(text if len(text) <= _TEXT_SHOWN else text[: _TEXT_SHOWN - 3] + "...", ensure_ascii=False)


def _said(reading: Plain | _Unsayable) -> str:
    match reading:
        case _Unsayable(words):
            return words
        case str():
            return f"the text {quoted(reading)}"
        case None | bool():
            return json.dumps(reading)
        case _:
            return f"the number {reading}"


def _ambiguous(text: str, reading_1_1: Plain | _Unsayable, reading_1_2: Plain | _Unsayable) -> Refusal:
    shown = text if len(text) <= _TEXT_SHOWN else quoted(text)
    message = f"{shown} is {_said(reading_1_1)} to YAML 1.1 (PyYAML), and {_said(reading_1_2)} to YAML 1.2: "
    readings = [one for one in (reading_1_1, reading_1_2) if isinstance(one, bool | int | float) and math.isfinite(one)]
    advice = "put it in quotes"
    if readings:
        advice += f" if it is text, else write {' or '.join(json.dumps(reading) for reading in readings)}"
    return Refusal("ambiguous-scalar", f"{message}{advice}.")


def _words() -> Mapping[str, Plain | Refusal]:
    words: dict[str, Plain | Refusal] = {"": None, "~": None, "null": None, "Null": None, "NULL": None, "<<": MERGE_KEY}
    # The type repository calls y and n booleans as well (https://yaml.org/type/bool.html); PyYAML reads them as text.
    for value, names in ((True, ("true", "yes", "on")), (False, ("false", "no", "off"))):
        for name in names:
            for cased in {name, name.capitalize(), name.upper()}:
                words[cased] = value if name in ("true", "false") else _ambiguous(cased, value, cased)
    words["="] = _ambiguous("=", _Unsayable("an error"), "=")
    return words


_WORDS: Final = _words()


def read_plain(text: str) -> Plain | Refusal:
    """The one value that `text` has to every reader, or why there is none."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    return _read_number(text)


def _read_number(text: str) -> Plain | Refusal:
    if _NOT_FINITE.fullmatch(text):
        message = f"{text} is no number that JSON can say: leave it out, or put it in quotes if it is text."
        return Refusal("not-finite", message)
    reading_1_1, reading_1_2 = _read_1_1(text), _read_1_2(text)
    if reading_1_1 != reading_1_2:
        return _ambiguous(text, reading_1_1, reading_1_2)
    if isinstance(reading_1_2, _Unsayable) or (isinstance(reading_1_2, int) and reading_1_2 not in _INT64):
        return _too_large(text)
    if isinstance(reading_1_2, float) and not math.isfinite(reading_1_2):
        return _too_large(text)
    return reading_1_2


def _too_large(text: str) -> Refusal:
    message = f"The number {quoted(text)[1:-1]} does not fit into 64 bits: put it in quotes if it is text."
    return Refusal("number-too-large", message)


def _read_1_2(text: str) -> Plain | _Unsayable:
    if _INT_1_2.fullmatch(text):
        if len(text) > _LONGEST_INT:
            return _Unsayable("a very large number")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT_1_2.fullmatch(text) else text


def _read_1_1(text: str) -> Plain | _Unsayable:
    """As PyYAML's resolver and SafeConstructor do it."""
    if _INT_1_1.fullmatch(text):
        return _Unsayable("a very large number") if len(text) > _LONGEST_INT else _int_1_1(text)
    if _FLOAT_1_1.fullmatch(text):
        digits = text.replace("_", "")
        return _base_60(digits) if ":" in digits else float(digits)
    return _Unsayable("a date") if _DATE_1_1.fullmatch(text) else text


def _int_1_1(text: str) -> int | _Unsayable:
    digits = text.replace("_", "").lstrip("+-")
    sign = -1 if text[0] == "-" else 1
    if ":" in digits:
        return sign * int(_base_60(digits))
    if digits in ("0b", "0x"):
        return _Unsayable("an error")
    if digits[:2] in ("0b", "0x"):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if digits[0] == "0" else 10)


def _base_60(digits: str) -> float:
    value = 0.0
    for part in digits.split(":"):
        value = value * 60 + float(part)
    return value
