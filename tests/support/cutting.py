"""A wire to a database that is cut when a chosen statement is on it."""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.listening import listening

_READY = b"Z\x00\x00\x00\x05I"
"""The server has done what it was asked, and waits: https://www.postgresql.org/docs/current/protocol-message-formats.html"""


class Wire:
    """`conninfo` leads through it."""

    def __init__(self, conninfo: str, port: int) -> None:
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=port)
        self.was_cut = False
        self._marker: bytes | None = None
        self._is_after = False

    def cut(self, when: str, marker: str) -> None:
        """Once, `before` a statement that holds the marker reaches the server, or `after` it was done."""
        self._is_after = when == "after"
        self._marker = marker.encode()

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        sent, is_last = b"", False
        while True:
            for end in select.select([client, server], [], [])[0]:
                data = end.recv(1 << 16)
                if end is client:
                    sent = sent[-200:] + data
                    if self._marker and self._marker in sent:
                        self._marker = None
                        self.was_cut = is_last = True
                if not data or (is_last and not self._is_after) or (is_last and data.endswith(_READY)):
                    return
                if end is client:
                    server.sendall(data)
                elif not is_last:
                    client.sendall(data)


@contextmanager
def wired(conninfo: str) -> Iterator[Wire]:
    target = conninfo_to_dict(conninfo)
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire(conninfo, listener.getsockname()[1])

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection((str(target["host"]), int(str(target["port"])))) as server:
            wire.carry(client, server)

    with listening(listener, serve):
        yield wire
