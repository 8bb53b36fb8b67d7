"""A subscription, and how one event is sent to its receiver."""

import base64
import json
import socket
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Lock
from urllib.parse import urlsplit
from uuid import uuid4

from emulators.azure_devops.answers import Json

TIMED_OUT = "timeout"
_MASK = "********"
_SECRETS = ("basicAuthPassword",)


@dataclass(eq=False)
class Subscription:
    """`data` is what the API takes and gives, with its secrets."""

    id: str
    data: Json = field(repr=False)
    notifications: int = 0
    probes: int = 0

    @property
    def status(self) -> str:
        return str(self.data["status"])

    @property
    def inputs(self) -> dict[str, str]:
        """Of the consumer: where to send what."""
        return dict(self.data["consumerInputs"])

    def shape(self) -> Json:
        """What may be read: secrets are masked."""
        shown = {name: _MASK if name in _SECRETS and value else value for name, value in self.inputs.items()}
        probation = {"probationRetries": self.probes} if self.status == "onProbation" else {}
        return {**self.data, **probation, "consumerInputs": shown}


class Sender:
    """Keeps the connections under way, so that `stop` can end them. `timeout` is in seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = Lock()
        self._is_stopped = False
        self._connections: set[HTTPConnection] = set()

    def send(self, subscription: Subscription, event: Json) -> tuple[int | None, str]:
        """The receiver's status; without an answer None, and why."""
        address = urlsplit(subscription.inputs["url"])
        kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=self._timeout)
        target = f"{address.path or '/'}?{address.query}" if address.query else address.path or "/"
        try:
            connection.connect()
            with self._lock:
                self._connections.add(connection)
                if self._is_stopped:
                    return None, "stopped"
            connection.request("POST", target, json.dumps(event).encode(), _headers(subscription))
            with connection.getresponse() as response:
                response.read()
                return response.status, ""
        except TimeoutError:
            return None, TIMED_OUT
        except (OSError, HTTPException) as error:
            return None, f"{type(error).__name__}: {error}"
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            for connection in self._connections:
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


def _headers(subscription: Subscription) -> dict[str, str]:
    inputs = subscription.inputs
    own = dict(line.split(":", 1) for line in inputs.get("httpHeaders", "").splitlines() if ":" in line)
    user, password = inputs.get("basicAuthUsername", ""), inputs.get("basicAuthPassword", "")
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "VSServices/19.0 (service-hooks)",
        "X-Vss-ActivityId": str(uuid4()),
        "X-Vss-SubscriptionId": subscription.id,
        "Request-Id": str(uuid4()),
        **({"Authorization": f"Basic {basic}"} if user or password else {}),
        **{name.strip(): value.strip() for name, value in own.items()},
    }
