"""What goes on beside the pushes."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread


class Background:
    """`_run` goes on in a thread of its own until `_ending` is set."""

    def __init__(self) -> None:
        self._ending = Event()

    def _run(self) -> None:
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()
