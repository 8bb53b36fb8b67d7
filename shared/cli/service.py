"""The running service, as a reader sees it over HTTP."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from shared.errors import Forbidden, InvalidRequest, SettingsInvalid, Unauthenticated

KEY: Final = "RUNTIME_STORE_KEY"
URL: Final = "RUNTIME_STORE_URL"
_MOST_READ: Final = 16 * 1024 * 1024
_MOST_RECORDS: Final = 200


class Unanswered(Exception):
    """No answer now, and perhaps one later: not before `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


class _NoRedirects(HTTPRedirectHandler):
    """urllib would send the key along, to whatever host is named."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Service:
    """`url` as `parsed_url` gives it. Every call raises `Unanswered`, or the error of somebody who must act."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._opener: OpenerDirector = build_opener(_NoRedirects)

    def served(self, repository: str, branch: str, seconds: float) -> str | None:
        """The commit that readers of the branch get now; None when they get nothing."""
        # With any set in hand the answer is 304: the commit in its headers, no body, and one row to find it.
        headers = {"If-None-Match": "*"}
        path = f"/runtimes/{quote(repository, safe='')}/{quote(branch)}"
        answer = self._answer(path, seconds, headers)
        if answer is None:
            return None
        if (commit := answer.headers["X-Commit-Id"]) is None:
            raise self._another()
        return str(commit)

    def status(self, repository: str, branch: str, seconds: float) -> Mapping[str, Any] | None:
        """The branch as `GET /repositories/{repository}` has it; None when it is not known there yet."""
        found = self._json(f"/repositories/{quote(repository, safe='')}", seconds)
        return None if found is None else next((one for one in found["status"] if one["branch"] == branch), None)

    def syncs(self, repository: str, branch: str, seconds: float) -> Iterator[Mapping[str, Any]]:
        """The latest ended syncs, the newest first."""
        query = urlencode({"branch": branch, "limit": _MOST_RECORDS})
        yield from self._json(f"/repositories/{quote(repository, safe='')}/syncs?{query}", seconds) or ()

    def deliveries(self, repository: str, seconds: float) -> Iterator[Mapping[str, Any]]:
        """The latest webhooks, the newest first."""
        path = f"/repositories/{quote(repository, safe='')}/deliveries?limit={_MOST_RECORDS}"
        yield from self._json(path, seconds) or ()

    def _json(self, path: str, seconds: float) -> Any:
        answer = self._answer(path, seconds, {})
        if answer is None:
            return None
        try:
            return json.loads(answer.body)
        except ValueError:
            raise self._another() from None

    def _answer(self, path: str, seconds: float, headers: Mapping[str, str]) -> _Answer | None:
        """None stands for 404: not there, or not yet."""
        sent = {**self._headers, **headers}
        # http or https: `parsed_url` lets nothing else pass.
        answer = self._ask(Request(f"{self._url}{path}", headers=sent), seconds)  # noqa: S310
        match answer.status:
            case 200 | 304:
                return answer
            case 404:
                return None
            case 401:
                hint = f"Set {KEY} to a valid reader key of this service."
                raise Unauthenticated(f"{self._url} wants a key, or another one.", hint=hint)
            case 403:
                hint = f"Set {KEY} to a reader key; the key of the webhook cannot read."
                raise Forbidden(f"{self._url} does not let this key read.", hint=hint)
            case 400:
                raise InvalidRequest(f"{self._url} refuses the question{_detail(answer)}", field="repository")
            case status if status == 429 or status >= 500:
                raise Unanswered(f"{self._url} answers {status}{_detail(answer)}", _retry_after(answer.headers))
            case _:
                raise self._another()

    def _ask(self, request: Request, seconds: float) -> _Answer:
        try:
            with self._opener.open(request, timeout=seconds) as response:
                return _Answer(response.status, response.headers, response.read(_MOST_READ))
        except HTTPError as error:
            with error:
                return _Answer(error.code, error.headers, error.read(_MOST_READ))
        except (URLError, HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise Unanswered(f"{self._url} cannot be reached: {reason or type(reason).__name__}") from error

    def _another(self) -> InvalidRequest:
        hint = f"Correct --url or {URL}: it is where /livez answers, without a path of its own behind it."
        return InvalidRequest(f"{self._url} does not answer as Runtime Store does.", field="url", hint=hint)


def parsed_url(text: str) -> str:
    """An https address without a slash at its end; http only of this machine. Raises `InvalidRequest`."""
    from shared.settings import parse

    try:
        return str(parse("PUBLIC_URL", text))
    except SettingsInvalid as error:
        raise InvalidRequest(f"{error.problems[0].replace('PUBLIC_URL', '--url')}.", field="url") from None


def _detail(answer: _Answer) -> str:
    """What a problem document (RFC 9457) says about it."""
    try:
        told = json.loads(answer.body)["detail"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {told}"


def _retry_after(headers: Message) -> float:
    """Seconds, or a date (RFC 9110, 10.2.3)."""
    told = headers["Retry-After"] or ""
    if told.isdecimal():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
