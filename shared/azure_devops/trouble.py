"""What an answer of Azure DevOps means, and what a connection that broke does.

A status alone does not tell: 203, a redirect and HTML are a sign-in page, a repository that is missing, disabled or
forbidden is always a 404, and an answer with status 200 may ask to slow down
(https://learn.microsoft.com/azure/devops/integrate/concepts/rate-limits).
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from shared.errors import RepositoryRefused, SourceError, SourceFailed, SourceRefused, SourceThrottled

_UNTOLD_PAUSE: Final = timedelta(minutes=1)
_LONGEST_PAUSE: Final = timedelta(hours=1)
_LONGEST_MESSAGE: Final = 300
_CODE: Final = re.compile(r"\b(?:TF|VS)\d{5,6}\b")
_THROTTLED: Final = "TF400733"
_NO_REPOSITORY: Final = "TF401019"
_USERINFO: Final = re.compile(r"(?<=://)[^/\s@]*@")
_ONE_REPOSITORY: Final = "/_apis/git/repositories/"

SIGN_IN: Final = (
    "The credentials are not accepted: renew the personal access token, which must be of this organization and not "
    "expired, or add the managed identity as a user of the organization with access level Basic"
)
GRANT: Final = (
    "Check that the repository exists and is not disabled; then add the identity as a user of the organization with "
    "access level Basic and give it Read on the repository. A personal access token needs Code (read)"
)
_ORGANIZATION: Final = "Check the URL of the organization, such as https://dev.azure.com/contoso"
_AGAIN: Final = "It is tried again; if this stays, see https://status.dev.azure.com, or what stands between the two"


class NotFound(SourceFailed):
    """The organization knows the repository, and not what was asked of it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back over HTTP. `headers` are looked up whatever their case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    """Empty for a download that is none of our errors."""

    @property
    def is_json(self) -> bool:
        return "json" in self._kind

    @property
    def is_page(self) -> bool:
        """Whether somebody answered who wants a person in front: a sign-in page, or the way to one."""
        if self.status == 203 or 300 <= self.status < 400:
            return True
        return self.status < 300 and "html" in self._kind and bool(self.body)

    @property
    def said(self) -> str:
        """The service's own message, fit to print; of what is no message only the code: it may hold anything."""
        message = _message(self.body) if self.is_json else None
        if message is None:
            found = _CODE.search(self.body[:1_000_000].decode("utf-8", "replace"))
            return found[0] if found else ""
        printable = "".join(letter if letter.isprintable() else " " for letter in message)
        return _USERINFO.sub("***@", printable)[:_LONGEST_MESSAGE].strip()

    @property
    def _kind(self) -> str:
        return self.headers.get("Content-Type", "").lower()


def trouble(reply: Reply, host: str, url: str, *, download: bool) -> SourceError | None:
    """Why this is no answer to what was asked at `url`; None when it is one."""
    if reply.status == 429 or _asks_to_wait(reply):
        told = f"{host} answers {reply.status}, too many requests{_quoted(reply)}"
        rest = max(pause(reply.headers), timedelta(seconds=1))
        hint = f"It is left alone for {rest.total_seconds():.0f} s, and asked again by itself"
        return SourceThrottled(told, retry_after=rest, hint=hint)
    if reply.is_page:
        return SourceRefused(f"{host} asks to sign in instead of answering (HTTP {reply.status})", hint=SIGN_IN)
    if reply.status >= 300:
        return _refusal(reply, f"{host} answered {reply.status}{_quoted(reply)}", url)
    if not (download or reply.is_json) and reply.body:
        return SourceRefused(f"{host} did not answer in JSON (HTTP {reply.status})", hint=SIGN_IN)
    return None


def _asks_to_wait(reply: Reply) -> bool:
    """Whether this is a throttle page, which comes with any status of a page."""
    if not reply.is_page and reply.status < 400:
        return False
    return _THROTTLED in reply.said or ("Retry-After" in reply.headers and (reply.is_page or reply.status >= 500))


