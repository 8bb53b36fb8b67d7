"""What a log record was given besides its message."""

import logging
from typing import Any

from shared import telemetry

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def data(record: logging.LogRecord) -> dict[str, Any]:
    """Its `extra`, without what is None, and the ids that tie it to an answer and a trace."""
    told = {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}
    return told | {name: value for name, value in telemetry.ids().items() if name not in told}
