"""One request on its way through the organisation: who may ask, what goes wrong, and which handler answers."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from emulators.azure_devops import smart_http
from emulators.azure_devops.answers import (
    HTML,
    SIGN_IN_PAGE,
    TEXT,
    Answer,
    Refusal,
    json_answer,
    unauthorized,
    version_missing,
)
from emulators.azure_devops.faults import Fault
from emulators.azure_devops.locations import find
from emulators.azure_devops.organisation import ENDPOINTS, Organisation, get_options
from emulators.azure_devops.request import Request

if TYPE_CHECKING:
    from emulators.azure_devops.emulator import Emulator

EMULATOR_AUTHORIZATION = "Basic " + base64.b64encode(b":emulator-personal-access-token").decode()
"""What a client with an organisation-scoped personal access token sends."""

_SIGN_IN = "/_signin"
_MISBEHAVE = "/_misbehave/"
_BEHAVE = "/_behave"
_NO_ORGANISATION_PAGE = b"<!DOCTYPE html><html><head><title>Azure DevOps Services | 404 Not Found</title></head></html>"


@dataclass(frozen=True)
class Call:
    """One request that arrived. `status` is 0 when it got no answer."""

    method: str
    path: str
    route: str
    status: int
    fault: Fault | None = None
    repository: str = ""
    """As the address names it: an id, or a name."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the request, names in lower case."""


def canonical(authorization: str) -> str:
    """Azure DevOps looks at a Basic password alone."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        password = base64.b64decode(value, validate=True).partition(b":")[2]
    except binascii.Error:
        return authorization
    return "Basic " + base64.b64encode(b":" + password).decode()


class Exchange:
    """One request on its way through the organisation."""

    def __init__(self, emulator: "Emulator", request: Request, query: str) -> None:
        self._emulator = emulator
        self._organisation: Organisation = emulator.organisation
        self._query = query
        first, _, rest = request.path.strip("/").partition("/")
        self._is_ours = unquote(first).lower() == emulator.name
        self._rest = rest if self._is_ours else ""
        self._found = find(ENDPOINTS, request.method, rest) if self._is_ours else None
        self._git = _git_address(self._rest)
        self.route = self._name(request)
        parameters = self._found[1] if self._found else {}
        self.request = replace(request, parameters=parameters)
        self.repository = parameters.get("repositoryId") or parameters.get("repositoryNameOrId") or ""
        if self._git:
            self.repository = self._git[1]
        faults = emulator.misbehaviours
        self.fault = None if request.path == _SIGN_IN else faults.of(self.route, self.repository.lower())

    def _name(self, request: Request) -> str:
        if self._git:
            return "git"
        if request.method == "OPTIONS":
            return "options"
        return self._found[0].name if self._found else "unknown"

    def note(self, status: int) -> None:
        one = self.request
        fault = None if self.fault is None else self.fault.fault
        self._emulator.note(Call(one.method, one.path, self.route, status, fault, self.repository, one.headers))

    def answer(self) -> Answer:
        fault = self.fault
        if self.request.path == _SIGN_IN:
            return Answer(200, SIGN_IN_PAGE, HTML)
        if self.request.path.startswith((_MISBEHAVE, _BEHAVE)):
            try:
                return self._commanded()
            except Refusal as refusal:
                return refusal.answer()
        instead = None if fault is None else fault.instead(self.repository)
        if instead is not None:
            return instead
        refused = self._refused()
        if refused is not None:
            return refused
        if fault is not None:
            self.request.is_altered = fault.fault is Fault.WRONG_BYTES
            self.request.is_partial = fault.fault is Fault.PARTIAL
            self.request.is_stale = fault.fault is Fault.STALE
        try:
            answer = self._handled()
        except Refusal as refusal:
            answer = refusal.answer()
        if fault is not None and fault.fault is Fault.SLOW_DOWN:
            return replace(answer, headers={**answer.headers, **fault.rate_headers()})
        return answer

    def _commanded(self) -> Answer:
        """For whoever has only HTTP: `POST /_misbehave/FAULT?DETAIL=NUMBER`, until `POST /_behave`. Only the API does;
        people go on to clone and push."""
        path, emulator = self.request.path, self._emulator
        name = path.removeprefix(_MISBEHAVE).upper()
        if self.request.method != "POST" or (path != _BEHAVE and name not in Fault.__members__):
            names = " ".join(Fault.__members__).lower()
            return Answer(404, f"POST {_BEHAVE}, or {_MISBEHAVE} and one of: {names}".encode(), TEXT)
        emulator.behave()
        if path == _BEHAVE:
            return Answer(200, b"The organization behaves.", TEXT)
        details: dict[str, Any] = {detail: self.request.number(detail) for detail in self.request.query}
        emulator.misbehave(Fault[name], route={endpoint.name for endpoint in ENDPOINTS}, **details)
        return Answer(200, f"From now on: {name.lower()}.".encode(), TEXT)

    def _refused(self) -> Answer | None:
        """Whoever is not known is shown where to sign in, unless the request says that nobody could read that."""
        given = canonical(self.request.headers.get("authorization", ""))
        accepted = [canonical(one) for one in list(self._emulator.credentials)]
        if any(hmac.compare_digest(given.encode(), one.encode()) for one in accepted):
            return None
        if self._git or self.request.headers.get("x-tfs-fedauthredirect", "").lower() == "suppress":
            return unauthorized().answer()
        return Answer(203, SIGN_IN_PAGE, HTML)

    def _handled(self) -> Answer:
        if self._git:
            return self._serve_git(*self._git)
        if self.request.method == "OPTIONS" and self._rest.strip("/").lower() == "_apis":
            return get_options(self._organisation, self.request)
        if not self._is_ours:
            return Answer(404, _NO_ORGANISATION_PAGE, HTML)
        if self._found is None:
            message = "The controller for path was not found or does not implement IController."
            return json_answer({"count": 1, "value": {"Message": message}}, status=404)
        if self.request.method not in ("GET", "OPTIONS") and not self._has_version():
            raise version_missing(self.request.method)
        endpoint, _ = self._found
        return endpoint.handle(self._organisation, self.request)

    def _has_version(self) -> bool:
        return "api-version" in self.request.query or "api-version=" in self.request.headers.get("accept", "")

    def _serve_git(self, project: str, name: str, service: str) -> Answer:
        repository = self._organisation.at(project, name)
        one = self.request
        with repository.lock:
            answer = smart_http.serve(repository.path, service, one.method, self._query, one.headers, one.body)
            if service == "git-receive-pack" and answer.status == 200:
                self._organisation.pushed(repository, self._user())
        return answer

    def _user(self) -> str:
        value = self.request.headers.get("authorization", "").partition(" ")[2]
        return base64.b64decode(value).partition(b":")[0].decode("utf-8", "replace") or "Somebody"


def _git_address(rest: str) -> tuple[str, str, str] | None:
    """Project, repository and service of `PROJECT/_git/REPOSITORY/info/refs`; a project may be left out when the
    repository has its name."""
    for service in smart_http.SERVICES:
        if rest.endswith(f"/{service}"):
            parts = [unquote(part) for part in rest.removesuffix(f"/{service}").split("/")]
            if len(parts) == 3 and parts[1] == "_git":
                return parts[0], parts[2], service
            if len(parts) == 2 and parts[0] == "_git":
                return parts[1], parts[1], service
    return None
