"""Where a schema that takes the place of the shipped one comes from: a file or a URL, and what it must turn out to be.

Read once, when the app or a command starts. What is used is what was meant: the SHA-256 behind the name says so, and a
URL, whose content somebody else can change at any time, needs one.
"""

import re
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from shared.errors import InvalidRequest
from shared.model import JsonValue
from shared.validation.usable import Unusable, of_file

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import OpenerDirector

MAX_BYTES: Final = 4 * 1024 * 1024
"""A hundred times the schema that Samara exports."""
SECONDS: Final = 10.0
"""How long a URL may take."""

_MARK: Final = "#sha256="
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def load(source: str, *, seconds: float = SECONDS) -> dict[str, JsonValue]:
    """The schema of a whole file that `source` names: a path or an https URL, and behind it perhaps `#sha256=DIGEST`.

    Raises `InvalidRequest` with what is wrong and what to write instead.
    """
    location, mark, digest = source.partition(_MARK)
    shown = re.sub(r"[?#].*", "", location)  # What follows a ? may be a signature that grants access.
    is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location) is not None
    if mark and not re.fullmatch(r"[0-9A-Fa-f]{64}", digest):
        raise _refused(f"What follows {_MARK} must be the 64 hexadecimal digits of a SHA-256.")
    try:
        data = _fetched(location, monotonic() + seconds) if is_url else _of_path(location)
        actual = sha256(data).hexdigest()
        if is_url and not mark:
            raise _refused(f"{shown} has no digest. If it is the one that is meant, write {location}{_MARK}{actual}")
        if mark and digest.lower() != actual:
            raise _refused(f"{shown} has another digest than it must: it is not what was meant, or not any more.",
                           hint=f"If it is, write {location}{_MARK}{actual}")  # fmt: skip
        return of_file(data)
    except Unusable as unusable:
        raise _refused(f"{shown} {unusable}") from None


def _refused(message: str, hint: str | None = None) -> InvalidRequest:
    return InvalidRequest(message, field="schema", hint=hint)


def _of_path(location: str) -> bytes:
    try:
        with Path(location).open("rb") as file:
            return _bounded(file.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise Unusable(f"is too large: at most {MAX_BYTES:,} bytes are read.")
    return data


def _fetched(url: str, end: float) -> bytes:
    _check(url)
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    try:
        with _opener().open(url, timeout=max(0.0, end - monotonic())) as response:
            return _body(response, end)
    except HTTPError as error:
        with error:
            said = f"{error.code} {error.reason}".partition("\n")[0]
            raise Unusable(f"cannot be fetched: the host answers {said}.") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            raise Unusable("did not answer in time.") from None
        raise Unusable(f"cannot be fetched: {reason}.") from None


def _body(response: "HTTPResponse", end: float) -> bytes:
    """A host that sends a byte now and then never runs into the socket's time-out; it runs into this one."""
    data = b""
    while chunk := response.read1(65536):
        data = _bounded(data + chunk)
        if monotonic() > end:
            raise TimeoutError
    return data


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise Unusable("is no URL.") from None
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)):
        raise Unusable("is not an https URL: others can be altered on their way.")
    if "@" in parts.netloc:
        raise Unusable("holds a user name or a password: take it out.")


def _opener() -> "OpenerDirector":
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Redirects(HTTPRedirectHandler):
        """Led elsewhere, the same is asked of the place as of the first."""

        def redirect_request(
            self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> Request | None:
            try:
                _check(newurl)
            except Unusable as unusable:
                fp.close()
                raise Unusable(f"leads to {re.sub(r'[?#].*', '', newurl)}, which {unusable}") from None
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    opener = build_opener(Redirects)
    opener.addheaders = [("User-Agent", "runtime-store"), ("Accept", "application/schema+json, application/json")]
    return opener
