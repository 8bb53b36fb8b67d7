"""What goes wrong on command."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from threading import Event, Lock
from typing import Any

from emulators.azure_devops.answers import (
    HTML,
    SIGN_IN_PAGE,
    Answer,
    Refusal,
    forbidden,
    repository_not_found,
    throttled,
    unauthorized,
)


class Fault(Enum):
    """Details in brackets are keyword arguments of `Emulator.misbehave`."""

    SIGN_IN = auto()
    """203 with the sign-in page."""
    REDIRECT = auto()
    """302 to the sign-in page, which is there with 200."""
    HTML = auto()
    """200 with a page."""
    NOT_FOUND = auto()
    """404 TF401019, as for a repository that is missing, disabled or forbidden."""
    FORBIDDEN = auto()
    """403 TF401027."""
    UNAUTHORIZED = auto()
    """401 TF400813."""
    THROTTLED = auto()
    """429 TF400733 (`retry_after`: seconds, 30; None sends no such header)."""
    THROTTLE_PAGE = auto()
    """200 with a page that says the same (`retry_after` as above)."""
    SLOW_DOWN = auto()
    """The right answer, with the headers of somebody who asks too much (`retry_after`: seconds, 30; None sends only
    X-RateLimit headers)."""
    CUT = auto()
    """The connection ends in the middle of the right answer (`framed=True`: half of the body arrives as if it were
    all)."""
    WRONG_BYTES = auto()
    """Contents of blobs are altered."""
    PARTIAL = auto()
    """Refs, trees, zips and subscriptions lack their last element."""
    STALE = auto()
    """Refs are as they were before the last push."""
    SLOW = auto()
    """The right answer, after `seconds`; with `drip=True` its body takes them."""
    HANG = auto()
    """No answer, until `behave` or the end."""
    RESET = auto()
    """The connection is reset."""
    ERROR = auto()
    """An error of the service (`status`: 500; from 502 on it is a page)."""


_THROTTLE_PAGE = b"<!DOCTYPE html><html><body><h1>TF400733: The request has been canceled</h1></body></html>"
_UNAVAILABLE_PAGE = b"<!DOCTYPE html><html><head><title>Azure DevOps Services Unavailable</title></head></html>"


@dataclass(eq=False)
class Misbehaviour:
    """One fault, for requests of some routes or of one repository, so many times."""

    fault: Fault
    routes: Collection[str] | None
    repository: str | None
    times: int | None
    details: Mapping[str, Any]
    ended: Event = field(default_factory=Event)

    def detail(self, name: str, default: Any) -> Any:
        return self.details.get(name, default)

    def rate_headers(self) -> dict[str, str]:
        """https://learn.microsoft.com/azure/devops/integrate/concepts/rate-limits"""
        seconds = self.detail("retry_after", 30)
        return {
            **({} if seconds is None else {"Retry-After": str(seconds)}),
            "X-RateLimit-Resource": "Concurrency",
            "X-RateLimit-Delay": "5.0",
            "X-RateLimit-Limit": "200",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(time.time()) + int(seconds or 60)),
        }

    def instead(self, repository: str) -> Answer | None:
        """What is answered without looking; None when the request is looked at."""
        match self.fault:
            case Fault.SIGN_IN:
                return Answer(203, SIGN_IN_PAGE, HTML)
            case Fault.REDIRECT:
                return Answer(302, SIGN_IN_PAGE, HTML, {"Location": "/_signin"})
            case Fault.HTML:
                return Answer(200, SIGN_IN_PAGE, HTML)
            case Fault.NOT_FOUND:
                return repository_not_found(repository).answer()
            case Fault.FORBIDDEN:
                return forbidden().answer()
            case Fault.UNAUTHORIZED:
                return unauthorized().answer()
            case Fault.THROTTLED:
                return throttled(self.rate_headers()).answer()
            case Fault.THROTTLE_PAGE:
                return Answer(200, _THROTTLE_PAGE, HTML, self.rate_headers())
            case Fault.ERROR:
                return _error(self.detail("status", 500))
            case _:
                return None


def _error(status: int) -> Answer:
    if status >= 502:
        return Answer(status, _UNAVAILABLE_PAGE, HTML)
    message = "TF400898: An Internal Error Occurred. Activity Id: 00000000-0000-0000-0000-000000000000."
    return Refusal(status, "TeamFoundationServerException", message, namespace="Microsoft.TeamFoundation").answer()


class Misbehaviours:
    """Those in force, the oldest first. The first that fits a request is what happens to it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._all: list[Misbehaviour] = []

    def add(self, one: Misbehaviour) -> None:
        with self._lock:
            self._all.append(one)

    def end(self) -> None:
        with self._lock:
            ended, self._all = self._all, []
        for one in ended:
            one.ended.set()

    def of(self, route: str, repository: str) -> Misbehaviour | None:
        with self._lock:
            for one in self._all:
                fits = one.routes is None or route in one.routes
                if fits and one.repository in (None, repository) and one.times != 0:
                    one.times = None if one.times is None else one.times - 1
                    return one
        return None
