"""Made-up secrets, and a net that finds them in all that leaves the app."""

import base64
import logging
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import psycopg
from psycopg import sql
from werkzeug.test import Client, TestResponse

_NAMES = (
    "hook",
    "hook-before",
    "admin",
    "admin-before",
    "reader",
    "reader-before",
    "pat",
    "token",
    "identity-header",
    "database",
    "database-apart",
    "database-tail",
    "source",
    "source-tail",
    "template",
    "schema",
    "proxy",
    "payload",
    "wrong",
    "vault-token",
)


def core(name: str) -> str:
    """The part of a secret that no quoting changes, and that is looked for: a piece of a secret is one too."""
    return sha256(name.encode()).hexdigest()[:24]


SECRETS: Mapping[str, str] = {name: f"{name}-{core(name)}+=&~!" for name in _NAMES}
"""By name. With letters that URLs quote, and long enough for a key."""


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _coded(text: str) -> Iterator[str]:
    """What base64 makes of the text wherever it stands in something longer: it begins at one of three places."""
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + text.encode()).decode()
        yield coded[-(-before * 8 // 6) : (before + len(text)) * 8 // 6]


_FORMS = [(name, form) for name in _NAMES for form in (core(name), core(name)[::-1], *_coded(core(name)))]


class Net:
    """Everything that got out, with where it was seen."""

    def __init__(self) -> None:
        self._caught: dict[str, set[str]] = defaultdict(set)

    def note(self, where: str, *what: object) -> None:
        self._caught[where].update(map(str, what))

    def error(self, where: str, error: BaseException) -> None:
        """The text, the chain of causes as a traceback shows it, and what it carries."""
        self.note(where, repr(error), vars(error), "".join(traceback.format_exception(error)))

    def failing(self, where: str, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:
            self.error(where, error)

    def call(self, app: Any, method: str, path: str, **options: Any) -> TestResponse:
        answer = Client(app).open(path, method=method, **options)
        self.note(f"{method} {path.partition('?')[0]}", answer.status, answer.headers, answer.text)
        return answer

    def rows(self, conninfo: str) -> None:
        """Every row of every table."""
        with psycopg.connect(conninfo) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (table,) in tables:
                rows = connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(table)))
                self.note(f"table {table}", *(row[0] for row in rows))

    def leaks(self) -> set[tuple[str, str]]:
        """Which secret got out, and where."""
        texts = {where: "\n".join(caught) for where, caught in self._caught.items()}
        found = {(name, where) for where, text in texts.items() for name, form in _FORMS if form in text}
        lower = {where: text.lower() for where, text in texts.items()}
        return found | {(name, where) for where, text in lower.items() for name in _NAMES if core(name) in text}

    def holds(self, *places: str) -> None:
        """Nothing got out; and something was caught at all, in each of the `places`."""
        missing = [place for place in places if not any(where.startswith(place) for where in self._caught)]
        assert not missing, f"nothing was caught in {missing}, only in {sorted(self._caught)}"
        leaks = self.leaks()
        assert not leaks, f"got out: {leaks}"


class _Records(logging.Handler):
    """What a handler could make of each record: its text, its data, its traceback."""

    def __init__(self, net: Net) -> None:
        super().__init__(1)
        self._net = net

    def emit(self, record: logging.LogRecord) -> None:
        where = f"log {record.name}"
        self._net.note(where, record.getMessage(), record.msg, record.args, vars(record), self.format(record))
        if record.exc_info and record.exc_info[1]:
            self._net.error(where, record.exc_info[1])


@contextmanager
def listening(net: Net) -> Iterator[None]:
    """All that any library logs, at the finest level."""
    root, handler = logging.getLogger(), _Records(net)
    before = root.level
    root.setLevel(1)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
