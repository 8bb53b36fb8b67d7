"""The running service, as a reader sees it over HTTP."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any, Final, NamedTuple
from urllib.error import URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPErrorProcessor, OpenerDirector, Request, build_opener

from shared.errors import Forbidden, InvalidRequest, SettingsInvalid, Unauthenticated
from shared.model import Deadline
from shared.waiting import waited_for

KEY: Final = "RUNTIME_STORE_KEY"
URL: Final = "RUNTIME_STORE_URL"
_MOST_READ: Final = 16 * 1024 * 1024
_MOST_RECORDS: Final = 200
_PROBLEM: Final = "application/problem+json"

_Shape = Mapping[str, tuple[type, ...]]
_BRANCH: Final[_Shape] = {
    "commit_id": (str, type(None)),
    "judged_commit": (str, type(None)),
    "report": (dict,),
    "finished": (int,),
    "syncing": (bool,),
    "condition": (str,),
    "reason": (str,),
    "message": (str,),
}
_REPORT: Final[_Shape] = {"rejects": (bool,), "findings": (list,), "omitted": (int,)}
_FINDING: Final[_Shape] = {
    "path": (str,),
    "line": (int, type(None)),
    "column": (int, type(None)),
    "severity": (str,),
    "message": (str,),
    "rule": (str,),
}
_SYNC: Final[_Shape] = {"commit_id": (str, type(None)), "outcome": (str,)}
_DELIVERY: Final[_Shape] = {"updates": (list,), "requests": (dict,)}


class Unanswered(Exception):
    """No answer now, and perhaps one later: not before `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


class _AsAnswered(HTTPErrorProcessor):
    """Every status is an answer. urllib would follow a redirect with the key, to whatever host is named."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


class Service:
    """`url` as `parsed_url` gives it. Every call raises `Unanswered`, or the error of somebody who must act."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._opener: OpenerDirector = build_opener(_AsAnswered)

    def served(self, repository: str, branch: str, deadline: Deadline) -> str | None:
        """The commit that readers of the branch get now; None when they get nothing."""
        # With any set in hand the answer is 304: the commit in its headers, no body, and one row to find it.
        headers = {"If-None-Match": "*"}
        path = f"/runtimes/{quote(repository, safe='')}/{quote(branch)}"
        answer = self._answer(path, deadline, headers)
        if answer is None:
            return None
        if (commit := answer.headers["X-Commit-Id"]) is None:
            raise self._another()
        return str(commit)

    def status(self, repository: str, branch: str, deadline: Deadline) -> Mapping[str, Any] | None:
        """The branch as `GET /repositories/{repository}` has it; None when it is not known there yet."""
        found = self._json(f"/repositories/{quote(repository, safe='')}", deadline)
        if found is None:
            return None
        self._expect(found, {"status": (list,)})
        for one in found["status"]:
            self._expect(one, {"branch": (str,)})
            if one["branch"] == branch:
                self._expect(one, _BRANCH)
                self._expect(one["report"], _REPORT)
                for finding in one["report"]["findings"]:
                    self._expect(finding, _FINDING)
                return dict(one)
        return None

    def syncs(self, repository: str, branch: str, deadline: Deadline) -> Iterator[Mapping[str, Any]]:
        """The latest ended syncs, the newest first."""
        query = urlencode({"branch": branch, "limit": _MOST_RECORDS})
        for sync in self._list(f"/repositories/{quote(repository, safe='')}/syncs?{query}", deadline):
            self._expect(sync, _SYNC)
            yield sync

    def deliveries(self, repository: str, deadline: Deadline) -> Iterator[Mapping[str, Any]]:
        """The latest webhooks, the newest first."""
        path = f"/repositories/{quote(repository, safe='')}/deliveries?limit={_MOST_RECORDS}"
        for delivery in self._list(path, deadline):
            self._expect(delivery, _DELIVERY)
            self._expect(delivery["requests"], dict.fromkeys(delivery["requests"], (int,)))
            for update in delivery["updates"]:
                self._expect(update, {"branch": (str,), "new": (str,)})
            yield delivery

    def _expect(self, value: Any, shape: _Shape) -> None:
        is_so = isinstance(value, dict) and all(
            name in value and isinstance(value[name], types) for name, types in shape.items()
        )
        if not is_so:
            raise self._another()

    def _list(self, path: str, deadline: Deadline) -> list[Any]:
        found = self._json(path, deadline)
        if not isinstance(found, list | None):
            raise self._another()
        return found or []

    def _json(self, path: str, deadline: Deadline) -> Any:
        """None stands for 404."""
        answer = self._answer(path, deadline, {})
        if answer is None:
            return None
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            found = None
        if found is None:
            raise self._another()
        return found

    def _answer(self, path: str, deadline: Deadline, headers: Mapping[str, str]) -> _Answer | None:
        """None stands for 404: not there, or not yet."""
        sent = {**self._headers, **headers}
        # http or https: `parsed_url` lets nothing else pass.
        answer = self._ask(Request(f"{self._url}{path}", headers=sent), deadline)  # noqa: S310
        match answer.status:
            case 200 | 304:
                return answer
            case 404 if answer.headers.get_content_type() == _PROBLEM:
                return None
            case 401:
                hint = f"Set {KEY} to a valid reader key of this service."
                raise Unauthenticated(f"{self._url} wants a key, or another one.", hint=hint)
            case 403:
                hint = f"Set {KEY} to a reader key; the key of the webhook cannot read."
                raise Forbidden(f"{self._url} does not let this key read.", hint=hint)
            case 400:
                raise InvalidRequest(f"{self._url} refuses the question{_detail(answer)}", field="repository")
            case status if status in (408, 429) or status >= 500:
                raise Unanswered(f"{self._url} answers {status}{_detail(answer)}", _retry_after(answer.headers))
            case _:
                raise self._another()

    def _ask(self, request: Request, deadline: Deadline) -> _Answer:
        def call() -> _Answer:
            with self._opener.open(request, timeout=max(0.001, deadline.remaining)) as response:
                return _Answer(response.status, response.headers, _body(response, deadline))

        try:
            return waited_for(call, deadline.remaining)
        except IncompleteRead:
            raise Unanswered(f"{self._url} broke its answer off.") from None
        except (URLError, HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError):
                raise Unanswered(f"{self._url} cannot be reached: it did not answer in time.") from None
            raise Unanswered(f"{self._url} cannot be reached: {reason or type(reason).__name__}") from error

    def _another(self) -> InvalidRequest:
        hint = f"Correct --url or {URL}: it is where /livez answers, without a path of its own behind it."
        return InvalidRequest(f"--url {self._url} does not answer as Runtime Store does.", field="url", hint=hint)


def _body(response: HTTPResponse, deadline: Deadline) -> bytes:
    """As much of it as is read at most; no answer of the service is as large."""
    data = bytearray()
    while len(data) < _MOST_READ and (chunk := response.read1(65536)):
        data += chunk
        if deadline.is_over:
            raise TimeoutError
    if response.length and len(data) < _MOST_READ:
        raise IncompleteRead(bytes(data), response.length)
    return bytes(data)


def parsed_url(text: str) -> str:
    """An https address without a path; http only of this machine. Raises `InvalidRequest`."""
    from shared.settings import parse

    try:
        parts = urlsplit(parse("PUBLIC_URL", text.strip()))
        (parts.hostname or "").encode("idna")  # As it is looked up.
    except SettingsInvalid as error:
        raise InvalidRequest(f"{error.problems[0].replace('PUBLIC_URL', '--url')}.", field="url") from None
    except UnicodeError:
        raise InvalidRequest("--url names a host that cannot be one.", field="url") from None
    if parts.path.strip("/"):
        hint = f"It is {parts.scheme}://{parts.netloc}, when /livez answers there."
        raise InvalidRequest("--url must be an https URL without a path.", field="url", hint=hint)
    return f"{parts.scheme}://{parts.netloc}"


def _detail(answer: _Answer) -> str:
    """What a problem document (RFC 9457) says about it."""
    try:
        told = json.loads(answer.body)["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f": {told}"


def _retry_after(headers: Message) -> float:
    """Seconds, or a date (RFC 9110, 10.2.3)."""
    told = headers["Retry-After"] or ""
    if told.isdecimal():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0
