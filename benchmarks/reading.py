"""Reading over HTTP, called in process with a prepared WSGI environment, against the bare SELECT on the same pool.

The app is the composed one: with access by key, and its log at INFO, to no handler.
"""

import io
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks import workflows
from benchmarks.comparison import Comparison, Table, at_most_times, in_turn, times_less
from benchmarks.stage import MAIN, READER_KEY, Stage, Team
from shared.model import Replaced, Repository

_LIST = 1_000
_NUMBER = 17
_ONE = """
    SELECT config::text FROM runtime_configs
    WHERE repo_id = %(repo_id)s AND branch = %(branch)s AND filepath = %(path)s"""
_ALL = "SELECT config::text FROM runtime_configs WHERE repo_id = %(repo_id)s AND branch = %(branch)s"
_DICTS = """
    SELECT filepath, config, blob_id, generation, updated_at FROM runtime_configs
    WHERE repo_id = %(repo_id)s AND branch = %(branch)s ORDER BY filepath"""

Environ = dict[str, Any]


def run(stage: Stage) -> Iterator[Table]:
    git = stage.repository(_LIST)
    with stage.team() as team:
        repository = _served(team, git.path)
        yield _item(team, repository, rounds=200 if stage.quick else 2_000)
        with psycopg.connect(team.conninfo, autocommit=True) as connection:
            yield _list(team, repository, connection, rounds=5 if stage.quick else 15)
    with stage.team(LIST_CACHE_MB="0") as team, psycopg.connect(team.conninfo, autocommit=True) as connection:
        yield _built(team, _served(team, git.path), connection, rounds=5 if stage.quick else 15)


def _item(team: Team, repository: Repository, rounds: int) -> Table:
    url = f"/runtimes/{repository.name}/{MAIN}/{workflows.path(_NUMBER)}"
    parameters = {"repo_id": repository.repo_id, "branch": MAIN, "path": workflows.path(_NUMBER)}
    bare = partial(team.app.pool.rows, _ONE, parameters)
    read = partial(_call, team, _get(url), "200 OK")
    _, etag = read()
    unmodified = partial(_call, team, _get(url, HTTP_IF_NONE_MATCH=etag), "304 NOT MODIFIED")
    # One by one: back to back, the bare SELECT would find its server process still awake, which no request does.
    ours, held, plain = in_turn(rounds, (1, read), (1, unmodified), (1, bare))
    rows = [
        Comparison("item, bare SELECT of it", ours, plain, at_most_times(2)),
        Comparison("item not modified (304), bare SELECT of it", held, plain),
    ]
    return Table("reading one config", rows)


def _list(team: Team, repository: Repository, connection: psycopg.Connection[Any], rounds: int) -> Table:
    url = f"/runtimes/{repository.name}/{MAIN}"
    read = partial(_call, team, _get(url), "200 OK")
    body, etag = read()
    assert len(json.loads(body)) == _LIST
    unmodified = partial(_call, team, _get(url, HTTP_IF_NONE_MATCH=etag), "304 NOT MODIFIED")
    bare, dicts = _plain_lists(team, repository, connection)
    ours, held, plain, dumped = in_turn(rounds, (50, read), (50, unmodified), (3, bare), (1, dicts))
    rows = [
        Comparison("from the checked cache, dicts and json.dumps", ours, dumped, times_less(100)),
        Comparison("from the checked cache, bare SELECT of the rows", ours, plain),
        Comparison("not modified (304), dicts and json.dumps", held, dumped),
    ]
    return Table(f"reading a list of {_LIST:,}", rows)


def _built(team: Team, repository: Repository, connection: psycopg.Connection[Any], rounds: int) -> Table:
    read = partial(_call, team, _get(f"/runtimes/{repository.name}/{MAIN}"), "200 OK")
    bare, dicts = _plain_lists(team, repository, connection)
    ours, plain, dumped = in_turn(rounds, (3, read), (3, bare), (1, dicts))
    rows = [
        Comparison("built, dicts and json.dumps", ours, dumped),
        Comparison("built, bare SELECT of the rows", ours, plain),
    ]
    return Table(f"reading a list of {_LIST:,}, the first time", rows)


def _plain_lists(
    team: Team, repository: Repository, connection: psycopg.Connection[Any]
) -> tuple[Callable[[], object], Callable[[], object]]:
    parameters = {"repo_id": repository.repo_id, "branch": MAIN}

    def dicts() -> bytes:
        with connection.cursor(row_factory=dict_row) as cursor:
            return json.dumps(cursor.execute(_DICTS, parameters).fetchall(), default=str).encode()

    return partial(team.app.pool.rows, _ALL, parameters), dicts


def _served(team: Team, source: Any) -> Repository:
    repository = team.register(source)
    assert isinstance(team.sync(repository), Replaced)
    with psycopg.connect(team.conninfo, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return repository


def _get(path: str, **headers: str) -> Environ:
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": f"Bearer {READER_KEY}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **headers,
    }


def _call(team: Team, environ: Environ, expected: str) -> tuple[bytes, str]:
    """The body and its ETag; the environment is the request's own, as a server makes it."""
    told: list[tuple[str, Any]] = []

    def start_response(status: str, headers: Any, exc_info: Any = None, /) -> Any:
        told.append((status, headers))

    body = b"".join(team.app.wsgi(environ.copy(), start_response))
    status, headers = told[0]
    assert status.upper() == expected, (status, body)
    return body, next((value for name, value in headers if name == "ETag"), "")