def _refusal(reply: Reply, told: str, url: str) -> SourceError:
    is_about_repository = _ONE_REPOSITORY in url
    if reply.status == 401:
        return SourceRefused(told, hint=SIGN_IN)
    if reply.status == 403:
        return RepositoryRefused(told, hint=GRANT) if is_about_repository else SourceRefused(told, hint=SIGN_IN)
    if reply.status == 404 and _NO_REPOSITORY in reply.said:
        return RepositoryRefused(f"The repository is missing, disabled or forbidden: {told}", hint=GRANT)
    if reply.status == 404 and reply.is_json:
        return NotFound(told)
    if reply.status == 404:
        return SourceFailed(told, hint=_ORGANIZATION)
    if reply.status == 407:
        return SourceFailed(told, hint="The proxy wants credentials: write them into HTTPS_PROXY")
    return SourceFailed(told, hint=_AGAIN if reply.status >= 500 else None)


def unreached(host: str, error: Exception, seconds: float) -> SourceFailed:
    """What broke on the way to the host and back, after `seconds`."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.ProxyError):
        return SourceFailed(f"The proxy in front of {host} does not work", hint="See HTTPS_PROXY and NO_PROXY")
    if isinstance(error, exceptions.SSLError):
        hint = "If a proxy opens TLS on the way, name a bundle with its authority in REQUESTS_CA_BUNDLE"
        return SourceFailed(f"The TLS certificate of {host} is not trusted: {_cause(error)}", hint=hint)
    if isinstance(error, exceptions.NameResolutionError):
        return SourceFailed(f"The name {host} is not known", hint=f"{_ORGANIZATION}, and the DNS of this process")
    if isinstance(error, exceptions.NewConnectionError):  # Which urllib3 counts among the time-outs.
        hint = "Check that this process may connect to it: firewall, proxy (HTTPS_PROXY), outbound rules"
        return SourceFailed(f"{host} cannot be connected to", hint=hint)
    if isinstance(error, exceptions.TimeoutError):
        return SourceFailed(f"{host} did not answer within {seconds:.3g} s", hint=_AGAIN)
    return SourceFailed(f"{host} broke its answer off: {_cause(error)}", hint=_AGAIN)


def pause(headers: Mapping[str, str]) -> timedelta:
    """How long the organization wants to be left alone: what it says, or a minute; at most an hour."""
    seconds = _UNTOLD_PAUSE.total_seconds()
    told = headers.get("Retry-After", "")
    reset = headers.get("X-RateLimit-Reset", "")
    try:
        if told:
            seconds = float(told) if told.strip().isdigit() else _moment(told) - _now(headers)
        elif reset:
            seconds = int(float(reset)) - _now(headers)
    except (ValueError, OverflowError):
        pass  # Neither a number nor a date.
    return min(timedelta(seconds=min(max(seconds, 0.0), 1e6)), _LONGEST_PAUSE)


def _now(headers: Mapping[str, str]) -> float:
    """By the clock of whoever names the moment, where the answer tells it: ours may be off."""
    try:
        return _moment(headers["Date"])
    except (LookupError, ValueError):
        return time.time()


def _moment(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()


def wish(headers: Mapping[str, str]) -> timedelta | None:
    """How long to leave the organization alone although it answered."""
    if "Retry-After" in headers or headers.get("X-RateLimit-Remaining", "").strip() == "0":
        return pause(headers) or None
    try:
        # It held this answer back for so long; the next one may be refused.
        delayed = float(headers.get("X-RateLimit-Delay", "0"))
    except ValueError:
        return None
    return timedelta(seconds=min(delayed, _LONGEST_PAUSE.total_seconds())) if delayed > 0 else None


def _message(body: bytes) -> str | None:
    """Of `{"message": ...}`, or of `{"value": {"Message": ...}}`, which controllers answer that broke."""
    try:
        answer = json.loads(body)
        value = answer.get("message") or answer["value"]["Message"]
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def _quoted(reply: Reply) -> str:
    return f": {reply.said}" if reply.said else ""


def _cause(error: Exception) -> str:
    """The innermost reason in a few words: urllib3 wraps the system's own several times, with addresses of objects."""
    inner: object = error
    while isinstance(inner, Exception) and inner.args and isinstance(inner.args[-1], Exception):
        inner = inner.args[-1]
    words = getattr(inner, "verify_message", None) or getattr(inner, "strerror", None) or type(inner).__name__
    return str(words)[:_LONGEST_MESSAGE]
