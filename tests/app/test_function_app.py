"""The three functions as the host sees them, and the way between its objects and the WSGI app."""

import base64
import gzip
import inspect
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest
from support.functions import Told, call, functions
from support.git import GitRepository, environment
from support.postgres import Server
from support.world import workflow

import function_app
from shared import bootstrap
from shared.errors import SettingsInvalid

HOOK = "hook-secret-of-the-tests-0123456789"
ADMIN = "admin-key-of-the-tests-0123456789ab"
READER = "reader-key-of-the-tests-0123456789a"
REPO_ID = "5b1c6f3e-0c0e-4a6a-9b42-0f6f2f6d1a77"

StartResponse = Callable[..., Callable[[bytes], object]]


class Echo:
    """A WSGI app that keeps what it was asked, and answers what it was given."""

    def __init__(self, status: str = "200 OK", headers: Iterable[tuple[str, str]] = (), body: Any = ()) -> None:
        self.status, self.headers, self.body = status, list(headers), body
        self.asked: dict[str, Any] = {}
        self.read = b""

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self.asked = environ
        self.read = environ["wsgi.input"].read()
        start_response(self.status, self.headers)
        body: Iterable[bytes] = self.body
        return body


class FakeApp:
    def __init__(self, wsgi: Any, sweep: Callable[[object], object] = lambda _host: None) -> None:
        self.wsgi, self.sweep = wsgi, sweep


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Puts a WSGI app behind the functions."""

    def put(wsgi: Any) -> Any:
        monkeypatch.setattr(function_app, "_built", FakeApp(wsgi))
        return wsgi

    return put


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_app, "_built", None)


def bindings(function: Any) -> dict[str, dict[str, Any]]:
    return {binding["name"]: binding for binding in function.get_bindings_dict()["bindings"]}


# -- What the host registers -----------------------------------------------------------------------------------------


def test_there_are_exactly_three_functions() -> None:
    assert sorted(functions()) == ["config_api", "reconcile", "webhook"]


@pytest.mark.parametrize("name", ["config_api", "reconcile", "webhook"])
def test_every_parameter_is_named_after_a_binding(name: str) -> None:
    function = functions()[name]
    named = set(inspect.signature(function.get_user_function()).parameters)
    # The worker knows `context` by its name, and by its type, which must be this very one.
    assert inspect.signature(function.get_user_function()).parameters["context"].annotation is func.Context
    assert named - {"context"} == set(bindings(function)) - {"$return"}


def test_http_functions_leave_access_to_the_app() -> None:
    routes = {name: bindings(functions()[name])["req"] for name in ("config_api", "webhook")}
    assert {name: str(binding["authLevel"]) for name, binding in routes.items()} == {
        "config_api": "ANONYMOUS",
        "webhook": "ANONYMOUS",
    }
    assert routes["webhook"]["route"] == "webhooks/azure-devops"
    assert [str(method) for method in routes["webhook"]["methods"]] == ["POST"]
    assert routes["config_api"]["route"] == "{*path}"
    methods = {str(method) for method in routes["config_api"]["methods"]}
    assert methods == {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def test_no_route_starts_with_what_the_host_keeps_for_itself() -> None:
    routes = [bindings(functions()[name])["req"]["route"] for name in ("config_api", "webhook")]
    assert not [route for route in routes if route.lower().startswith(("runtime", "admin"))]


def test_the_routes_have_no_prefix_and_the_host_never_throttles() -> None:
    host = json.loads(Path(function_app.__file__).with_name("host.json").read_text())
    http = host["extensions"]["http"]
    assert http["routePrefix"] == ""
    assert (http["maxOutstandingRequests"], http["maxConcurrentRequests"]) == (-1, -1)
    assert http["dynamicThrottlesEnabled"] is False


def test_the_schedule_is_a_setting() -> None:
    assert bindings(functions()["reconcile"])["timer"]["schedule"] == "%RECONCILE_SCHEDULE%"


# -- The request -----------------------------------------------------------------------------------------------------


def test_the_request_arrives_whole(serve: Callable[[Any], Any]) -> None:
    app = serve(Echo())
    body = bytes(range(256))
    call("config_api", "/a/b?x=1&y=%2F&x=", "PUT", {"content-type": "text/x", "x-functions-key": "k"}, body)
    asked = app.asked
    assert (asked["REQUEST_METHOD"], asked["PATH_INFO"], asked["QUERY_STRING"]) == ("PUT", "/a/b", "x=1&y=%2F&x=")
    assert (asked["CONTENT_TYPE"], asked["CONTENT_LENGTH"], app.read) == ("text/x", "256", body)
    assert (asked["HTTP_X_FUNCTIONS_KEY"], asked["HTTP_HOST"]) == ("k", "store.example")
    assert (asked["wsgi.url_scheme"], asked["SERVER_NAME"], asked["SERVER_PORT"]) == ("https", "store.example", "443")


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ("/runtimes/r/release%2F1.0/a%20b.yaml", "/runtimes/r/release/1.0/a b.yaml"),
        ("/runtimes/r/main/gr%C3%BC%C3%9Fe.yaml", "/runtimes/r/main/grüße.yaml"),
        ("/runtimes/r/main/grüße.yaml", "/runtimes/r/main/grüße.yaml"),
        ("/a%252Fb", "/a%2Fb"),
        ("//a//b/", "//a//b/"),
        ("/a+b", "/a+b"),
    ],
)
def test_the_path_is_decoded_once(serve: Callable[[Any], Any], sent: str, path: str) -> None:
    app = serve(Echo())
    call("config_api", sent)
    assert app.asked["PATH_INFO"].encode("latin-1").decode() == path


def test_header_text_is_bytes_read_as_latin_1(serve: Callable[[Any], Any]) -> None:
    app = serve(Echo())
    call("config_api", "/", headers={"x-name": "Zoë"})
    assert app.asked["HTTP_X_NAME"].encode("latin-1").decode() == "Zoë"


def test_a_chunked_body_is_whole_by_now(serve: Callable[[Any], Any]) -> None:
    app = serve(Echo())
    call("webhook", "/webhooks/azure-devops", "POST", {"transfer-encoding": "chunked"}, b"{}")
    assert "HTTP_TRANSFER_ENCODING" not in app.asked
    assert (app.asked["CONTENT_LENGTH"], app.read) == ("2", b"{}")


# -- The answer ------------------------------------------------------------------------------------------------------


def test_an_answer_arrives_as_it_is(serve: Callable[[Any], Any]) -> None:
    packed = gzip.compress(b"[]")
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip"), ("ETag", '"1-gzip"')]
    serve(Echo("200 OK", headers, [packed[:5], packed[5:]]))
    told = call("config_api", "/runtimes/r/main")
    assert told == (
        200,
        {"content-type": "application/json", "content-encoding": "gzip", "etag": '"1-gzip"'},
        packed,
    )


@pytest.mark.parametrize("status", [202, 404, 410, 422, 500, 502, 503])
def test_every_status_and_its_retry_after_reach_the_caller(serve: Callable[[Any], Any], status: int) -> None:
    serve(Echo(f"{status} Whatever", [("Retry-After", "7"), ("Content-Type", "application/problem+json")], [b"{}"]))
    for name in ("webhook", "config_api"):
        told = call(name, "/", "POST")
        assert (told.status, told.headers["retry-after"], told.body) == (status, "7", b"{}")


def test_headers_that_are_said_twice_become_one(serve: Callable[[Any], Any]) -> None:
    headers = [("Link", "<a>; rel=next"), ("Vary", "Accept-Encoding"), ("link", "<b>; rel=first"), ("Vary", "Origin")]
    serve(Echo(headers=headers))
    told = call("config_api", "/")
    assert told.headers["link"] == "<a>; rel=next, <b>; rel=first"
    assert told.headers["vary"] == "Accept-Encoding, Origin"


def test_a_304_has_no_body_and_says_nothing_about_one(serve: Callable[[Any], Any]) -> None:
    serve(Echo("304 Not Modified", [("ETag", '"5"')]))
    told = call("config_api", "/", headers={"if-none-match": '"5"'})
    # The host leaves an empty content type out; text/plain would make caches forget that they hold JSON.
    assert told == (304, {"etag": '"5"', "content-type": ""}, b"")


def test_head_keeps_the_length_of_what_is_not_sent(serve: Callable[[Any], Any]) -> None:
    app = serve(Echo("200 OK", [("Content-Length", "1234"), ("Content-Type", "application/json")]))
    told = call("config_api", "/", "HEAD")
    assert app.asked["REQUEST_METHOD"] == "HEAD"
    assert (told.headers["content-length"], told.body) == ("1234", b"")


def test_what_is_written_before_the_body_comes_first(serve: Callable[[Any], Any]) -> None:
    def writes(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"first ")
        return [b"second"]

    serve(writes)
    assert call("config_api", "/").body == b"first second"


@pytest.mark.parametrize("breaks", [False, True])
def test_the_body_is_closed_whatever_happens(serve: Callable[[Any], Any], breaks: bool) -> None:
    class Body:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            yield b"part"
            if breaks:
                raise RuntimeError

        def close(self) -> None:
            self.closed += 1

    body = Body()
    serve(Echo(body=body))
    assert call("config_api", "/").status == (500 if breaks else 200)
    assert body.closed == 1


# -- The edge --------------------------------------------------------------------------------------------------------


def test_an_unforeseen_error_is_logged_and_never_a_500_for_azure_devops(
    serve: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Iterable[bytes]:
        raise RuntimeError("with a secret")

    serve(broken)
    hook, api = call("webhook", "/webhooks/azure-devops", "POST"), call("config_api", "/livez")
    assert (hook.status, hook.headers["retry-after"], api.status) == (503, "30", 500)
    assert "retry-after" not in api.headers
    for told in (hook, api):
        assert told.headers["content-type"] == "application/problem+json"
        assert json.loads(told.body)["status"] == told.status
        assert b"secret" not in told.body
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


@pytest.mark.usefixtures("unbuilt")
def test_settings_that_cannot_be_used_are_named_in_the_log_alone_and_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = []

    def build() -> FakeApp:
        attempts.append(1)
        if len(attempts) < 3:
            raise SettingsInvalid(["DATABASE_URL is not set", "READ_ACCESS must be `keys` or `anonymous`"])
        return FakeApp(Echo())

    monkeypatch.setattr(bootstrap, "build", build)
    for name in ("webhook", "config_api"):
        told = call(name, "/", "POST")
        assert (told.status, told.headers["retry-after"]) == (503, "30")
        problem = json.loads(told.body)
        assert (problem["kind"], problem["status"]) == ("unavailable", 503)
        assert "log" in problem["detail"]
        assert b"DATABASE_URL" not in told.body
        assert b"READ_ACCESS" not in told.body
        assert "DATABASE_URL is not set" in caplog.text
        assert "READ_ACCESS must be `keys` or `anonymous`" in caplog.text
        caplog.clear()
    assert [call("config_api", "/").status for _ in range(2)] == [200, 200]
    assert len(attempts) == 3


@pytest.mark.usefixtures("unbuilt")
def test_any_other_failure_to_start_is_a_503_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> FakeApp:
        raise OSError("postgresql://user:password@host")

    monkeypatch.setattr(bootstrap, "build", build)
    told = call("config_api", "/livez")
    assert told.status == 503
    assert b"password" not in told.body


@pytest.mark.usefixtures("unbuilt")
def test_callers_that_come_together_build_one_app(monkeypatch: pytest.MonkeyPatch) -> None:
    built, together = [], threading.Barrier(4)

    def build() -> FakeApp:
        built.append(1)
        threading.Event().wait(0.05)
        return FakeApp(Echo())

    def come(_: int) -> int:
        together.wait()
        return call("config_api", "/").status

    monkeypatch.setattr(bootstrap, "build", build)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(come, range(4))) == [200] * 4
    assert len(built) == 1


def test_the_timer_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[object] = []
    monkeypatch.setattr(function_app, "_built", FakeApp(Echo(), swept.append))
    functions()["reconcile"].get_user_function()(timer=TimerRequest(past_due=False))
    assert swept == [None]


def test_a_sweep_that_fails_is_logged_and_fails_the_function(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_host: object) -> None:
        raise OSError("down")

    monkeypatch.setattr(function_app, "_built", FakeApp(Echo(), fail))
    with pytest.raises(OSError, match="down"):
        functions()["reconcile"].get_user_function()(timer=TimerRequest(past_due=True))
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None


# -- The real app ----------------------------------------------------------------------------------------------------


@pytest.fixture
def team(tmp_path: Path) -> GitRepository:
    """A repository `configs`, which the app reads from where it is; nothing is registered yet."""
    return GitRepository(tmp_path / "configs")


@pytest.fixture
def settings(database: str, tmp_path: Path) -> dict[str, str]:
    return {
        **environment(),
        "DATABASE_URL": database,
        "BRANCHES": "main,release/1.0",
        "WEBHOOK_SECRET": HOOK,
        "ADMIN_KEY": ADMIN,
        "READER_KEYS": f"etl={READER}",
        "GIT_URL_TEMPLATE": f"{tmp_path.as_posix()}/{{repository}}",
    }


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Puts the real app behind the functions."""
    started = []

    def build(settings: dict[str, str]) -> None:
        app = bootstrap.build(settings)
        started.append(app)
        monkeypatch.setattr(function_app, "_built", app)

    yield build
    for app in started:
        app.close()


