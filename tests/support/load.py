"""Many callers at once: deliveries as Azure DevOps sends them, and traffic that goes on while something changes."""

import base64
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from urllib.parse import urlsplit

from emulators.azure_devops import HostedRepository

WEBHOOK = "/webhooks/azure-devops"
_push_ids = count(1)


def basic(password: str) -> dict[str, str]:
    """As a service hook brings its secret."""
    credentials = base64.b64encode(f"azure-devops:{password}".encode()).decode()
    return {"authorization": f"Basic {credentials}", "content-type": "application/json; charset=utf-8"}


def delivery(hosted: HostedRepository, branch: str = "main") -> bytes:
    """The body of a push that led to the branch's head of now."""
    update = {"name": f"refs/heads/{branch}", "oldObjectId": "1" * 40, "newObjectId": hosted.git.head(branch)}
    repository = {"id": hosted.id, "name": hosted.name}
    resource = {"refUpdates": [update], "repository": repository, "pushId": next(_push_ids)}
    return json.dumps({"eventType": "git.push", "resource": resource}).encode()


class Traffic:
    """Callers that go on until the end, each of them one call after the other."""

    def __init__(self) -> None:
        self.told: list[int] = []
        """The status of every answer."""
        self.failures: list[BaseException] = []
        self._changed = threading.Condition()
        self._is_over = threading.Event()

    def run(self, call: Callable[[], int]) -> None:
        while not self._is_over.is_set():
            try:
                status = call()
            except Exception as error:  # a connection that was refused or cut is what must not be
                with self._changed:
                    self.failures.append(error)
                return
            with self._changed:
                self.told.append(status)
                self._changed.notify_all()

    def go_on(self, calls: int = 40, seconds: float = 60.0) -> None:
        """Wait until so many more calls were answered."""
        with self._changed:
            wanted = len(self.told) + calls
            assert self._changed.wait_for(lambda: len(self.told) >= wanted or self.failures, seconds), "traffic stands"
            assert not self.failures

    def end(self) -> None:
        self._is_over.set()


@contextmanager
def traffic(*callers: Callable[[], int]) -> Iterator[Traffic]:
    """Each caller in a thread of its own, for as long as the block lasts."""
    running = Traffic()
    threads = [threading.Thread(target=running.run, args=(call,)) for call in callers]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.end()
        for thread in threads:
            thread.join()


def ask(
    url: str, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | Sequence[bytes] = b""
) -> tuple[int, dict[str, str], bytes]:
    """One HTTP request over a connection of its own: status, headers by lower-case name, and body."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        length = {} if isinstance(body, bytes) else {"Content-Length": str(sum(map(len, body)))}
        connection.request(method, path, body=body, headers={**(headers or {}), **length})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()
