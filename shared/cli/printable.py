"""Text of other people, made fit for a terminal, a log and the agent of a pipeline."""

import re
from typing import Final

_AGENT_COMMAND: Final = re.compile(r"##(?=(?:vso)?\[)", re.IGNORECASE)
"""What makes Azure Pipelines obey a line, wherever in it: `##vso[...]` and `##[...]`."""


def printable(text: str) -> str:
    if not text.isprintable():
        text = "".join(
            letter
            if letter.isprintable() or letter == "\n"
            else letter.encode("unicode_escape", "surrogatepass").decode()
            for letter in text
        )
    return _AGENT_COMMAND.sub(r"#\\x23", text)


def one_line(text: str) -> str:
    """As `printable`, for what must not begin a line of its own: a key may hold a line break."""
    return printable(text).replace("\n", "\\n")
