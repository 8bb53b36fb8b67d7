"""Who this app is to Azure: tokens of its identity, and what it says to Azure DevOps.

The invariant: no exception made here holds a token, nor words of the SDK that may. Azure's packages are imported when
a token is first needed (0.3 s).
"""

import base64
import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from shared.errors import RuntimeStoreError, SecretUnavailable, SourceFailed

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

AZURE_DEVOPS = "499b84ac-1321-427f-aa17-267ca6975798/.default"
"""The scope of tokens for Azure DevOps:
https://learn.microsoft.com/azure/devops/integrate/get-started/authentication/service-principal-managed-identity."""
DATABASE = "https://ossrdbms-aad.database.windows.net/.default"
"""The scope of tokens that Azure Database for PostgreSQL takes as a password:
https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-configure-sign-in-azure-ad-authentication."""

_SIGN_IN: Mapping[str, tuple[str, str]] = {
    AZURE_DEVOPS: ("Azure DevOps", "run `az login`, or set AZURE_DEVOPS_PAT."),
    DATABASE: ("the database", "run `az login`."),
}
_RENEW_SECONDS = 300
"""A token that ends sooner is asked for again; `azure.identity` does not hand older ones of its cache out either."""
_NETWORK: Mapping[str, Any] = {
    "connection_timeout": 5,
    "read_timeout": 5,
    # Only a connection that was never made is tried again: the SDK sleeps for as long as `Retry-After` says, without an
    # upper bound, when it may repeat an answered call.
    "retry_total": 1,
    "retry_connect": 1,
    "retry_read": 0,
    "retry_status": 0,
}
"""Time-outs in seconds and repetitions of one call for a token."""


@cache
def managed_identity(client_id: str | None, *, is_hosted: bool) -> "TokenCredential":
    """Who this process is to Azure: one object, since each keeps tokens of its own.

    In Azure (`is_hosted`) the managed identity itself, which fails faster and more clearly than the chain that finds a
    developer's sign-in elsewhere. `client_id` names a user-assigned identity.
    """
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    # It warns with the whole of an answer that it cannot read, which may be a token. What fails is told by who asked.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    if is_hosted:
        return ManagedIdentityCredential(client_id=client_id, **_NETWORK)
    return DefaultAzureCredential(managed_identity_client_id=client_id)


def tokens(
    credential: "Callable[[], TokenCredential]", scope: str, failure: Callable[..., RuntimeStoreError]
) -> Callable[[], str]:
    """A function that returns a token for `scope` that is good for some minutes at least, if one can be had.

    It asks the credential only when the last token ends soon: a developer's sign-in starts `az` for each (1 s). While
    none can be had, the last one is used to its end; then the function raises `failure(message, hint=...)`.
    """
    last: AccessToken | None = None

    def token() -> str:
        nonlocal last
        current = last
        if current is None or current.expires_on - time.time() < _RENEW_SECONDS:
            current = last = _asked(credential, scope, failure, current)
        return current.token

    return token


def _asked(
    credential: "Callable[[], TokenCredential]",
    scope: str,
    failure: Callable[..., RuntimeStoreError],
    last: "AccessToken | None",
) -> "AccessToken":
    from azure.core.exceptions import AzureError

    try:
        return credential().get_token(scope)
    except (AzureError, ValueError, AttributeError, TypeError) as error:
        # The SDK stumbles over an answer that is no JSON, or JSON of another shape.
        if last is not None and last.expires_on > time.time():
            return last
        where, elsewhere = _SIGN_IN[scope]
        raise failure(
            f"This app could not sign in to {where}: its identity got no token ({type(error).__name__}).",
            hint="Assign it a managed identity, and name it in AZURE_CLIENT_ID if it is a user-assigned one; on a "
            f"developer's machine {elsewhere}",
        ) from None


class Authorization:
    """The Authorization header of requests to Azure DevOps: of a personal access token where there is one, else of
    this app's identity."""

    def __init__(
        self, pat: Callable[[], str | None], newer_pat: Callable[[], str | None], token: Callable[[], str]
    ) -> None:
        """`newer_pat` is asked after a refusal, and looks again where `pat` may answer from a cache."""
        self._pat = pat
        self._newer_pat = newer_pat
        self._token = token

    def current(self) -> str:
        """For one request. Raises `SourceFailed` when the secret cannot be read, and what `token` raises."""
        return self._value(self._pat)

    def renewed(self) -> str:
        """After a refusal: the same value again when there is no newer one. Raises as `current`."""
        return self._value(self._newer_pat)

    def _value(self, read: Callable[[], str | None]) -> str:
        try:
            # A secret that was set from a file ends with that file's line.
            pat = (read() or "").strip()
        except SecretUnavailable as error:
            raise SourceFailed(error.message, hint=error.hint) from error
        return basic(pat) if pat else f"Bearer {self._token()}"


def basic(pat: str) -> str:
    """A personal access token is the password of a Basic credential without a user name."""
    return "Basic " + base64.b64encode(f":{pat}".encode()).decode("ascii")
