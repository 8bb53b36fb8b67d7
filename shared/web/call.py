"""One HTTP request, who makes it, and the words of its query and body, read strictly.

What cannot be used raises `InvalidRequest` with the name of the parameter. Nothing here reads a body before the
caller is known: `app` asks `access` first.
"""

import json
import os
import re
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request

from shared.errors import InvalidRequest, TooLarge
from shared.model import JsonValue
from shared.web.access import ANONYMOUS, Caller

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}


class Call(Request):
    """A request with its caller and its correlation id."""

    caller: Caller = ANONYMOUS

    def __init__(self, environ: "WSGIEnvironment") -> None:
        super().__init__(environ, populate_request=False)
        given = environ.get("HTTP_X_CORRELATION_ID", "")
        # The caller's own, when it is well formed.
        self.correlation_id = given if _WELL_FORMED_ID.fullmatch(given) else os.urandom(16).hex()

    def text(self, name: str) -> str | None:
        """A query parameter; None when it was not given."""
        value = self.args.get(name)
        return None if value is None else storable(value, name)

    def flag(self, name: str) -> bool:
        value = self.args.get(name, "false").lower()
        if value not in _FLAGS:
            raise InvalidRequest(f"{name} is true or false, not {value!r}.", field=name)
        return _FLAGS[value]

    def number(self, name: str, *, default: int, largest: int) -> int:
        """A whole number from 1 to `largest`."""
        value = self.args.get(name)
        if value is None:
            return default
        # isdigit() alone also accepts digits of other scripts, and int() has a limit of its own.
        if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= largest):
            raise InvalidRequest(f"{name} is a whole number from 1 to {largest}, not {value!r}.", field=name)
        return int(value)

    def body(self, limit: int) -> bytes:
        """The whole body. Raises `TooLarge`, unread when its length is announced."""
        if (self.content_length or 0) > limit:
            raise TooLarge(f"The body has {self.content_length} bytes; {limit} are allowed.")
        body = b""
        # One read may give less than there is; only an empty one, or an exception, is the end.
        while len(body) <= limit and (part := self.stream.read(limit + 1 - len(body))):
            body += part
        if len(body) > limit:
            raise TooLarge(f"The body has more than the {limit} bytes that are allowed.")
        if len(body) < (self.content_length or 0):
            raise InvalidRequest("The body broke off.", field="body")
        return body

    def json_object(self, limit: int) -> dict[str, JsonValue]:
        """The body as a JSON object; an empty body is an empty object."""
        body = self.body(limit)
        if not body.strip():
            return {}
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"The body is not JSON: {error}.", field="body") from error
        if not isinstance(value, dict):
            raise InvalidRequest("The body is not a JSON object.", field="body")
        return value


def storable(value: str, field: str) -> str:
    """The value, unless it is text that the database cannot hold."""
    if "\x00" in value or _LONE_SURROGATE.search(value):
        raise InvalidRequest(f"{field} has a character that is not text.", field=field)
    return value
