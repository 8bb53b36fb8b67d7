"""The token endpoint that Azure Functions gives an app with a managed identity.

Written from https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Identity:
    """A running endpoint: hands `token` out to whoever knows `header`, for the identity `client_id`.

    `answer` replaces what it says, with status 200.
    """

    def __init__(self, url: str, token: str, client_id: str) -> None:
        self.url = url
        self.header = "the-header-of-this-app"
        self.token = token
        self.client_id = client_id
        self.lifetime = 3600
        """Seconds until a token that is handed out now ends."""
        self.answer: bytes | None = None
        self.resources: list[str | None] = []
        """What tokens were asked for, in order."""

    @property
    def asked(self) -> int:
        return len(self.resources)


@contextmanager
def running(token: str, client_id: str) -> Iterator[Identity]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            known = self.headers.get("X-IDENTITY-HEADER") == identity.header
            is_ours = known and query.get("client_id") == identity.client_id
            status = 200 if is_ours or identity.answer is not None else 400
            expires = str(int(time.time()) + identity.lifetime)
            granted = {"access_token": identity.token, "expires_on": expires, "resource": query.get("resource")}
            body = json.dumps({**granted, "token_type": "Bearer"} if status == 200 else {"error": "invalid"}).encode()
            body = body if identity.answer is None else identity.answer
            identity.resources.append(query.get("resource"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    identity = Identity(f"http://127.0.0.1:{server.server_address[1]}/msi/token", token, client_id)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield identity
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
