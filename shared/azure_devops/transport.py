"""A pool of kept-alive HTTP connections to one host.

Invariant: a call ends. Each attempt gets only the time that is left, no pause between two goes past it, and a body that
drips or grows is given up. Redirects are not followed.
"""

import os
import time
from collections.abc import Mapping
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import certifi
import urllib3
from requests import Session
from requests.utils import get_auth_from_url, select_proxy
from urllib3.exceptions import HTTPError, MaxRetryError, ReadTimeoutError

from shared.azure_devops.trouble import unreached
from shared.errors import SourceFailed
from shared.model import Deadline

CONNECTIONS = 16
"""Kept alive at once: at least as many as a sweep has workers."""
LARGEST_TEXT = 64 * 1024 * 1024
LARGEST_DOWNLOAD = 128 * 1024 * 1024
_IN_MEMORY = 4 * 1024 * 1024
_RETRIES = 2
_RETRIED = frozenset({408, 500, 502, 503, 504})
_LONGEST_CONNECT = 10.0
"""Seconds for each address of the host: one that does not answer must leave time for the next."""
_PIECE = 1 << 16


class Received(NamedTuple):
    """A whole answer. `content` stands at its start; whoever gets it closes it."""

    status: int
    headers: Mapping[str, str]
    content: IO[bytes]


class Transport:
    """Sends requests to the host of `url`, through the proxy and with the CA bundle that the environment names, in the
    variables that `requests` documents. May be shared between threads."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc.rpartition("@")[2]
        with Session() as session:
            settings = session.merge_environment_settings(url, {}, None, None, None)
        bundle = settings["verify"] if isinstance(settings["verify"], str) else certifi.where()
        options: dict[str, Any] = {
            "maxsize": CONNECTIONS,
            "cert_reqs": "CERT_REQUIRED",
            "ca_cert_dir" if os.path.isdir(bundle) else "ca_certs": bundle,
        }
        if proxy := select_proxy(url, settings["proxies"]):
            if any(user := get_auth_from_url(proxy)):
                options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=":".join(user))
            self._pools: urllib3.PoolManager = urllib3.ProxyManager(proxy, **options)
        else:
            self._pools = urllib3.PoolManager(**options)

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: str | None, deadline: Deadline, *, once: bool
    ) -> Received:
        """What the host answers, whatever the status. `once`: never sent again when it may have arrived.

        An answer to `Accept: application/json` is kept in memory, any other in a file when it is large. Raises
        `SourceFailed`.
        """
        started = time.monotonic()
        is_download = "json" not in headers.get("Accept", "")
        retries: urllib3.Retry = _Retries.until(deadline, once=once)
        while True:
            try:
                response = self._pools.urlopen(
                    method,
                    url,
                    body=body,
                    headers={**headers, "Accept-Encoding": "gzip", "User-Agent": "runtime-store"},
                    redirect=False,
                    retries=retries,
                    timeout=_Remaining(deadline, self.host),
                    preload_content=False,
                )
                retries = response.retries or retries
                try:
                    content = _content(response, deadline, is_download=is_download)
                    return Received(response.status, response.headers, content)
                except HTTPError as error:
                    # Cut off. urllib3 itself tries again only until the headers are there.
                    retries = retries.increment(method, url, error=error)
                    retries.sleep()
                finally:
                    response.close()
            except HTTPError as error:
                reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
                raise unreached(self.host, reason, time.monotonic() - started) from error


class _Remaining(urllib3.Timeout):
    """What is left when an attempt begins: urllib3 clones the time-out for each."""

    def __init__(self, deadline: Deadline, host: str) -> None:
        super().__init__()
        self._deadline = deadline
        self._host = host

    def clone(self) -> urllib3.Timeout:
        left = self._deadline.remaining
        if not left:
            raise SourceFailed(f"No time was left to ask {self._host}")
        return urllib3.Timeout(total=left, connect=min(left, _LONGEST_CONNECT))


class _Retries(urllib3.Retry):
    """Twice more, as long as there is time. POST too: most of ours only read."""

    deadline: Deadline

    @classmethod
    def until(cls, deadline: Deadline, *, once: bool) -> "_Retries":
        retries = cls(
            total=_RETRIES,
            read=False if once else _RETRIES,
            other=0,
            status_forcelist=() if once else _RETRIED,
            allowed_methods=None,
            backoff_factor=0.2,
            raise_on_status=False,
            # A thread that sleeps as long as a host wishes; a pause of the whole source is better.
            respect_retry_after_header=False,
        )
        retries.deadline = deadline
        return retries

    def new(self, **changed: Any) -> "_Retries":
        new = super().new(**changed)
        new.deadline = self.deadline
        return new

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        return super().is_retry(method, status_code, has_retry_after) and not has_retry_after

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> "_Retries":
        new = super().increment(method, url, response, error, _pool, _stacktrace)
        if new.get_backoff_time() >= self.deadline.remaining:
            raise MaxRetryError(_pool, url or "", error)
        if response is not None:
            response.close()  # Else urllib3 reads it to its end, however long that takes.
        return new


def _content(response: urllib3.BaseHTTPResponse, deadline: Deadline, *, is_download: bool) -> IO[bytes]:
    limit = LARGEST_DOWNLOAD if is_download else LARGEST_TEXT
    content: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY) if is_download else BytesIO()  # noqa: SIM115 - returned
    try:
        while piece := response.read1(_PIECE):
            content.write(piece)
            if content.tell() > limit:
                hint = "A commit of some 130,000 files is the largest that can be listed: use a smaller repository"
                raise SourceFailed(f"The answer is larger than {limit >> 20} MiB", hint=hint)
            _hurry(response, deadline)
    except BaseException:
        content.close()
        raise
    content.seek(0)
    return content


def _hurry(response: urllib3.BaseHTTPResponse, deadline: Deadline) -> None:
    """Gives the next piece only what is left; else each had as long as the first."""
    left = deadline.remaining
    if not left:
        raise ReadTimeoutError(None, None, "The body took too long")  # type: ignore[arg-type]
    # None where the answer ends with its connection: there a stalled body can take the time once more.
    socket = getattr(response.connection, "sock", None)
    if socket is not None:
        socket.settimeout(left)