def push(team: GitRepository, branch: str, password: str = HOOK) -> Told:
    """Deliver a push of the branch as Azure DevOps does."""
    event = {
        "eventType": "git.push",
        "resource": {
            "refUpdates": [{"name": f"refs/heads/{branch}", "oldObjectId": "0" * 40, "newObjectId": team.head(branch)}],
            "repository": {"id": REPO_ID, "name": "configs", "project": {"id": REPO_ID, "name": "Data"}},
            "pushId": 1,
        },
    }
    credentials = base64.b64encode(f"hook:{password}".encode()).decode()
    headers = {"authorization": f"Basic {credentials}", "content-type": "application/json; charset=utf-8"}
    return call("webhook", "/webhooks/azure-devops", "POST", headers, json.dumps(event).encode())


def read(path: str, method: str = "GET", **headers: str) -> Told:
    return call("config_api", f"/runtimes/configs/{path}", method, {"authorization": f"Bearer {READER}", **headers})


def test_a_push_is_read_back(start: Callable[[Any], None], settings: dict[str, str], team: GitRepository) -> None:
    start(settings)
    team.commit({"etl/grüße runtime.yaml": workflow(1)}, branch="release/1.0")
    assert push(team, "release/1.0").status == 200
    one = read("release%2F1.0/etl/gr%C3%BC%C3%9Fe%20runtime.yaml")
    assert (one.status, one.headers["content-type"], json.loads(one.body)) == (
        200,
        "application/json",
        json.loads(workflow(1)),
    )
    head = read("release/1.0/etl/grüße%20runtime.yaml", "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(one.body)), b"")
    same = read("release/1.0/etl/grüße%20runtime.yaml", **{"if-none-match": one.headers["etag"]})
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", one.headers["etag"])
    assert read("release/1.0/missing").status == 404


def test_a_compressed_list_is_not_touched(
    start: Callable[[Any], None], settings: dict[str, str], team: GitRepository
) -> None:
    start(settings)
    paths = [f"{number:02}-runtime.yaml" for number in range(20)]
    team.commit({path: workflow(number) for number, path in enumerate(paths)})
    push(team, "main")
    packed = read("main", **{"accept-encoding": "gzip"})
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert [entry["filepath"] for entry in json.loads(gzip.decompress(packed.body))] == paths


def test_a_push_without_the_secret_is_refused(
    start: Callable[[Any], None], settings: dict[str, str], team: GitRepository
) -> None:
    start(settings)
    assert push(team, "main", password="x" * 32).status == 401
    assert call("config_api", "/runtimes/configs/main").status == 401


def test_the_timer_brings_what_was_not_pushed_since_it_was_registered(
    start: Callable[[Any], None], settings: dict[str, str], team: GitRepository
) -> None:
    start(settings)
    team.commit({"a-runtime.yaml": workflow(1)})
    registration = json.dumps({"name": "configs", "source": str(team.path)}).encode()
    admin = {"authorization": f"Bearer {ADMIN}", "content-type": "application/json", "if-none-match": "*"}
    assert call("config_api", f"/repositories/{REPO_ID}", "PUT", admin, registration).status == 201
    assert read("main/a-runtime.yaml").status == 404
    functions()["reconcile"].get_user_function()(timer=TimerRequest())
    assert json.loads(read("main/a-runtime.yaml").body) == json.loads(workflow(1))


def test_a_delivery_that_cannot_be_recorded_is_asked_for_again(
    start: Callable[[Any], None], settings: dict[str, str], team: GitRepository, postgres_server: Server
) -> None:
    start({**settings, "DATABASE_URL": postgres_server.database("postgres")})  # nobody migrated that one
    told = push(team, "main")
    assert told.status == 503
    assert int(told.headers["retry-after"]) > 0
