"""The words of those who may speak are data, wherever they go: to the database, into headers, onto lines of a log."""

import logging
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from support.web import ADMIN_KEY, HOOK_KEY, READER_KEY, Api, bearer
from support.world import Team, World, workflow
from werkzeug.test import Client, TestResponse

from shared import bootstrap
from shared.bootstrap import App
from shared.cli.logs import Lines

WORDS = (
    "'; DROP TABLE repositories; --",
    "' OR '1'='1",
    "x') RETURNING (SELECT pg_sleep(60)) --",
    "%s %(name)s %(repo_id)s %% %b",
    "{} {0} {repo_id} $1 :name",
    'a"b\\',
    "\\'; SELECT 1",
    "E'\\\\x00'",
    "-- /* x */",
    "x\r\nSet-Cookie: evil=1\r\n\r\n<html>",
    "\x1b[2J\x07##vso[task.setvariable]x",
    "\u202etxt.exe",
    "../../../etc/passwd",
    "--upload-pack=touch evil",
    "ext::sh -c touch% evil",
    "{{7*7}} ${jndi:ldap://x} <script>",
)
UNSTORABLE = ("x\0y", "\ud800")


@pytest.fixture
def app(database: str, world: World) -> Iterator[App]:
    keys = {"ADMIN_KEY": ADMIN_KEY, "READER_KEYS": f"etl={READER_KEY}", "WEBHOOK_SECRET": HOOK_KEY}
    template = f"{world.folder.as_posix()}/{{project}}/{{repository}}"
    with closing(bootstrap.build({"DATABASE_URL": database, "GIT_URL_TEMPLATE": template, **keys})) as app:
        yield app


@pytest.fixture
def served(app: App, team: Team) -> Team:
    team.git.commit({"a-runtime.yaml": workflow(1), "deep/er/b-runtime.yaml": workflow(2)})
    team.sync()
    return team


def spoken(app: App, word: str) -> Iterator[TestResponse]:
    """The word in every place of every route."""
    client, text = Client(app.wsgi), quote(word, safe="", errors="surrogatepass")
    body = {"name": "another", "source": "/srv/x.git"}

    def call(method: str, path: str, **options: Any) -> TestResponse:
        return client.open(path, method=method, headers={**bearer(ADMIN_KEY), **options.pop("headers", {})}, **options)

    for path in (
        *(f"/repositories/{text}{rest}" for rest in ("", "/syncs", "/deliveries")),
        *(f"/runtimes/{place}" for place in (text, f"{text}/main", f"team/{text}", f"team/main/{text}")),
        *(f"/runtimes/team/main?{name}={text}" for name in ("prefix", "cursor", "limit")),
        f"/runtimes/team/main?limit=1&prefix={text}",
        *(f"/repositories/team/syncs?{name}={text}" for name in ("branch", "limit")),
        f"/{text}",
    ):
        yield call("GET", path)
    for field in ("name", "source", "project", "root", "pattern", "validation", "suspended", "branches"):
        yield call("PUT", "/repositories/another", json={**body, field: [word] if field == "branches" else word})
    yield call("PUT", f"/repositories/{text}", json=body)
    yield call("PUT", "/repositories/team", json={**body, word: word})
    header = word.encode("utf-8", "replace").decode("latin-1").replace("\r", "").replace("\n", "")
    yield call("PUT", "/repositories/team", json=body, headers={"If-Match": header})
    yield call("GET", "/runtimes/team/main", headers={"If-None-Match": header, "X-Correlation-Id": header})
    yield call("POST", f"/repositories/team/sync?branch={text}&deep={text}")
    yield call("POST", "/repositories/team/sync?branch=main", json={"commit": word})
    yield call("POST", f"/reconcile?seconds={text}")
    yield call("DELETE", f"/repositories/{text}")
    yield client.post("/webhooks/azure-devops", headers=bearer(HOOK_KEY), json=payload(word))


def payload(word: str) -> dict[str, Any]:
    repo_id = "278d5cd2-584d-4b63-824a-2ba458937249"
    return {
        "eventType": "git.push",
        "publisherId": word,
        "resource": {
            "refUpdates": [{"name": f"refs/heads/{word}", "oldObjectId": word, "newObjectId": word}],
            "repository": {"id": repo_id, "name": word, "remoteUrl": word, "project": {"name": word}},
            "pushedBy": {"displayName": word},
            "url": word,
        },
    }


# -- The database, and headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [*WORDS, *UNSTORABLE])
def test_no_text_field_is_a_part_of_a_statement_or_of_a_header(app: App, served: Team, word: str) -> None:
    for answer in spoken(app, word):
        assert answer.status_code < 500, answer.text
        for name, value in answer.headers.items():
            assert not re.search(r"[\x00-\x1f\x7f]", name + value), (name, value)
        assert not {"Set-Cookie", "evil"} & set(answer.headers.keys())
        assert answer.headers["Content-Type"] in ("application/json", "application/problem+json")
    assert served.numbers() == {"a-runtime.yaml": "workflow-1", "deep/er/b-runtime.yaml": "workflow-2"}
    assert "team" in [one.name for one in served.world.registry.list()]


