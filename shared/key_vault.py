"""Secrets from the environment or Azure Key Vault, with a cache in front.

The invariant: a vault in trouble takes no known secret away, and holds at most one caller per name up of those whom it
serves; no log or exception holds a value. Azure's packages are imported when a vault is first asked (0.4 s).
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.errors import SecretUnavailable
from shared.telemetry import metrics

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.exceptions import AzureError
    from azure.keyvault.secrets import SecretClient

_log = logging.getLogger(__name__)

REFRESH_INTERVAL = timedelta(seconds=30)
"""The vault is asked for one secret at most this often, however many callers bring one that is not the cached one."""
REFRESH_PATIENCE = timedelta(seconds=2)
"""How long callers whom the cached value does not serve wait for an answer that another of them has asked for."""
WARNING_INTERVAL = timedelta(minutes=1)

NETWORK: Mapping[str, Any] = {
    "connection_timeout": 5,
    "read_timeout": 5,
    # Only a connection that was never made is tried again: the SDK sleeps in the caller's request for as long as
    # `Retry-After` says, without an upper bound, when it may repeat an answered one.
    "retry_total": 1,
    "retry_connect": 1,
    "retry_read": 0,
    "retry_status": 0,
}
"""Time-outs in seconds and repetitions of one call to the vault."""


def secret_client(vault_url: str, credential: "TokenCredential", **options: Any) -> "SecretClient":
    """A client whose calls end soon; `options` are `SecretClient`'s and win over ours."""
    from azure.keyvault.secrets import SecretClient

    # A connection that idled between two fetches may be dead without a sign, which would cost a whole read time-out.
    return SecretClient(vault_url, credential, **{**NETWORK, "headers": {"Connection": "close"}, **options})


class EnvironmentSecrets:
    """The `Secrets` of an app without a vault. `webhook-secret` is the variable `WEBHOOK_SECRET`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def get(self, name: str) -> str | None:
        return self._environment.get(_variable(name)) or None

    def refresh(self, name: str) -> str | None:
        return self.get(name)


class _Answer(NamedTuple):
    """What the vault said about one secret, and when, in monotonic seconds; None is "there is no such secret"."""

    at: float
    value: str | None


class _Failure(NamedTuple):
    """Why the vault said nothing, when, and whether that is about one secret or about all."""

    at: float
    reason: str
    hint: str
    is_about_all: bool = True


class _Entry:
    """The cache's place for one secret. Who holds `lock` asks the vault; what was answered is read without it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.answer: _Answer | None = None
        self.failure: _Failure | None = None


