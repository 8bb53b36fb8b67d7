"""libyaml's complaints, in words for a person who writes YAML twice a year."""

import re
from collections.abc import Mapping
from typing import Final

from yaml.error import Mark, MarkedYAMLError, YAMLError
from yaml.reader import ReaderError

_PLAIN_WORDS: Final[Mapping[str, str]] = {
    "mapping values are not allowed in this context": (
        "A colon that is not expected here. Put the text in quotes if it contains a colon, or correct the indentation."
    ),
    "could not find expected ':'": "A colon and a space are missing after the key, or the indentation is off.",
    "did not find expected key": "A key is expected here. The indentation does not fit the lines above.",
    "did not find expected '-' indicator": (
        "An item that begins with - is expected here. The indentation does not fit the list above."
    ),
    "did not find expected ',' or ']'": "A list in brackets begins here and is not closed: a , or ] is missing.",
    "did not find expected ',' or '}'": "A mapping in braces begins here and is not closed: a , or } is missing.",
    "did not find expected node content": "A value is missing here.",
    "block sequence entries are not allowed in this context": (
        "A list item (-) cannot stand here: begin the list on a line of its own."
    ),
    "block mapping entries are not allowed in this context": "A key cannot stand here: begin it on a line of its own.",
    "mapping keys are not allowed in this context": "A ? cannot stand here: put the text in quotes.",
    "found unexpected end of stream": "A quote is opened here and never closed.",
    "found unexpected document indicator": "A quote is opened before this --- and never closed.",
    "found a tab character that violates indentation": "A tab is used for indentation: use spaces.",
    "found a tab character where an indentation space is expected": "A tab is used for indentation: use spaces.",
    "found character that cannot start any token": "No value can begin with this character: put the text in quotes.",
    "found unexpected ':'": "A space is missing after this colon; text that contains a colon must be in quotes.",
    "found unknown escape character": (
        "A backslash in double quotes begins an escape that YAML does not know: write \\\\, or use single quotes."
    ),
    "found invalid Unicode character escape code": (
        "This escape is no Unicode character. Write a character beyond \\uFFFF as \\U and eight digits."
    ),
    "did not find expected hexdecimal number": "This escape needs hexadecimal digits.",
    "did not find expected comment or line break": "Only a comment may follow here.",
    "did not find expected <document start>": "This stands outside of everything: is its indentation too small?",
    "found incompatible YAML document": "This YAML version is not supported: remove the %YAML line.",
}
_SHOWN_FROM_OPENING: Final = frozenset(
    {
        "found unexpected end of stream",
        "could not find expected ':'",
        "did not find expected ',' or ']'",
        "did not find expected ',' or '}'",
    }
)
"""Problems that libyaml marks at some later place, while the mistake is where its context began."""
_LINE_BREAK: Final = re.compile("\r\n|\r|\n")
_DASH_WITHOUT_SPACE: Final = re.compile(r"\s*-[^\s-]")
_HAS_KEY: Final = re.compile(r":(?=\s|$)")


def explain(error: YAMLError, data: bytes) -> tuple[int | None, int | None, str]:
    """Line and column (from 1) and message of an error that `CParser` raised while it read `data`."""
    if isinstance(error, ReaderError):
        line, column = locate_byte(data, error.position)
        message = f"The character U+{error.character:04X} is not allowed in YAML: remove it, or write it as an escape."
        return line, column, message
    if not isinstance(error, MarkedYAMLError):
        return None, None, f"This is not YAML: {error}."
    problem = error.problem or "unknown"
    mark = error.problem_mark
    if problem in _SHOWN_FROM_OPENING and error.context_mark is not None:
        mark = error.context_mark
    message = f"{_in_plain_words(error, problem, data)} (YAML: {problem}"
    message += f" {error.context})" if error.context else ")"
    return (None, None, message) if mark is None else (mark.line + 1, mark.column + 1, message)


def _in_plain_words(error: MarkedYAMLError, problem: str, data: bytes) -> str:
    words = _PLAIN_WORDS.get(problem, "This is not YAML.")
    mark = error.problem_mark
    if mark is None:
        return words
    lines = _LINE_BREAK.split(data.decode("utf-8", "replace"))
    line = lines[mark.line] if mark.line < len(lines) else ""
    match problem:
        case "did not find expected node content" if "flow" in (error.context or ""):
            return "A value is missing here, or a bracket or brace further up is not closed."
        case "found character that cannot start any token" if line[mark.column : mark.column + 1] == "\t":
            return "A tab stands here: use spaces."
        case "did not find expected alphabetic or numeric character":
            sign = "&" if "anchor" in (error.context or "") else "*"
            return f"A name is missing after {sign}: put {sign} in quotes if it is text."
        case "did not find expected '-' indicator" if _DASH_WITHOUT_SPACE.match(line):
            return "A space is missing after the dash (-)."
        case "did not find expected key" if '"' in line or "'" in line:
            return f"{words} Or a quote that is opened here or further up is closed too late."
        case "mapping values are not allowed in this context":
            return words + _of_line_above(lines, mark)
    return words


def _of_line_above(lines: list[str], mark: Mark) -> str:
    """What may be wrong there, where a colon comes unexpected because that line is read together with this one."""
    if _HAS_KEY.search(lines[mark.line][: mark.column]):
        return ""
    for number in range(mark.line, 0, -1):
        above = lines[number - 1].strip()
        if not above or above.startswith("#"):
            continue
        if _DASH_WITHOUT_SPACE.match(above):
            return f" Or a space is missing after the dash (-) of line {number}."
        return "" if _HAS_KEY.search(above) else f" Or line {number} lacks a colon and a space after its key."
    return ""


def locate_byte(data: bytes, position: int) -> tuple[int, int]:
    """Line and column of a byte, both from 1; columns count characters."""
    begin = data.rfind(b"\n", 0, position) + 1
    return data.count(b"\n", 0, position) + 1, len(data[begin:position].decode("utf-8", "replace")) + 1
