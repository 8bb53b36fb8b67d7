"""Where a schema that takes the place of the shipped one comes from: a file or a URL, and what it must turn out to be.

Read once, when the app or a command starts. What is used is what was meant: the SHA-256 behind the name says so, and a
URL, whose content somebody else can change at any time, needs one.
"""

import re
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

from shared.errors import InvalidRequest
from shared.model import JsonValue
from shared.validation.usable import Unusable, of_file
from shared.waiting import waited_for

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import OpenerDirector

MAX_BYTES: Final = 4 * 1024 * 1024
"""A hundred times the schema that Samara exports."""
SECONDS: Final = 10.0
"""How long a URL may take, wherever it leads to."""

_TOO_LATE: Final = "did not answer in time."
_MARK: Final = "#sha256="
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MOST_REDIRECTS: Final = 10
# Also behind one slash or none, and with a slash in the password, which is one if it does not end a port.
_USER: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+:/*)(?:[^/]*|[^/:]*:(?!\d+/).*)@", re.DOTALL)
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


def load(source: str, *, seconds: float = SECONDS) -> dict[str, JsonValue]:
    """The schema of a whole file that `source` names: a path or an https URL, and behind it perhaps `#sha256=DIGEST`.

    Raises `InvalidRequest` with what is wrong and what to write instead.
    """
    location, mark, digest = source.partition(_MARK)
    is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location) is not None
    shown = _shown(location)  # Also where a URL is misspelled, and taken for a path.
    if mark and not re.fullmatch(r"[0-9A-Fa-f]{64}", digest):
        raise _refused(f"What follows {_MARK} must be the 64 hexadecimal digits of a SHA-256.")
    try:
        data = _of_url(location, seconds) if is_url else _of_path(location)
        schema = of_file(data)
    except Unusable as unusable:
        raise _refused(f"{shown} {unusable}") from None
    actual = sha256(data).hexdigest()
    if is_url and not mark:
        raise _refused(f"{shown} has no digest.",
                       hint=f"If it is the one that is meant, write `{_MARK}{actual}` behind it.")  # fmt: skip
    if mark and digest.lower() != actual:
        raise _refused(f"{shown} has another digest than it must: it is not what was meant, or not any more.",
                       hint=f"If it is, write `{_MARK}{actual}` behind it.")  # fmt: skip
    return schema


def _shown(url: str) -> str:
    """Without what may grant access: a user name or a password, and what follows a ?, such as a signature."""
    return _USER.sub(r"\1***@", re.sub(r"[?#].*", "", url, flags=re.DOTALL))


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


# -- URLs --------------------------------------------------------------------------------------------------------------


def _of_url(url: str, seconds: float) -> bytes:
    end = monotonic() + seconds
    try:
        return waited_for(lambda: _fetched(url, end), seconds)
    except TimeoutError:
        raise Unusable(_TOO_LATE) from None


def _fetched(url: str, end: float) -> bytes:
    from http.client import HTTPException

    _check(url)
    opener = _opener()
    try:
        for _ in range(1 + _MOST_REDIRECTS):
            with opener.open(url, timeout=max(0.001, end - monotonic())) as response:
                if response.status == 200:
                    return _body(response, end)
                url = _led_to(url, response)
    except (OSError, HTTPException, ValueError) as error:
        raise Unusable(_said(error)) from None
    raise Unusable(f"cannot be fetched: it leads elsewhere more than {_MOST_REDIRECTS} times.")


def _said(error: Exception) -> str:
    """Nothing of an error that may quote the URL."""
    from http.client import IncompleteRead
    from urllib.error import URLError

    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return _TOO_LATE
    if isinstance(reason, IncompleteRead):
        return "cannot be fetched: the host broke its answer off."
    return f"cannot be fetched: {reason if isinstance(error, OSError) else 'the host does not answer as HTTP wants'}."


def _body(response: "HTTPResponse", end: float) -> bytes:
    from http.client import IncompleteRead

    data = b""
    while chunk := response.read1(65536):
        data = _bounded(data + chunk)
        if monotonic() > end:
            raise TimeoutError
    if response.length:
        raise IncompleteRead(data, response.length)
    return data


def _led_to(url: str, response: "HTTPResponse") -> str:
    """Led elsewhere, the same is asked of the place as of the first, and https is not left again."""
    place = response.headers["Location"]
    if response.status not in _REDIRECTS or not place:
        raise Unusable(f"cannot be fetched: the host answers {response.status} {response.reason}.")
    try:
        place = urljoin(url, quote(place, safe=_PRINTABLE, encoding="latin-1"))
    except ValueError:
        raise Unusable("leads to something that is no URL.") from None
    try:
        _check(place, may_be_http=urlsplit(url).scheme == "http")
    except Unusable as unusable:
        raise Unusable(f"leads to {_shown(place)}, which {unusable}") from None
    return place


def _check(url: str, *, may_be_http: bool = True) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
        (host or "").encode("idna")  # As it is looked up.
    except ValueError:
        raise Unusable("is no URL.") from None
    if not host or not (parts.scheme == "https" or (may_be_http and parts.scheme == "http" and host in _LOOPBACK)):
        raise Unusable("is not an https URL: others can be altered on their way.")
    if "@" in parts.netloc:
        raise Unusable("holds a user name or a password: take it out.")
    if not re.fullmatch(r"[!-~]+", url):
        raise Unusable("is no URL: white space, and what is not ASCII, is written with % in one.")


def _opener() -> "OpenerDirector":
    from urllib.request import HTTPErrorProcessor, build_opener

    class AsAnswered(HTTPErrorProcessor):
        """Every status is an answer: urllib follows no redirect by itself."""

        def http_response(self, request: object, response: "HTTPResponse") -> "HTTPResponse":
            return response

        https_response = http_response

    opener = build_opener(AsAnswered)
    opener.addheaders = [("User-Agent", "runtime-store"), ("Accept", "application/schema+json, application/json")]
    return opener
