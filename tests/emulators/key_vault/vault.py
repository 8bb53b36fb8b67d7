"""A Key Vault on this machine: the part of its protocol that reading secrets needs, over TLS, as the SDK demands.

Written from https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret and
https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses.
"""

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

from azure.core.credentials import AccessToken
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CHALLENGE = (
    'Bearer authorization="https://login.microsoftonline.com/5a4b3c2d-0000-4000-8000-000000000000", '
    'resource="https://vault.azure.net"'
)


@dataclass(frozen=True)
class Answer:
    """What the vault says instead of looking for the secret."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json; charset=utf-8"})


def error(status: int, code: str, inner: str | None = None, **headers: str) -> Answer:
    """An error in Key Vault's form; keyword names are headers with `_` for `-`."""
    detail: dict[str, Any] = {"code": code, "message": f"{code} {inner or ''}: and a sentence about it."}
    if inner:
        detail["innererror"] = {"code": inner}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps({"error": detail}).encode(), {"Content-Type": "application/json", **given})


FORBIDDEN = error(403, "Forbidden", "ForbiddenByRbac")
FIREWALLED = error(403, "Forbidden", "ForbiddenByFirewall")
THROTTLED = error(429, "Throttled", None, Retry_After="30")
OUT_OF_ORDER = error(503, "ServiceUnavailable")


class Vault:
    """A running vault. `answer` replaces every authorized answer, `is_down` cuts every connection."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self.url = url
        self.ca_file = ca_file
        self.token = f"token-{uuid4().hex}"
        self.answer: Answer | None = None
        self.is_down = False
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.waiting = threading.Semaphore(0)
        """Released for each request that stands before the closed gate."""
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        """Path and headers (names in lower case) of each request that arrived."""
        self._secrets: dict[str, list[tuple[str, str, bool]]] = {}

    @property
    def reads(self) -> list[str]:
        """The names of the secrets that were asked for with a token, in order."""
        return [path.split("/")[2] for path, headers in self.requests if "authorization" in headers]

    def set(self, name: str, value: str, *, is_enabled: bool = True) -> str:
        """A new version, which is the current one from now on."""
        version = uuid4().hex
        self._secrets.setdefault(name, []).append((version, value, is_enabled))
        return version

    def delete(self, name: str) -> None:
        del self._secrets[name]

    def respond(self, path: str, authorization: str | None) -> Answer:
        if authorization != f"Bearer {self.token}":
            return error(401, "Unauthorized", None, WWW_Authenticate=CHALLENGE)
        if self.answer:
            return self.answer
        _, _, name, *rest = path.split("/")
        wanted = "/".join(rest)
        for version, value, is_enabled in reversed(self._secrets.get(name, [])):
            if wanted in ("", version):
                return self._bundle(name, version, value) if is_enabled else error(403, "Forbidden", "SecretDisabled")
        return error(404, "SecretNotFound")

    def _bundle(self, name: str, version: str, value: str) -> Answer:
        now = int(time.time())
        attributes = {"enabled": True, "created": now, "updated": now, "recoveryLevel": "Recoverable+Purgeable"}
        bundle = {"value": value, "id": f"{self.url}/secrets/{name}/{version}", "attributes": attributes, "tags": {}}
        return Answer(200, json.dumps(bundle).encode())


@contextmanager
def running(folder: Path) -> Iterator[Vault]:
    """A vault on a free port of this machine, with a certificate of its own in `folder`."""
    certificate, key = _certificate(folder)
    server = _Server(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # The handshake belongs to the thread of the connection: the one that accepts must never wait for a caller.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.vault = Vault(f"https://127.0.0.1:{server.server_address[1]}", certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.vault
    finally:
        server.vault.open_gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


class StaticCredential:
    """A credential that always has the same token."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.asked = 0

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        self.asked += 1
        return AccessToken(self.token, int(time.time()) + 3600)


class _Server(ThreadingHTTPServer):
    vault: Vault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller who gave up, or does not trust the certificate, is the caller's matter."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        vault = cast(_Server, self.server).vault
        path = urlsplit(self.path).path
        vault.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
        if not vault.open_gate.is_set():
            vault.waiting.release()
            vault.open_gate.wait()
        if vault.is_down:
            self.close_connection = True
            return
        answer = vault.respond(path, self.headers.get("Authorization"))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_arguments: Any) -> None:
        pass


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "vault.key", folder / "vault.crt"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
