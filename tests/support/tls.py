"""TLS in front of a PostgreSQL that has none: certificates made on the spot, and a proxy that ends the encryption.

The protocol's part of it: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.listening import listening

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Authority:
    """A certificate authority of our own; `bundle` is what somebody who trusts it is given."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _signed(self._name, self._key, self._name, self._key, is_authority=True)
        self.bundle = folder / f"{name}.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, host: str) -> ssl.SSLContext:
        """What a server called `host` speaks TLS with."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(_named(host), key, self._name, self._key, host=host)
        file = self._folder / f"{host}.pem"
        form = serialization.PrivateFormat.PKCS8
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


class Proxy:
    """A running proxy. `conninfo` leads through it, and says nothing about TLS."""

    def __init__(self, conninfo: str, port: int) -> None:
        # The name is resolved by nobody: libpq compares it with the certificate and connects to the address.
        self.conninfo = make_conninfo(
            "", **{**conninfo_to_dict(conninfo), "host": "database.test", "hostaddr": "127.0.0.1", "port": port}
        )
        self._without_sslmode()
        self.encrypted = 0
        """How many connections were encrypted."""
        self.in_the_clear = bytearray()
        """What clients sent that everybody on the way could read."""

    def _without_sslmode(self) -> None:
        given = {name: value for name, value in conninfo_to_dict(self.conninfo).items() if name != "sslmode"}
        self.conninfo = make_conninfo("", **given)


@contextmanager
def proxied(conninfo: str, context: ssl.SSLContext | None) -> Iterator[Proxy]:
    """A proxy to `conninfo`'s server; without a `context` it says that it has no TLS, as a server does."""
    target = conninfo_to_dict(conninfo)
    backend = (str(target["host"]), int(str(target["port"])))
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(conninfo, listener.getsockname()[1])
    with listening(listener, lambda client: _serve(client, backend, context, proxy)):
        yield proxy


def _serve(client: socket.socket, backend: tuple[str, int], context: ssl.SSLContext | None, proxy: Proxy) -> None:
    with client, suppress(OSError):
        request = client.recv(8, socket.MSG_WAITALL)
        proxy.in_the_clear += request
        if request != SSL_REQUEST:
            return
        if context is None:
            client.sendall(b"N")
            while received := client.recv(4096):
                proxy.in_the_clear += received
            return
        client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as encrypted, socket.create_connection(backend) as server:
            proxy.encrypted += 1
            back = threading.Thread(target=_relay, args=(server, encrypted))
            back.start()
            _relay(encrypted, server)
            back.join()


def _relay(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while received := source.recv(65536):
            sink.sendall(received)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    host: str | None = None,
    is_authority: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    public, signer = key.public_key(), issuer_key.public_key()
    builder = (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )
    if is_authority:
        # Python 3.13 verifies as strictly as the standard has it.
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _alternative(host: str) -> Any:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
