"""The HTTP side: connections, bodies, and faults that concern them."""

import socket
import struct
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock
from typing import TYPE_CHECKING, cast

from emulators.azure_devops.answers import JSON, Answer
from emulators.azure_devops.exchange import Exchange
from emulators.azure_devops.faults import Fault, Misbehaviour
from emulators.azure_devops.request import Request, parse_query

if TYPE_CHECKING:
    from emulators.azure_devops.emulator import Emulator

_DRIPS = 20
_NO_CONTENT = 204


class Server(ThreadingHTTPServer):
    """Ends its kept-alive connections when it closes, so that no thread outlives it."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, emulator: "Emulator") -> None:
        super().__init__(("127.0.0.1", emulator.port), Handler)
        self.emulator = emulator
        self.closing = Event()
        self._lock = Lock()
        self._open: set[socket.socket] = set()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that went away are no news; anything else is an error of the emulator itself."""
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server_version = "Microsoft-HTTPAPI/2.0"
    sys_version = ""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """What was asked is in `Emulator.calls`."""

    def _serve(self) -> None:
        server = cast(Server, self.server)
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, headers, parse_query(query), self._body())
        exchange = Exchange(server.emulator, request, query)
        server.closing.wait(server.emulator.latency)
        fault = exchange.fault
        if fault is not None and fault.fault is Fault.HANG:
            exchange.note(0)
            fault.ended.wait()
            self.close_connection = True
        elif fault is not None and fault.fault is Fault.RESET:
            exchange.note(0)
            self._reset()
        else:
            self._answer(exchange, fault)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, exchange: Exchange, fault: Misbehaviour | None) -> None:
        kind = None if fault is None else fault.fault
        answer = exchange.answer()
        seconds = fault.detail("seconds", 1.0) if fault is not None and kind is Fault.SLOW else 0.0
        drips = bool(seconds and fault is not None and fault.detail("drip", False))
        if seconds and not drips:
            cast(Server, self.server).closing.wait(seconds)
        is_cut = kind is Fault.CUT
        if fault is not None and is_cut and fault.detail("framed", False):
            answer, is_cut = replace(answer, body=answer.body[: len(answer.body) // 2]), False
        exchange.note(answer.status)
        self._send(answer, is_cut=is_cut, drip=seconds if drips else 0.0)

    def _send(self, answer: Answer, *, is_cut: bool, drip: float) -> None:
        body, encoding = answer.encoded(self.headers.get("Accept-Encoding", ""))
        is_chunked = answer.content_type == JSON and answer.status != _NO_CONTENT
        framing = {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str(len(body))}
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        for name, value in {**answer.headers, **encoding, **framing}.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache, no-store, must-revalidate")
        self.send_header("X-TFS-ProcessId", "00000000-0000-0000-0000-000000000000")
        self.end_headers()
        parts = [body[: len(body) // 2]] if is_cut else _pieces(body, _DRIPS if drip else 1)
        for part in parts:
            if part:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if is_chunked else part)
            if drip:
                self.wfile.flush()
                cast(Server, self.server).closing.wait(drip / len(parts))
        if is_cut:
            self.close_connection = True
        elif is_chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


def _pieces(body: bytes, count: int) -> list[bytes]:
    size = max(1, -(-len(body) // count))
    return [body[start : start + size] for start in range(0, len(body), size)] or [b""]