class KeyVaultSecrets:
    """The `Secrets` of an app with a vault. What the environment holds wins over the vault.

    A secret that is deleted or disabled in the vault is None. A vault that failed is left alone for a while: one that
    hangs is waited for once, and not by each request for each secret.
    """

    def __init__(
        self,
        vault_url: str,
        client: "Callable[[], SecretClient]",
        *,
        ttl: timedelta,
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`client` is called when a secret is first needed; for `ttl` an answer is used without asking again."""
        self._vault_url = vault_url
        self._make_client = client
        self._client: SecretClient | None = None
        self._ttl = ttl
        self._given = EnvironmentSecrets(environment)
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._failure: _Failure | None = None
        self._asked_at: dict[str, float] = {}
        """When each secret was asked for that the vault has not answered yet."""
        self._warned_at: float | None = None
        self._lock = Lock()

    def get(self, name: str) -> str | None:
        return self._given.get(name) or self._read(name, self._ttl, wait=timedelta())

    def refresh(self, name: str) -> str | None:
        return self._given.get(name) or self._read(name, min(self._ttl, REFRESH_INTERVAL), wait=REFRESH_PATIENCE)

    def _read(self, name: str, patience: timedelta, *, wait: timedelta) -> str | None:
        with self._lock:
            entry = self._entries.setdefault(name, _Entry())
        answer = entry.answer
        if answer and self._is_within(patience, answer.at):
            return answer.value
        if answer and self._hangs():
            return answer.value
        # While one caller asks, the others go on with the older value. Those who have none wait for the answer; and for
        # a while those who were refused with it: when a key is rotated, many of them come at once.
        if not entry.lock.acquire(timeout=-1 if answer is None else wait.total_seconds()):
            return answer.value if answer else None
        try:
            return self._read_again(name, entry, patience)
        finally:
            entry.lock.release()

    def _read_again(self, name: str, entry: _Entry, patience: timedelta) -> str | None:
        answer = entry.answer
        if answer and self._is_within(patience, answer.at):
            return answer.value
        failure = max(filter(None, (entry.failure, self._failure)), default=None)
        pause = REFRESH_INTERVAL if answer else SecretUnavailable.retry_after
        if failure is None or not self._is_within(pause, failure.at):
            asked = self._ask(name)
            if isinstance(asked, _Answer):
                entry.answer, entry.failure, self._failure = asked, None, None
                return asked.value
            entry.failure = failure = asked
            if asked.is_about_all:
                self._failure = asked
        if answer is None:
            raise SecretUnavailable(f"The secret {name} is not known: {failure.reason}", hint=failure.hint)
        self._warn(name, answer, failure)
        return answer.value

    def _hangs(self) -> bool:
        """Whether some question waits for its answer for long: who has an older value does not wait for the same, nor
        for each secret of its own."""
        with self._lock:
            return any(not self._is_within(REFRESH_PATIENCE, at) for at in self._asked_at.values())

    def _ask(self, name: str) -> _Answer | _Failure:
        with self._lock:
            self._asked_at[name] = self._clock()
        try:
            return self._answered(name)
        finally:
            with self._lock:
                del self._asked_at[name]

    def _answered(self, name: str) -> _Answer | _Failure:
        from azure.core.exceptions import AzureError

        try:
            found = self._connected().get_secret(name)
            value = found.value
            _tell_expiry(name, found.properties.expires_on)
        except AzureError as error:
            code = _code(error)
            # Any other 404 comes from a proxy, or a host that is no vault, and says nothing about the secret.
            if code in ("SecretNotFound", "SecretDisabled"):
                return _Answer(self._clock(), None)
            return self._failed(code, _hint(error, code, self._vault_url), getattr(error, "status_code", None) != 403)
        except (ValueError, AttributeError, TypeError):
            # The SDK stumbles over JSON of another shape, and gives no token to a host that its challenge is not for.
            value = None
        if value is None:
            return self._failed(
                "what answers is not a Key Vault of that name", "Check KEY_VAULT_URL and what it leads to."
            )
        return _Answer(self._clock(), value or None)

    def _failed(self, reason: str, hint: str, is_about_all: bool = True) -> _Failure:
        # The SDK's own words are left out: they quote the body of an answer it cannot read, which may be the secret.
        return _Failure(self._clock(), f"Key Vault {self._vault_url}: {reason}", hint, is_about_all)

    def _connected(self) -> "SecretClient":
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def _is_within(self, duration: timedelta, at: float) -> bool:
        return self._clock() - at < duration.total_seconds()

    def _warn(self, name: str, answer: _Answer, failure: _Failure) -> None:
        with self._lock:
            if self._warned_at is not None and self._is_within(WARNING_INTERVAL, self._warned_at):
                return
            self._warned_at = self._clock()
        age = round(self._clock() - answer.at)
        data = {"secret": name, "age_seconds": age, "reason": failure.reason, "hint": failure.hint}
        _log.warning("An older value of a secret is used", extra=data)


def _tell_expiry(name: str, expires_on: object) -> None:
    # The SDK leaves a number that is no date as it came.
    if isinstance(expires_on, datetime):
        metrics.SECRET_EXPIRY.set((expires_on - datetime.now(UTC)) / timedelta(days=1), name)


def _variable(name: str) -> str:
    return name.replace("-", "_").upper()


def _code(error: "AzureError") -> str:
    """Key Vault's innermost error code, else the status, else the kind of error: nothing that could be a secret."""
    detail = getattr(error, "error", None)
    inner = getattr(detail, "innererror", None)
    status = getattr(error, "status_code", None)
    for code in (inner.get("code") if isinstance(inner, dict) else None, getattr(detail, "code", None)):
        if status and status >= 400 and re.fullmatch(r"[A-Za-z]{1,40}", str(code or "")):
            return str(code)
    return f"HTTP {status}" if status else type(error).__name__


def _hint(error: "AzureError", code: str, vault_url: str) -> str:
    from azure.core.exceptions import ClientAuthenticationError

    if code == "ForbiddenByFirewall":
        return f"The firewall of {vault_url} keeps this app out: let its subnet in, or use a private endpoint."
    if getattr(error, "status_code", None) == 403:
        return f"Grant this app's identity the role Key Vault Secrets User on {vault_url}."
    if isinstance(error, ClientAuthenticationError):
        return (
            "This app could not sign in: assign it a managed identity, and name it in AZURE_CLIENT_ID if it is a "
            "user-assigned one; on a developer's machine run `az login`."
        )
    return f"If it lasts, check KEY_VAULT_URL, and that this app's network reaches {vault_url}."
