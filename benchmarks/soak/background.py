"""What goes on beside the pushes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread


class Background(ABC):
    """`_run` goes on in a thread of its own until `_ending` is set."""

    def __init__(self) -> None:
        self._ending = Event()

    @abstractmethod
    def _run(self) -> None: ...

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()
