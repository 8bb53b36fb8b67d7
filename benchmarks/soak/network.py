"""What is between Azure DevOps and the app: one address in front of two servers, and deliveries that go astray."""

import heapq
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Lock, Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_PATH = "/webhooks/azure-devops"
_ANSWER_SECONDS = 40
_LATEST_SECONDS = 4.0


class Chances(NamedTuple):
    """How often a delivery is lost, comes twice, or comes late, and so after others that were sent after it."""

    lost: float = 0.02
    doubled: float = 0.03
    late: float = 0.05


class Network:
    """`disturbed` are the pushes whose delivery did not come once, at once: repository ids with push ids."""

    def __init__(self, urls: Sequence[str], seed: str, violation: Callable[[str], object]) -> None:
        self.chances = Chances(0, 0, 0)
        self.counts: Counter[str] = Counter()
        self.disturbed: set[tuple[str, int]] = set()
        self._urls = urls
        self._violation = violation
        self._random = random.Random(seed)
        self._lock = Lock()
        self._changed = Condition()
        self._late: list[tuple[float, int, Mapping[str, str], bytes]] = []
        self._carrying = 0
        self._is_stopping = False
        self._carrier = Thread(target=self._carry)

    def deliver(self, headers: Mapping[str, str], body: bytes) -> int:
        """The status that the sender sees."""
        with self._lock:
            fate = self._random.random()
            wait = self._random.uniform(0.05, _LATEST_SECONDS)
        chances = self.chances
        if fate < chances.lost:
            self._disturb("lost", body)
            return 200
        if fate < chances.lost + chances.late:
            self._disturb("late", body)
            self._later(wait, headers, body)
            return 202
        if fate < sum(chances):
            self._disturb("doubled", body)
            self._later(wait / 4, headers, body)
        status = self._forward(headers, body)
        if status != 200:
            self._disturb(f"answered {status}", body)
        return status

    def settle(self) -> None:
        """Wait until nothing is late any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._late and not self._carrying)

    def start(self) -> None:
        self._carrier.start()

    def stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._carrier.join()

    def _disturb(self, what: str, body: bytes) -> None:
        resource = json.loads(body).get("resource") or {}
        # Of a minimal one only the address of the push says of which repository it is.
        repo_id = str(resource.get("url", "")).partition("/repositories/")[2].partition("/")[0]
        with self._lock:
            self.counts[what] += 1
            self.disturbed.add((repo_id, resource.get("pushId", 0)))

    def _later(self, seconds: float, headers: Mapping[str, str], body: bytes) -> None:
        with self._changed:
            heapq.heappush(self._late, (time.monotonic() + seconds, self.counts.total(), headers, body))
            self._changed.notify_all()

    def _carry(self) -> None:
        while True:
            with self._changed:
                while not self._is_stopping and not (self._late and self._late[0][0] <= time.monotonic()):
                    self._changed.wait(self._late[0][0] - time.monotonic() if self._late else None)
                if self._is_stopping:
                    return
                _, _, headers, body = heapq.heappop(self._late)
                self._carrying += 1
            self._forward(headers, body)
            with self._changed:
                self._carrying -= 1
                self._changed.notify_all()

    def _forward(self, headers: Mapping[str, str], body: bytes) -> int:
        """To one of the servers; to the other when nobody listens there."""
        with self._lock:
            self.counts["carried"] += 1
            first = self._random.randrange(len(self._urls))
        for number in range(len(self._urls)):
            url = self._urls[(first + number) % len(self._urls)]
            try:
                status, said = posted(url, _PATH, headers, body)
            except ConnectionRefusedError:
                continue
            except TimeoutError:
                return 504
            except (OSError, HTTPException):
                return 502
            if status not in (200, 202, 503):
                self._violation(f"a delivery was answered {status}: {said[:300]!r}")
            return status
        return 503


def posted(url: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
    return sent("POST", url, path, headers, body)


def sent(method: str, url: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer. Raises `OSError` and `HTTPException`."""
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as response:
            return response.status, response.read()
    finally:
        connection.close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        status = server.network.deliver(kept, body)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """The network keeps counts."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A sender that did not wait for its answer."""


@contextmanager
def connected(network: Network) -> Iterator[str]:
    """The address that service hooks call."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.network = network  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        network.start()
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{_PATH}"
        finally:
            server.shutdown()
            thread.join()
            network.stop()
