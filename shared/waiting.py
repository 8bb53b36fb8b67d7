"""Waiting for work that may not end, for no longer than there is time."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

_T = TypeVar("_T")


def waited_for(work: Callable[[], _T], seconds: float) -> _T:
    """What `work` returns or raises; `TimeoutError` when it does not end in time, and then goes on by itself.

    For calls over HTTP: looking up a name takes no time-out, and a socket's begins again with every byte. So they are
    waited for from outside.
    """
    outcome = Future[_T]()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # it goes on in the thread that waits
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return outcome.result(seconds)
