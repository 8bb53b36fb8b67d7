"""Who may do what.

Closed unless configured. A credential is compared, as a digest and in constant time, with every key there is, so that
neither a key's length nor its place can be told from the time it takes. 401 comes before 503: who brings nothing
does not learn what is configured.
"""

import base64
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, NoReturn

from werkzeug.wrappers import Request

from shared.errors import Forbidden, Unauthenticated, Unavailable

_log = logging.getLogger(__name__)

SHORTEST_KEY = 32
"""Characters. A shorter value is never accepted."""


class Role(StrEnum):
    HOOK = "hook"
    """Delivers service hooks, and may do nothing else."""
    READER = "reader"
    ADMIN = "admin"
    """May do what a reader may, and change things."""


GRANTED_TO = {
    Role.HOOK: frozenset({Role.HOOK}),
    Role.READER: frozenset({Role.READER, Role.ADMIN}),
    Role.ADMIN: frozenset({Role.ADMIN}),
}
SETTING = {Role.HOOK: "WEBHOOK_SECRET", Role.READER: "READER_KEYS", Role.ADMIN: "ADMIN_KEY"}


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key's valid values: the current one and, while it is rotated, the previous one."""

    hook: tuple[str, ...] = field(default=(), repr=False)
    admin: tuple[str, ...] = field(default=(), repr=False)
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """By the name that the logs show."""


class Caller(NamedTuple):
    name: str
    role: Role | None


ANONYMOUS = Caller("anonymous", None)


class _Candidate(NamedTuple):
    caller: Caller
    digest: bytes


class Access:
    """Decides about callers. `refresh` is tried once when a credential matches nothing: keys are rotated."""

    def __init__(
        self, keys: Callable[[], Keys], refresh: Callable[[], Keys] | None = None, *, anonymous_reads: bool = False
    ) -> None:
        self._keys = keys
        self._refresh = refresh
        self.anonymous_reads = anonymous_reads
        self._compiled: tuple[Keys, tuple[_Candidate, ...]] = (Keys(), ())

    def admit(self, request: Request, role: Role | None) -> Caller:
        """Who calls, when they may act as `role` (None: everybody may). Raises `Unauthenticated`, `Forbidden`, and
        `Unavailable` when there is a credential and no key to compare it with."""
        if role is None:
            return ANONYMOUS
        credentials = [hashlib.sha256(value).digest() for value in presented(request)]
        if not credentials:
            if role is Role.READER and self.anonymous_reads:
                return ANONYMOUS
            raise Unauthenticated(
                "This needs a key, and none was sent.",
                hint="Send it as Authorization: Bearer, as a Basic password, as x-functions-key or as ?code=.",
            )
        caller = self._recognise(credentials, role)
        if role is Role.READER and self.anonymous_reads:
            return caller or ANONYMOUS
        if caller is None:
            self._refuse(role)
        elif caller.role not in GRANTED_TO[role]:
            raise Forbidden(f"The key {caller.name!r} may not do this.", hint=f"Use a key of the role {role}.")
        return caller

    def _recognise(self, credentials: list[bytes], role: Role) -> Caller | None:
        caller = _match(self._candidates(self._keys()), credentials, role)
        if caller is None and self._refresh is not None:
            caller = _match(self._candidates(self._refresh()), credentials, role)
        return caller

    def _candidates(self, keys: Keys) -> tuple[_Candidate, ...]:
        known, candidates = self._compiled
        if keys is not known and keys != known:
            candidates = tuple(_compiled(keys))
            self._compiled = (keys, candidates)
        return candidates

    def _refuse(self, role: Role) -> NoReturn:
        _, candidates = self._compiled
        if any(candidate.caller.role in GRANTED_TO[role] for candidate in candidates):
            raise Unauthenticated("The key is not one that is known here.", hint="Ask an operator for a valid key.")
        raise Unavailable(
            f"No {role} key is configured, so nobody can be let in.",
            hint=f"Set {SETTING[role]}, of at least {SHORTEST_KEY} characters.",
        )


def _match(candidates: tuple[_Candidate, ...], credentials: list[bytes], role: Role) -> Caller | None:
    """Whose key was sent; with several, one that may act as `role`. Compares everything with everything, always."""
    found = [
        candidate.caller
        for candidate in candidates
        for credential in credentials
        if hmac.compare_digest(candidate.digest, credential)
    ]
    allowed = [caller for caller in found if caller.role in GRANTED_TO[role]]
    return next(iter(allowed or found), None)


def _compiled(keys: Keys) -> Iterator[_Candidate]:
    readers = [(Caller(name, Role.READER), values) for name, values in keys.readers.items()]
    for caller, values in [(Caller("hook", Role.HOOK), keys.hook), (Caller("admin", Role.ADMIN), keys.admin), *readers]:
        for value in values:
            if len(value) < SHORTEST_KEY:
                _log.error("A key is too short and is not accepted", extra={"key": caller.name, "role": caller.role})
                continue
            yield _Candidate(caller, hashlib.sha256(value.encode()).digest())


def presented(request: Request) -> Iterator[bytes]:
    """Every credential of the request, whichever way it was sent."""
    environ = request.environ
    if authorization := environ.get("HTTP_AUTHORIZATION"):
        yield _from_authorization(authorization)
    if key := environ.get("HTTP_X_FUNCTIONS_KEY"):
        yield _wire_bytes(key)
    if "code=" in environ.get("QUERY_STRING", "") and (code := request.args.get("code")):
        yield code.encode()


def _from_authorization(header: str) -> bytes:
    """A Bearer token or a Basic password. Anything else is empty, which is nobody's key."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return _wire_bytes(value.strip())
    if scheme.lower() == "basic":
        with suppress(ValueError):
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    return b""


def _wire_bytes(value: str) -> bytes:
    """What was on the wire: WSGI hands headers over as Latin-1 (PEP 3333)."""
    return value.encode("latin-1", "replace")
