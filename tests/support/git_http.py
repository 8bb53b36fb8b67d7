"""A Git host on the loopback interface: `git http-backend` behind Python's HTTP server, and what hosts do besides."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

from support.git import environment


class GitHost:
    """Serves the repositories of one folder at `url`/<name>. The attributes change how it answers from now on."""

    def __init__(self, folder: Path, server: ThreadingHTTPServer) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.protocol: int = 2
        """The newest version of Git's protocol it speaks."""
        self.status: int | None = None
        """Answered to everything, with a page of HTML."""
        self.cut: int | None = None
        """So many bytes of each answer arrive; then the connection ends."""
        self.hangs = False
        """Requests are taken, and never answered."""
        self.requests: list[str] = []
        self.released = Event()


@contextmanager
def serving(folder: Path) -> Iterator[GitHost]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.host = GitHost(folder, server)  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.host  # type: ignore[attr-defined]
        finally:
            server.host.released.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:
        """The test runner's output is no place for it."""

    def _answer(self) -> None:
        host: GitHost = self.server.host  # type: ignore[attr-defined]
        host.requests.append(f"{self.command} {self.path}")
        body = self._body()
        if host.hangs:
            host.released.wait()
            return
        if host.status:
            self.send_response(host.status)
            if host.status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html><title>Sign in</title></html>")
            return
        head, _, content = self._backend(host, body).partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: host.cut])

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _backend(self, host: GitHost, body: bytes) -> bytes:
        path, _, query = self.path.partition("?")
        gateway = {
            "GIT_PROJECT_ROOT": os.fspath(host.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if host.protocol == 2 else "",
            "REMOTE_ADDR": "127.0.0.1",
        }
        # It ends badly, after a complete answer, when it refuses an object: web servers pass the answer on.
        everything = {**environment(), **gateway}
        return subprocess.run(
            ["git", "http-backend"],
            input=body,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=everything,
            check=False,
        ).stdout
