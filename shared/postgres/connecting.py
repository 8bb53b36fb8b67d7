"""How a connection is made safely, and why none was made.

The invariant: a token is sent only to a server whose certificate proved its name, or to this machine. libpq has three
traps here (https://www.postgresql.org/docs/current/libpq-ssl.html): the default `sslmode` takes whatever it gets,
`require` verifies nothing unless there is a root certificate, and psycopg's own OpenSSL knows no certificates at all.
"""

import re
from collections.abc import Mapping

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shared.errors import DatabaseUnavailable, RuntimeStoreError, SettingsInvalid

_LOCAL = re.compile(r"/.*|localhost|127\.0\.0\.1|::1")
_BUNDLE_HINT = (
    "Name the file of its authority in DATABASE_URL as `sslrootcert`. Without one, the public authorities that come "
    "with this app (the package certifi) are trusted."
)
_REASONS = (
    (
        r"FATAL: .*(authentication failed|access token|log in|role .* does not exist|database .* does not exist"
        r"|no pg_hba\.conf entry|permission denied for database)|no password supplied",
        "The database refuses the login.",
        "Check the role and the database that DATABASE_URL names, and its password or, with DATABASE_LOGIN=entra, that "
        "the role was made for this app's identity.",
    ),
    (
        r"does not match host name",
        "The certificate of the database's server is for another host name.",
        "DATABASE_URL must name the server as its certificate does, such as `NAME.postgres.database.azure.com`.",
    ),
    (
        r"certificate verify failed|root certificate file",
        "The certificate of the database's server could not be verified.",
        _BUNDLE_HINT,
    ),
    (
        r"does not support SSL",
        "The database's server speaks no TLS.",
        "Check the address in DATABASE_URL, or turn TLS on in the server.",
    ),
    (r"\bSSL\b|certificate", "TLS to the database failed.", "The log of this app says why; see also the server's."),
)
"""What libpq says, which has no SQLSTATE for a connection that was not made. What it says in another language, or in
other words, counts as no answer."""

_CAUSES = {
    "53100": ("The disk of the database is full", "Give its server more storage; what was asked for is tried again."),
    "55P03": ("The database is busy", "Look for who holds the lock so long: `pg_stat_activity`, `pg_locks`."),
    "57014": (
        "The database took too long",
        "Look at its load; `statement_timeout` of the app's role is how long a statement may take.",
    ),
}
"""By SQLSTATE: what a person can do about it."""
_NO_ANSWER = ("08", "57P")
"""SQLSTATEs of connections that ended: a server that goes or comes says nothing about the statement."""


def secured(conninfo: str, *, is_token_login: bool = False) -> str:
    """`conninfo` with what it leaves open about TLS.

    With `is_token_login` TLS is verified in full unless it leads to this machine and says otherwise. Raises
    `SettingsInvalid`, which quotes nothing that may be a secret.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise SettingsInvalid(["DATABASE_URL cannot be read as a PostgreSQL URL or connection string"]) from None
    if is_token_login:
        given |= _for_token(given)
    if (_used(given, "sslmode") or "").startswith("verify-") and not _used(given, "sslrootcert"):
        import certifi

        given["sslrootcert"] = certifi.where()
    return make_conninfo("", **given)


def _for_token(given: Mapping[str, object]) -> dict[str, str]:
    sslmode = str(given.get("sslmode") or "verify-full")
    problems = []
    if not given.get("user"):
        problems.append(
            "DATABASE_URL names no user: with DATABASE_LOGIN=entra it must name the role that was made for this app's "
            "identity"
        )
    if sslmode != "verify-full" and not _is_this_machine(given):
        problems.append(
            f"DATABASE_URL says sslmode={sslmode}: with DATABASE_LOGIN=entra it must say verify-full, or "
            "nothing, which means the same, since whoever is sent the token can use it"
        )
    if problems:
        raise SettingsInvalid(problems)
    # Encryption by GSSAPI would come first, and looks at no certificate.
    return {"sslmode": sslmode, "gssencmode": "disable"}


def _is_this_machine(given: Mapping[str, object]) -> bool:
    """Whether every address is known, and is a socket's folder or the loopback's."""
    addresses = _used(given, "hostaddr") or _used(given, "host") or ""
    return not _used(given, "service") and all(map(_LOCAL.fullmatch, addresses.split(",")))


def _used(given: Mapping[str, object], name: str) -> str | None:
    """What libpq will use: it looks into the environment for what is not said."""
    if given.get(name):
        return str(given[name])
    values = {option.keyword: option.val for option in pq.Conninfo.get_defaults()}
    value = values.get(name.encode())
    return value.decode() if value else None


def not_connected(error: BaseException) -> DatabaseUnavailable:
    """What it means that `error` was raised while a connection was made."""
    if isinstance(error, RuntimeStoreError):
        return DatabaseUnavailable(error.message, hint=error.hint)
    for pattern, message, hint in _REASONS:
        if isinstance(error, psycopg.OperationalError) and re.search(pattern, str(error)):
            return DatabaseUnavailable(message, hint=hint)
    return unavailable()


def failed(error: psycopg.Error) -> DatabaseUnavailable:
    """What it means that a statement was sent, and `error` came of it. What the server itself said is told: it did
    answer, and undid the statement."""
    told = error.diag.message_primary
    if told is None or error.sqlstate is None or error.sqlstate.startswith(_NO_ANSWER):
        return unavailable()
    default = "The database failed", error.diag.message_hint or "The log of its server says more."
    cause, hint = _CAUSES.get(error.sqlstate, default)
    return DatabaseUnavailable(f"{cause}: {told}", hint=hint)


def unavailable() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        "The database did not answer.", hint="Check DATABASE_URL and that the server is up, then see its log."
    )
