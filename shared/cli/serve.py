"""The HTTP app on a machine of one's own, with the timer beside it: what the Functions host does in Azure."""

import _thread
import errno
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from shared.cli import logs
from shared.cli.opening import opened
from shared.cli.output import note, with_debug
from shared.errors import InvalidRequest, RuntimeStoreError

if TYPE_CHECKING:
    from shared.bootstrap import App

_log = logging.getLogger(__name__)

PORT = 7071
"""The one that Azure Functions Core Tools serve on."""
SWEEP_SECONDS = 60
_STOP_SECONDS = 5
_AGAIN_SECONDS = 5.0


@click.command(epilog="\b\nExample (Ctrl-C stops it):\n  runtime-store serve --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is every one.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one.")
@click.option("--threads", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at a time.")
@click.option("--no-timer", is_flag=True, help="Leave what the timer does to another process.")
@with_debug
def serve(host: str, port: int, threads: int, no_timer: bool) -> None:
    """Serve the HTTP API, with the timer beside it."""
    logs.show(logging.INFO)
    with ending_on_signals(), opened() as app, listen(host, port) as listener:
        note(f"Runtime Store is at {address(listener)} (Ctrl-C stops it).")
        run(app, listener, threads=threads, timer=not no_timer)
    note("Stopped.")


def listen(host: str, port: int) -> socket.socket:
    """A socket that nobody else has. Raises `InvalidRequest` when the address cannot be had."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform == "win32":
                # There SO_REUSEADDR, which the WSGI server sets, lets two processes have one port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "is in use" if in_use else f"cannot be listened on: {error.strerror or error}"
        raise InvalidRequest(
            f"Port {port} of {host} {reason}.",
            field="port",
            hint="Stop the program that has it, or choose another --port."
            if in_use
            else "Choose another --host or --port.",
        ) from error
    return listener


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app: "App", listener: socket.socket, *, threads: int = 8, timer: bool = True) -> None:
    """Serve until a signal comes; answers that are being made are still given, as far as they take seconds only."""
    from waitress.server import create_server

    # The server reads a body before the app can ask who sent it. What is a little too large, the app answers itself.
    largest = 2 * app.settings.webhook_max_bytes
    server: Any = create_server(
        app.wsgi, sockets=[listener], threads=threads, ident=None, max_request_body_size=largest
    )
    with sweeping(app.sweep) if timer else nullcontext():
        server.run()
        server.accepting = False
        give_up_at = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < give_up_at and any(one.total_outbufs_len for one in server.active_channels.values()):
            server.asyncore.loop(timeout=0.05, map=server._map, count=1)
        server.asyncore.close_all(server._map)


@contextmanager
def sweeping(sweep: Callable[[], object], every: float = SWEEP_SECONDS) -> Iterator[None]:
    """Sweep now, and then `every` so many seconds, in the background."""
    stopping = threading.Event()

    def work() -> None:
        while True:
            try:
                sweep()
            except RuntimeStoreError as error:
                _log.warning("The sweep failed", extra={"error": error.message, "hint": error.hint})
            except Exception:  # as the Functions host has it: this one failed, the next one comes
                _log.exception("The sweep failed")
            if stopping.wait(every):
                return

    thread = threading.Thread(target=work, name="timer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        # One that takes longer ends when its connections are closed; what it was at stays requested.
        thread.join(1)


class _Ended(SystemExit):
    """Not a KeyboardInterrupt: of one that passed an `exec`, as in imports, Python dies in the end, handled or not."""


@contextmanager
def ending_on_signals(again: float = _AGAIN_SECONDS) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM (Ctrl-Break on Windows) end what runs; both are a normal end.

    Only the first counts: what it ends has processes of its own to stop. It is repeated every `again` seconds until it
    arrives here, since code in C that clears errors, as in imports, may swallow an exception that comes at that moment.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        signals.append(signal.SIGBREAK)
    before = {}
    asked, repeated, over = threading.Event(), threading.Event(), threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set() and not repeated.is_set():
            return
        repeated.clear()
        asked.set()
        raise _Ended

    def repeat() -> None:
        asked.wait()
        while not over.wait(again):
            repeated.set()
            _interrupt_main()

    threading.Thread(target=repeat, name="signals", daemon=True).start()
    has_ended = False
    try:
        before.update({number: signal.signal(number, end) for number in signals})
        yield
    except _Ended:
        has_ended = True
    finally:
        over.set()
        asked.set()
        # A second Ctrl-C, while the process says goodbye, would make its end a failure.
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if has_ended else handler)


def _interrupt_main() -> None:
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        # To this very thread, which may wait in a system call.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
