"""The log on stderr, one line each: the message, and behind it the data it came with.

Data comes from callers and repositories. What they write begins no line, and moves no cursor: only the lines of a
traceback follow a record's own, and each of them is indented.
"""

import logging
import sys
from textwrap import indent
from types import TracebackType
from typing import TypeAlias

from shared.cli.printable import one_line, printable
from shared.telemetry import records

_Raised: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"


class Lines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        told = records.data(record).items()
        return one_line(" ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in told)]))

    def formatException(self, ei: _Raised) -> str:
        return indent(printable(super().formatException(ei)), "  ")


def show(level: int) -> None:
    """Log to stderr from this level on; the first call decides, and only a lower level changes it later."""
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, Lines):
            handler.setStream(sys.stderr)
            handler.setLevel(min(level, handler.level))
            return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    handler.setLevel(level)
    root.addHandler(handler)
