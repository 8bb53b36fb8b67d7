"""One Azure DevOps organisation through its SDK.

Invariant: what leaves here is a good answer or one of our `SourceError`s, in time; and the credentials go to the
organisation's own address only.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from shared import telemetry
from shared.azure_devops.sdk import Answer, Location, git_class, hooks_class
from shared.azure_devops.trouble import Reply, trouble, wish
from shared.errors import RepositoryRefused, SourceFailed, SourceRefused, SourceThrottled
from shared.model import Deadline, SourceName
from shared.telemetry import metrics

if TYPE_CHECKING:
    from shared.azure_devops.transport import Received, Transport

_LOG = logging.getLogger(__name__)
_IMPORTING = threading.Lock()
"""Held while the SDK is imported, at its first use: its modules import each other in circles, and a second thread that
comes in at another place finds half of them."""
_AREAS: Final = ("git", "hooks")
_WORTH_WAITING: Final = 1.0
"""Seconds: a shorter pause is slept, a longer one is an error."""
_READS: Final = ("GET", "HEAD", "OPTIONS")


class Organisation:
    """One organisation, over one pool of kept-alive connections. May be shared between threads.

    `authorization` gives the value of the Authorization header, and is asked for every request; `renewed` is asked for
    a newer one after a refusal, and the request is sent once more when it differs. `timeout` bounds each `with` block.
    `slow_down` is told how long the organisation wants to be left alone although it answered; until then calls fail.
    """

    def __init__(
        self,
        url: str,
        *,
        authorization: Callable[[], str],
        renewed: Callable[[], str | None] = lambda: None,
        timeout: timedelta,
        slow_down: Callable[[timedelta], object] = lambda pause: None,
    ) -> None:
        self.url = SourceName(url.rstrip("/"))
        parts = urlsplit(self.url)
        self._host = parts.netloc
        self._server = {"server.address": parts.hostname, "server.port": parts.port or 443}
        self._authorization = authorization
        self._renewed = renewed
        self._timeout = timeout
        self._slow_down = slow_down
        self._quiet_until = 0.0
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._transport: Transport | None = None
        self._clients: dict[str, Any] = {}
        self._locations: dict[str, Location] | None = None

    @contextmanager
    def git(self, deadline: Deadline) -> Iterator[Any]:
        """The SDK's Git client, for one thread: its methods return parsed JSON, its downloads a file. `continuation` is
        what to ask the next page with."""
        with self._speaking():
            yield self._client("git", git_class).until(deadline.within(self._timeout))

    @contextmanager
    def hooks(self, deadline: Deadline) -> Iterator[Any]:
        """The SDK's service hooks client, for one thread."""
        with self._speaking():
            yield self._client("hooks", hooks_class).until(deadline.within(self._timeout))

    # -- What the SDK's clients need: `sdk.Sender` -------------------------------------------------------------------

    def send(self, method: str, url: str, headers: Mapping[str, str], body: str | None, deadline: Deadline) -> Answer:
        """A good answer. Raises `SourceError`."""
        if not url.startswith(f"{self.url}/"):
            raise SourceFailed(f"{self._host} names another address for one of its resources: it is not asked")
        self._keep_quiet(deadline)
        authorization = self._authorization()
        try:
            return self._send(method, url, {**headers, "Authorization": authorization}, body, deadline)
        except RepositoryRefused:
            raise
        except SourceRefused:
            newer = self._renewed()
            if newer is None or newer == authorization:
                raise
            _LOG.info("credentials were renewed after a refusal", extra={"source": self.url})
            return self._send(method, url, {**headers, "Authorization": newer}, body, deadline)

    def location(self, location_id: str, deadline: Deadline) -> Location | None:
        """Where a resource is; None when the organisation does not have it. Asked once in a process."""
        if self._locations is None:
            if not self._asking.acquire(timeout=deadline.remaining):
                raise SourceFailed(f"No time was left to ask {self._host}")
            try:
                self._locations = self._locations or self._ask_locations(deadline)
            finally:
                self._asking.release()
        return self._locations.get(location_id)

    # ----------------------------------------------------------------------------------------------------------------

    def _ask_locations(self, deadline: Deadline) -> dict[str, Location]:
        headers = {"Accept": "application/json", "X-TFS-FedAuthRedirect": "Suppress"}
        answer = self.send("OPTIONS", f"{self.url}/_apis", headers, None, deadline).json()
        return {told["id"].lower(): Location.of(told) for told in answer["value"] if told["area"].lower() in _AREAS}

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: str | None, deadline: Deadline) -> Answer:
        is_download = "json" not in headers.get("Accept", "")
        once = method not in _READS and not is_download
        about = {"http.request.method": method, "url.full": url.partition("?")[0], **self._server}
        with telemetry.call(method, about) as span:
            received = self._wire().send(method, url, headers, body, deadline, once=once)
            problem = trouble(_reply(received, is_download=is_download), self._host, url, download=is_download)
            span.set({"http.response.status_code": received.status})
            if problem is not None:
                span.fail(type(problem).__name__)
        if problem is not None:
            received.content.close()
        self._heed(received, problem)
        if problem is not None:
            raise problem
        return Answer(received.status, received.headers, received.content)

    def _heed(self, received: "Received", problem: Exception | None) -> None:
        _tell_limit(received.headers)
        pause = wish(received.headers)
        if pause and not isinstance(problem, SourceThrottled):
            self._quiet_until = max(self._quiet_until, time.monotonic() + pause.total_seconds())
            _LOG.warning("asked to slow down", extra={"source": self.url, "seconds": pause.total_seconds()})
            self._slow_down(pause)

    def _keep_quiet(self, limit: Deadline) -> None:
        rest = self._quiet_until - time.monotonic()
        if rest <= 0:
            return
        if rest > _WORTH_WAITING or rest >= limit.remaining:
            message = f"{self._host} asked to slow down, for {rest:.0f} s more"
            raise SourceThrottled(message, retry_after=timedelta(seconds=rest))
        time.sleep(rest)

    def _client(self, name: str, client_class: Callable[[], type[Any]]) -> Any:
        client = self._clients.get(name)
        if client is None:
            with _IMPORTING:
                made = client_class()(self.url, self)
            client = self._clients.setdefault(name, made)
        return client

    def _wire(self) -> "Transport":
        from shared.azure_devops.transport import Transport

        with self._lock:
            if self._transport is None:
                self._transport = Transport(self.url)
            return self._transport

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """The SDK has errors of its own, and an answer of another shape breaks whatever code reads it."""
        with _IMPORTING:
            from msrest.exceptions import ClientException

        try:
            yield
        except (ClientException, ValueError, TypeError, LookupError, AttributeError) as error:
            message = f"{self._host} answered what cannot be understood: {type(error).__name__}"
            hint = "Check the URL of the organization: this app speaks version 7.1 of the API of Azure DevOps Services"
            raise SourceFailed(message, hint=hint) from error


def _tell_limit(headers: Mapping[str, str]) -> None:
    with suppress(KeyError, ValueError):
        metrics.RATE_LIMIT.set(float(headers["X-RateLimit-Remaining"]), headers.get("X-RateLimit-Resource", "")[:64])


def _reply(received: "Received", *, is_download: bool) -> Reply:
    is_good = received.status == 200 and "html" not in received.headers.get("Content-Type", "").lower()
    body = b"" if is_download and is_good else received.content.read()
    return Reply(received.status, received.headers, body)
