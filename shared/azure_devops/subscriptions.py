"""What one service hook subscription must be, and what is off about one that is there.

A subscription calls the webhook for pushes to one branch. Its password is the only input that Azure DevOps keeps to
itself and masks when it is read, so it is the only place of a secret: it can be written, and never compared.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

PATH = "/webhooks/azure-devops"
USER = "azure-devops"
VERSION = "1.0"
KIND = {
    "publisher_id": "tfs",
    "event_type": "git.push",
    "consumer_id": "webHooks",
    "consumer_action_id": "httpRequest",
}
PROBES = tuple(timedelta(minutes=minutes) for minutes in (20, 40, 80, 160, 320, 640, 900))
"""After so long each, a subscription on probation is tried again; after the last one it is disabled.
https://learn.microsoft.com/azure/devops/service-hooks/troubleshoot"""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SECRET_HEADER = re.compile(r"^[^:\n]*(?:auth|key|token|secret|password|code)[^:\n]*:", re.IGNORECASE | re.MULTILINE)


class Reach(NamedTuple):
    """Which pushes a subscription hears of; an empty part stands for all."""

    project_id: str
    repository_id: str
    branch: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """One that posts pushes to a web hook. Nothing here can hold a secret: of the URL, only the host is kept."""

    subscription_id: str
    reach: Reach
    host: str
    is_ours: bool
    """It calls this app, whatever else is off about it."""
    status: str
    """`enabled`, `onProbation`, `disabledBySystem`, `disabledByUser` or `disabledByInactiveIdentity`."""
    probes: int
    """How often it was tried again since it is on probation."""
    probed_at: datetime | None
    drift: tuple[str, ...]
    """What is not as it must be, in words that follow its name; nothing where another app is called."""

    @property
    def is_enabled(self) -> bool:
        return self.status == "enabled"

    @property
    def next_probe_at(self) -> datetime | None:
        if self.status != "onProbation" or self.probed_at is None or self.probes >= len(PROBES):
            return None
        return self.probed_at + PROBES[self.probes]

    @property
    def trouble(self) -> str | None:
        """Why it does not announce pushes at present, in words that follow its name."""
        match self.status:
            case "enabled":
                return None
            case "onProbation":
                tried = f"{self.probes} of {len(PROBES)} probes failed"
                return f"is on probation, because a delivery failed ({tried}): pushes are not announced meanwhile"
            case "disabledBySystem":
                return "was disabled by Azure DevOps, because deliveries failed for long, or once with 410"
            case "disabledByUser":
                return "was disabled by somebody"
            case "disabledByInactiveIdentity":
                return "was disabled, because whoever created it has left the organization"
            case _:
                return f"is not enabled: Azure DevOps says {self.status!r}"


def wanted(reach: Reach, url: str, secret: str) -> Mapping[str, Any]:
    """The subscription as it must be, in the SDK's words."""
    return {
        **KIND,
        "resource_version": VERSION,
        "status": "enabled",
        "publisher_inputs": {
            "projectId": reach.project_id,
            "repository": reach.repository_id,
            "branch": reach.branch,
            "pushedBy": "",
        },
        "consumer_inputs": {
            "url": url,
            "basicAuthUsername": USER,
            "basicAuthPassword": secret,
            # Said outright: payloads of subscriptions that were made with the defaults lacked repository and refs.
            "resourceDetailsToSend": "all",
            "messagesToSend": "none",
            "detailedMessagesToSend": "none",
            "acceptUntrustedCerts": "false",
        },
    }


def read(answer: Any, url: str) -> Subscription:
    """One of the SDK's subscriptions, seen from the app that is called at `url`."""
    hears, calls = answer.publisher_inputs or {}, answer.consumer_inputs or {}
    reach = Reach(
        (hears.get("projectId") or "").lower(),
        (hears.get("repository") or "").lower(),
        (hears.get("branch") or "").removeprefix("refs/heads/"),
    )
    called, probed_at = calls.get("url") or "", answer.last_probation_retry_date
    is_ours = _address(called) == _address(url)
    return Subscription(
        subscription_id=answer.id,
        reach=reach,
        host=_address(called)[0],
        is_ours=is_ours,
        # Answers leave out what is the first of its kind.
        status=str(answer.status or "enabled"),
        probes=int(answer.probation_retries or 0),
        # .NET says "never" with the year 1.
        probed_at=probed_at if probed_at and probed_at.year > 1 else None,
        drift=tuple(_drift(answer.resource_version, hears, calls, url)) if is_ours else (),
    )


def _drift(version: str | None, hears: Mapping[str, str], calls: Mapping[str, str], url: str) -> Iterator[str]:
    if version != VERSION:
        yield f"sends version {version or 'the latest'} of the payload, not {VERSION}"
    for name, what in (("projectId", "project"), ("branch", "branch")):
        if not hears.get(name):
            yield f"hears of every {what}, since it has no filter"
    if hears.get("pushedBy"):
        yield "hears only of the pushes of one person or group"
    if (details := calls.get("resourceDetailsToSend") or "").lower() != "all":
        yield f"sends {details or 'no stated amount'} of the resource details, not all"
    if not calls.get("basicAuthUsername"):
        yield "has no user name, so that Azure DevOps sends no password"
    if not calls.get("basicAuthPassword"):
        yield "has no password"
    if (calls.get("acceptUntrustedCerts") or "").lower() == "true":
        yield "accepts untrusted certificates"
    if _SECRET_HEADER.search(calls.get("httpHeaders") or ""):
        yield "has what looks like a secret in a header, where everybody who may view subscriptions reads it"
    yield from _url_drift(_split(calls.get("url") or ""), url)


def _url_drift(called: SplitResult, url: str) -> Iterator[str]:
    if called.query or "@" in called.netloc:
        yield "has what looks like a secret in its URL, where everybody who may view subscriptions reads it"
    elif called.scheme == "http" and called.hostname not in _LOOPBACK:
        yield "calls over http instead of https"
    elif called.geturl() != url:
        yield "has another spelling of the URL"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


def _address(url: str) -> tuple[str, str]:
    """Host and path: what tells whether the same app is called, however the URL is written otherwise."""
    parts = _split(url)
    host = parts.hostname or ""
    is_usual = parts.port in (None, 80, 443)
    return host if is_usual else f"{host}:{parts.port}", parts.path.rstrip("/").lower()
