"""The `azure-devops` SDK, made to send through an `Organisation`.

The SDK knows routes, versions and bodies. What is left out: its session (POST is never tried again, redirects are
followed, a 429 sleeps without bound), its cache on disk, and for Git its models, which cost some ten times what parsing
the JSON does. Nothing of it is imported before it is needed: that takes 0.4 s.
"""

import copy
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import IO, TYPE_CHECKING, Any, Protocol

from shared.model import Deadline

if TYPE_CHECKING:
    from msrest.universal_http import ClientRequest


@dataclass(frozen=True, slots=True)
class Location:
    """Where a resource is, and in which versions: what the SDK asks before each call."""

    id: str
    area: str
    resource_name: str
    route_template: str
    resource_version: int
    min_version: float
    max_version: float
    released_version: str

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Location":
        return cls(
            told["id"],
            told["area"],
            told["resourceName"],
            told["routeTemplate"],
            int(told["resourceVersion"]),
            float(told["minVersion"]),
            float(told["maxVersion"]),
            str(told["releasedVersion"]),
        )


@dataclass(slots=True)
class Answer:
    """A good answer, as the SDK and msrest want one."""

    status_code: int
    headers: Mapping[str, str]
    content: IO[bytes]
    """Of a download it is a file, which whoever asked for it closes."""

    def body(self) -> bytes:
        self.content.seek(0)
        return self.content.read()

    def text(self) -> str:
        return self.body().decode("utf-8-sig")

    def json(self) -> Any:
        """None for an answer without a body. Raises `ValueError`."""
        body = self.body()
        return json.loads(body) if body else None

    def stream_download(self, size: int, callback: object) -> IO[bytes]:
        """What the SDK's downloads return: the file as a whole, which is complete."""
        return self.content


class Sender(Protocol):
    """What sends for a client, and knows where things are."""

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: str | None, deadline: Deadline
    ) -> Answer: ...

    def location(self, location_id: str, deadline: Deadline) -> Location | None: ...


class _Sending:
    """Mixed into a client of the SDK, in front of it."""

    _sender: Sender
    _deadline: Deadline
    answer: Answer | None = None
    """The last answer: the SDK keeps its headers to itself."""

    @property
    def continuation(self) -> str | None:
        """What to ask the next page with; None when the last answer was the last page."""
        return self.answer.headers.get("x-ms-continuationtoken") or None if self.answer else None

    def until(self, deadline: Deadline) -> "_Sending":
        """The same client for one thread and one deadline."""
        bound = copy.copy(self)
        bound._deadline = deadline
        return bound

    def _send_request(
        self,
        request: "ClientRequest",
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        media_type: str | None = None,
        **_: object,
    ) -> Answer:
        request.headers.update(headers or {})
        request.add_content(content)
        self.answer = self._sender.send(request.method, request.url, request.headers, request.data, self._deadline)
        return self.answer

    def _get_resource_location(self, url: str, location_id: str) -> Location | None:
        # The SDK caches by URL, in its class and on disk; what listens there now may be another.
        return self._sender.location(location_id, self._deadline)


class _Raw(_Sending):
    """The JSON as it is parsed, without the SDK's models. `value` of a collection."""

    @staticmethod
    def _deserialize(kind: str, answer: object) -> object:
        return answer.json() if isinstance(answer, Answer) else answer

    @staticmethod
    def _unwrap_collection(answer: Answer) -> list[Any]:
        told = answer.json()
        value = told["value"]
        if not isinstance(value, list):
            raise TypeError("value is no list")  # A mapping without keys would pass for an empty one.
        if told.get("count", len(value)) != len(value):
            raise ValueError("not all that was counted is there")
        return value


@cache
def git_class() -> type[Any]:
    """The Git client; its methods return parsed JSON."""
    _keep_off_the_disk()
    from azure.devops.v7_1.git.git_client import GitClient

    class RawGitClient(_Raw, GitClient):  # type: ignore[misc]  # The SDK has no types.
        def __init__(self, url: str, sender: Sender) -> None:
            super().__init__(url)
            self._sender = sender
            del self._deserialize  # The SDK's, which is in front of ours.

    return RawGitClient


@cache
def hooks_class() -> type[Any]:
    """The service hooks client; its methods return the SDK's models."""
    _keep_off_the_disk()
    from azure.devops.v7_1.service_hooks.service_hooks_client import ServiceHooksClient

    class SendingHooksClient(_Sending, ServiceHooksClient):  # type: ignore[misc]  # The SDK has no types.
        def __init__(self, url: str, sender: Sender) -> None:
            super().__init__(url)
            self._sender = sender

    return SendingHooksClient


def _keep_off_the_disk() -> None:
    """The SDK makes a folder in HOME when it is imported, and HOME may be read-only. This one is there, and nothing is
    written to it, since the SDK's cache is never asked."""
    os.environ.setdefault("AZURE_DEVOPS_CACHE_DIR", tempfile.gettempdir())  # noqa: TID251 - the SDK has no other way
