"""Readers at full speed, in a process of their own: `python -m benchmarks.soak.readers LEDGER THREADS SEED URL...`.

It runs until its standard input ends, tells each violation as a line of JSON, and what it read as the last one.
"""

import gzip
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import quote, urlsplit

from benchmarks.soak.checking import Answer, Checker, Edited, Held, Violation
from benchmarks.soak.ledger import Known, Place
from benchmarks.soak.words import ALWAYS, LASTING, READER_KEY

_NEXT = re.compile(r'<([^>]+)>; rel="next"')
_PAGE = 3
_DOWN_SECONDS = 0.1
_TOLD = 50
"""Violations that are told one by one; the others are counted."""


class Readers:
    """What the threads share."""

    def __init__(self, known: Known, urls: Sequence[str]) -> None:
        self.known = known
        self.checker = Checker(known, LASTING)
        self.urls = urls
        self.stopping = Event()
        self._lock = Lock()
        self.counts: Counter[str] = Counter()

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def tell(self, what: str, place: Place, why: str) -> None:
        self.count("violations")
        if self.counts["violations"] <= _TOLD:
            with self._lock:
                print(json.dumps({"violation": f"{what} of {place[0]} {place[1]}: {why}"}), flush=True)


class Reader:
    """One client with a connection to each server, which keeps what it read for its next question."""

    def __init__(self, readers: Readers, seed: str) -> None:
        self._all = readers
        self._random = random.Random(seed)
        self._connections: dict[str, HTTPConnection] = {}
        self._held: dict[str, Held] = {}
        self._paths: dict[Place, list[str]] = {}

    def run(self) -> None:
        kinds: list[Callable[[Place], str]] = [self._list, self._item, self._pages]
        while not self._all.stopping.is_set():
            if not self._all.known.places:
                self._all.known.catch_up()
                time.sleep(_DOWN_SECONDS)
                continue
            place = self._random.choice(self._all.known.places)
            kind = self._random.choices(kinds, (5, 4, 2))[0]
            what = kind.__name__.strip("_")
            try:
                self._all.count(kind(place))
            except Edited:
                self._all.count("edited by hand")
            except Violation as violation:
                self._all.tell(what, place, str(violation))
            except (OSError, HTTPException):
                # A server that was killed, or is frozen.
                self._all.count("no answer")
                time.sleep(_DOWN_SECONDS)
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                self._all.tell(what, place, f"an answer that cannot be read: {error!r}")

    # -- What is asked

    def _list(self, place: Place) -> str:
        target = _target(place)
        held = self._held.get(target) if self._random.random() < 0.5 else None
        before = self._all.checker.before(place)
        answer = self._ask(target, held)
        now = self._all.checker.list(place, before, answer, held)
        self._keep(target, now)
        if now and answer.status == 200:
            self._paths[place] = list(json.loads(now.meaning))
        return _counted("lists", answer)

    def _item(self, place: Place) -> str:
        path = self._random.choice([ALWAYS, *self._paths.get(place, ())])
        target = f"{_target(place)}/{quote(path)}"
        held = self._held.get(target) if self._random.random() < 0.5 else None
        before = self._all.checker.before(place, path)
        answer = self._ask(target, held)
        is_always = path == ALWAYS and place[1] in LASTING
        self._keep(target, self._all.checker.item(place, path, before, answer, held, is_always=is_always))
        return _counted("items", answer)

    def _pages(self, place: Place) -> str:
        target: str | None = f"{_target(place)}?limit={_PAGE}"
        before = self._all.checker.before(place)
        pages: list[Answer] = []
        while target:
            answer = self._ask(target)
            if answer.status == 410 and pages:
                return "pages, moved"
            if answer.status != 200:
                self._all.checker.list(place, before, answer)
                return _counted("pages", answer)
            pages.append(answer)
            onward = _NEXT.search(answer.headers.get("link", ""))
            target = onward[1] if onward else None
        self._all.checker.pages(place, before, pages)
        return "pages"

    def _keep(self, target: str, held: Held | None) -> None:
        if held is None:
            self._held.pop(target, None)
        else:
            self._held[target] = held

    def _ask(self, target: str, held: Held | None = None) -> Answer:
        url = self._random.choice(self._all.urls)
        connection = self._connections.get(url)
        if connection is None:
            address = urlsplit(url)
            connection = self._connections[url] = HTTPConnection(address.hostname or "", address.port, timeout=30)
        headers = {"Authorization": f"Bearer {READER_KEY}"}
        if held is not None:
            headers["If-None-Match"] = held.etag
        # A client stays with one form, or its ETags would not be comparable.
        if self._random.random() < 0.3 or (held and "-gzip" in held.etag):
            headers["Accept-Encoding"] = "gzip"
        try:
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                body = response.read()
                told = {name.lower(): value for name, value in response.getheaders()}
        except (OSError, HTTPException):
            connection.close()
            raise
        return Answer(response.status, told, gzip.decompress(body) if "content-encoding" in told else body)


def _target(place: Place) -> str:
    return f"/runtimes/{place[0]}/{quote(place[1])}"


def _counted(what: str, answer: Answer) -> str:
    return what if answer.status == 200 else f"{what}, {answer.status}"


def main(ledger: Path, threads: int, seed: str, urls: Sequence[str]) -> None:
    known = Known(ledger)
    readers = Readers(known, urls)
    running = [Thread(target=Reader(readers, f"{seed} {number}").run, daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    sys.stdin.read()
    readers.stopping.set()
    for thread in running:
        thread.join(60)
    print(json.dumps({"counts": readers.counts}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
