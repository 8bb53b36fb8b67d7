"""The log on stderr, one line each: the message, and behind it the data it came with."""

import logging
import sys

from shared.telemetry import records


class Lines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        told = records.data(record).items()
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in told)])


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