@pytest.mark.parametrize("word", WORDS)
def test_what_is_stored_is_what_was_said(app: App, word: str) -> None:
    api = Api(app.wsgi)
    body = {"name": "another", "source": "/srv/x.git", "project": word, "suspended": word}
    assert api.put("/repositories/another", json=body).status_code == 201
    shown: Any = api.get("/repositories/another").json
    assert (shown["project"], shown["suspended"]) == (word, word)
    answer = Client(app.wsgi).post(
        "/webhooks/azure-devops", headers=bearer(HOOK_KEY), json={**payload(word), "eventType": word}
    )
    assert answer.status_code in (200, 202)


# -- Paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [ADMIN_KEY, READER_KEY])
@pytest.mark.parametrize(
    "path",
    [
        "/runtimes/other/main/../../team/main/a-runtime.yaml",
        "/runtimes/other/main/%2e%2e/%2e%2e/team/main/a-runtime.yaml",
        "/runtimes/other/main/..%2f..%2fteam%2fmain%2fa-runtime.yaml",
        "/runtimes/other/main/..%5c..%5cteam%5cmain%5ca-runtime.yaml",
        "/runtimes/other/main/%252e%252e%252fteam/main/a-runtime.yaml",
        "/runtimes/other/main//a-runtime.yaml",
        "/runtimes/other/main/./a-runtime.yaml",
        "/runtimes/other%2fmain/a-runtime.yaml",
        "/runtimes/team/other/a-runtime.yaml",
        "/runtimes/other/main/a-runtime.yaml",
        "/runtimes/other/main/deep",
        "/runtimes/team/main/deep/er/../../a-runtime.yaml",
        "/runtimes/team/main/A-RUNTIME.yaml",
        "/runtimes/TEAM/main/a-runtime.yaml",
        "/runtimes/team/main/a-runtime.yaml/",
        "/runtimes/team/main/a-runtime.yaml%00",
        "/runtimes/team/main/../../../../../../etc/passwd",
        "/runtimes/team/main/.git/config",
        "//runtimes/team/main/a-runtime.yaml",
        "/openapi.json/../app.py",
        "/openapi.json%2f..%2fapp.py",
    ],
)
def test_no_path_leads_out_of_the_branch_it_names(app: App, served: Team, path: str, key: str) -> None:
    served.world.repository("other").git.commit({"o-runtime.yaml": workflow(3)})
    headers = {
        **bearer(key),
        "X-Original-URL": "/runtimes/team/main",
        "X-Rewrite-URL": "/runtimes/team/main",
        "X-Forwarded-Prefix": "/runtimes/team",
        "X-HTTP-Method-Override": "DELETE",
        "X-Repo-Id": "id-team",
    }
    answer = Client(app.wsgi).get(path, headers=headers)
    assert answer.status_code == 404
    assert "workflow" not in answer.text
    assert "root:" not in answer.text


# -- Links -----------------------------------------------------------------------------------------------------------


def test_the_hosts_name_is_never_believed(app: App, served: Team) -> None:
    """A link that is made of it leads a reader, or a cache's next reader, elsewhere with the key."""
    told = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    links = []
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/runtimes/team/main?limit=1", {}),
        ("PUT", "/repositories/another", {"json": {"name": "another", "source": "/srv/x.git"}}),
        ("POST", "/repositories/another/sync", {}),
        ("GET", "/repositories//x", {}),
        ("POST", "/webhooks/azure-devops", {}),
    ]
    for method, path, options in calls:
        answer = Client(app.wsgi).open(path, method=method, headers={**bearer(ADMIN_KEY), **told}, **options)
        assert "evil" not in f"{answer.headers} {answer.text}"
        links += [answer.headers[name] for name in ("Link", "Location") if name in answer.headers]
    assert links == [links[0], "/repositories/another"]
    assert links[0].startswith("</runtimes/team/main?limit=1&cursor=")


def test_the_next_page_is_asked_for_without_the_key(app: App, served: Team) -> None:
    answer = Client(app.wsgi).get(f"/runtimes/team/main?limit=1&code={READER_KEY}")
    assert answer.status_code == 200
    assert READER_KEY not in str(answer.headers)


# -- Logs ------------------------------------------------------------------------------------------------------------


@contextmanager
def logged() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment, method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("word", [word for word in WORDS if not word.isprintable()])
def test_no_word_makes_a_line_of_the_log(app: App, served: Team, word: str) -> None:
    with logged() as records:
        for _ in spoken(app, f"{word}\n12:00:00 INFO Answered caller=admin"):
            pass
    lines = [Lines().format(record) for record in records if not record.exc_info]
    assert [line for line in lines if word[:8].strip() in line or "caller=admin" in line]
    for line in lines:
        assert line.isprintable(), line
        assert "##vso[" not in line
    # Elsewhere the data is kept apart from the message, which is always the same.
    assert not {record.getMessage() for record in records if word[:8].strip() in record.getMessage()}


def test_the_words_of_an_exception_begin_no_line_either() -> None:
    error = ValueError("x\n12:00:00 INFO Answered caller=admin\r\x1b[2J##vso[task.complete]")
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "It broke", None, (type(error), error, None))
    first, *rest = Lines().format(record).split("\n")
    assert first.endswith("ERROR It broke")
    assert rest
    assert all(line.startswith("  ") for line in rest)
    assert all(line.isprintable() and "##vso" not in line for line in rest)
