"""What goes back: status, headers, body.

Werkzeug's own Response copies and checks its headers three times on the way out, which costs as much as all the rest of
a read. Every header is set by us and once, so a dict is enough.
"""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

JSON = "application/json"

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_BODILESS = frozenset({204, 304})


class Reply:
    """A WSGI app that answers one request. Without a `media_type` it has no body."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", media_type: str | None = None
    ) -> None:
        self.status = status
        self.headers = headers or {}
        self.body = body
        if media_type is not None:
            self.headers["Content-Type"] = media_type

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        headers = list(self.headers.items())
        if self.status not in _BODILESS:
            headers.append(("Content-Length", str(len(self.body))))
        start_response(_STATUS_LINES[self.status], headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.body]


def respond(value: Any, status: int = 200, media_type: str = JSON) -> Reply:
    """JSON that no cache keeps."""
    return Reply(status, {"Cache-Control": "no-store"}, json.dumps(value).encode(), media_type)
