"""Whom this app calls, and with what: settings and registrations decide, and never a payload, an answer or a name."""

import json
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.contoso import A, Contoso
from support.git import GitRepository, environment
from support.leaks import basic as basic_of
from support.web import ADMIN_KEY, HOOK_KEY, READER_KEY, bearer
from support.world import World, workflow
from werkzeug.test import Client

from shared import bootstrap
from shared.azure_devops.client import Organisation
from shared.bootstrap import App
from shared.errors import SourceError, SourceFailed
from shared.identity import basic
from shared.local_git.source import LocalGitSource
from shared.model import BranchName, Condition, Deadline, Event, Registration, RepoId, Repository, SourceName
from shared.registration import Registrar

FOREIGN = "278d5cd2-584d-4b63-824a-2ba458937249"


class Host:
    """Somebody on this machine who answers as a test says, and remembers what was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: handler.send_error(404)


@contextmanager
def hosting() -> Iterator[Host]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked.append(f"{self.command} {self.path} {dict(self.headers)}")
            host.answer(self)

        do_POST = do_OPTIONS = do_PUT = do_HEAD = do_CONNECT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        host = Host(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield host
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def trap() -> Iterator[Host]:
    """Nobody has a reason to call it."""
    with hosting() as trap:
        yield trap
        assert trap.asked == []


def soon() -> Deadline:
    return Deadline.after(timedelta(seconds=20))


# -- Payloads --------------------------------------------------------------------------------------------------------


def redirected(value: Any, place: str) -> Iterator[Any]:
    """The payload with one of its URLs leading to `place`, for each; and with all of them."""
    urls = list(_urls(value))
    for one in [*([url] for url in urls), urls]:
        copy = json.loads(json.dumps(value))
        for *way, last in one:
            inner = copy
            for step in way:
                inner = inner[step]
            inner[last] = place + (inner[last].partition("/contoso")[2] if isinstance(inner[last], str) else "")
        yield copy


def _urls(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _urls(inner, (*way, key))
    elif isinstance(value, str) and "://" in value:
        yield way


def event_of(contoso: Contoso, details: str, *, is_known: bool) -> Any:
    """What Azure DevOps sends of a push."""
    hosted = contoso.repository("orders") if is_known else contoso.emulator.repository("data", "others")
    contoso.subscribe(details=details)
    contoso.push(hosted, {A: workflow(7)})
    return contoso.emulator.deliveries[-1].event


@pytest.mark.parametrize("details", ["all", "minimal"])
@pytest.mark.parametrize("is_known", [True, False])
def test_no_url_of_a_payload_is_ever_called(contoso: Contoso, trap: Host, is_known: bool, details: str) -> None:
    event = event_of(contoso, details, is_known=is_known)
    assert len(list(_urls(event))) >= (8 if details == "all" else 2)
    contoso.emulator.forget_calls()
    for payload in redirected(event, f"{trap.url}/contoso"):
        answer = contoso.hook.post("/webhooks/azure-devops", json=payload)
        assert answer.status_code in (200, 202)
        contoso.sweep()
    assert {call.path.split("/")[1] for call in contoso.emulator.calls} <= {"contoso"}


def test_a_push_that_says_it_comes_from_elsewhere_registers_nothing(contoso: Contoso, trap: Host) -> None:
    event = event_of(contoso, "all", is_known=False)
    contoso.execute("DELETE FROM repositories")
    *_, payload = redirected(event, f"{trap.url}/contoso")
    contoso.hook.post("/webhooks/azure-devops", json=payload)
    assert contoso.execute("SELECT count(*) FROM repositories") == [(0,)]


# -- Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["another host", "the same host", "another port by name", "a file"])
def test_no_redirect_of_the_organisation_is_followed_and_the_token_stays(trap: Host, where: str, status: int) -> None:
    with hosting() as host:
        places = {
            "another host": trap.url,
            "the same host": f"{host.url}/elsewhere",
            "another port by name": trap.url.replace("127.0.0.1", "localhost"),
            "a file": "file:///etc/passwd",
        }

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Location", places[where])
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        host.answer = answer
        url = f"{host.url}/contoso"
        organisation = Organisation(url, authorization=lambda: basic("a-token"), timeout=timedelta(seconds=20))
        for method in ("GET", "POST", "OPTIONS"):
            with pytest.raises(SourceError):
                organisation.send(method, f"{url}/_apis/x", {"Accept": "application/json"}, None, soon())
        assert [asked.split()[:2] for asked in host.asked] == [
            [method, "/contoso/_apis/x"] for method in ("GET", "POST", "OPTIONS")
        ]


def test_git_takes_no_password_along_where_it_is_led(tmp_path: Path) -> None:
    with hosting() as host, hosting() as elsewhere:

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302 if handler.headers["Authorization"] else 401)
            handler.send_header("WWW-Authenticate", 'Basic realm="git"')
            handler.send_header("Location", f"{elsewhere.url}{handler.path}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        host.answer = answer
        configured = tmp_path / "gitconfig"
        configured.write_text(
            f'[credential "{host.url}"]\n\thelper = "!echo username=me; echo password=a-password; :"\n'
        )
        variables = {**environment(), "GIT_CONFIG_GLOBAL": str(configured)}
        git = LocalGitSource(timeout=timedelta(seconds=20), environment=variables)
        now = datetime.now(UTC)
        registration = Registration("team", SourceName(f"{host.url}/x.git"), (BranchName("main"),))
        with pytest.raises(SourceError):
            git.heads(Repository(RepoId("team"), registration, 1, now, now), soon())
        assert basic_of("me", "a-password") in " ".join(host.asked)
        assert elsewhere.asked
        assert "Authorization" not in " ".join(elsewhere.asked)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/contoso/_apis",
        "{host}@evil.example/contoso/_apis",
        "{host}.evil.example/contoso/_apis",
        "{host}/contoso-evil/_apis",
        "{host}/_apis",
    ],
)
def test_the_token_is_sent_to_the_organisation_alone(url: str) -> None:
    """Whatever the organisation calls one of its resources."""
    with hosting() as host:
        organisation = Organisation(
            f"{host.url}/contoso", authorization=lambda: basic("a-token"), timeout=timedelta(seconds=20)
        )
        with pytest.raises(SourceFailed, match="another address"):
            organisation.send("GET", url.format(host=host.url), {}, None, soon())
        assert host.asked == []


@pytest.mark.parametrize("accept", ["application/json", "application/zip"])
def test_an_answer_that_is_packed_a_thousandfold_is_given_up_early(accept: str) -> None:
    """Of 1 GiB of blanks in 1 MiB, no more is unpacked than an answer may have."""
    with hosting() as host:

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", accept)
            handler.send_header("Content-Encoding", "gzip")
            handler.send_header("Connection", "close")
            handler.end_headers()
            packer, piece = zlib.compressobj(1, wbits=31), b" " * (1 << 20)
            for _ in range(1024):
                try:
                    handler.wfile.write(packer.compress(piece))
                except OSError:
                    return

        host.answer = answer
        url = f"{host.url}/contoso"
        organisation = Organisation(url, authorization=lambda: basic("a-token"), timeout=timedelta(seconds=60))
        tracemalloc.start()
        try:
            with pytest.raises(SourceFailed, match="larger than"):
                organisation.send("GET", f"{url}/_apis/x", {"Accept": accept}, None, soon())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 256 * 1024 * 1024


# -- Who registers what ----------------------------------------------------------------------------------------------


@pytest.fixture
def app(database: str) -> Iterator[App]:
    keys = {"ADMIN_KEY": ADMIN_KEY, "READER_KEYS": f"etl={READER_KEY}", "WEBHOOK_SECRET": HOOK_KEY}
    with closing(bootstrap.build({"DATABASE_URL": database, **keys})) as app:
        yield app


@pytest.mark.parametrize(("key", "status"), [(None, 401), (HOOK_KEY, 403), (READER_KEY, 403), (ADMIN_KEY, 201)])
def test_only_an_admin_registers_over_http(app: App, key: str | None, status: int) -> None:
    body = {"name": "team", "source": "https://git.example.com/x.git"}
    answer = Client(app.wsgi).put("/repositories/team", headers=bearer(key) if key else {}, json=body)
    assert answer.status_code == status
    assert len(app.registry.list()) == (1 if status == 201 else 0)


@pytest.mark.parametrize(
    "source",
    [
        "--upload-pack=touch {evil}",
        "-c core.sshCommand=touch",
        "ext::touch {evil}",
        "ext::sh -c touch% {evil}",
        "fd::3",
        "remote-helper::x",
        "ssh://-oProxyCommand=touch {evil}/x",
        "ssh://-oProxyCommand=touch${{IFS}}{evil}/x",
        "-oProxyCommand=touch:x",
        "git@-oProxyCommand=touch {evil}:x",
        "git@host:--upload-pack=touch",
        "https://--upload-pack/x",
        "http://host/x\n[core]\n\tsshCommand = touch {evil}",
        'http://host/x"\n[core]',
        "ftp://host/x",
        "gopher://169.254.169.254/x",
        "../relative",
        "relative",
        "~/home",
        "",
    ],
)
def test_no_source_is_an_option_or_a_command(app: App, world: World, tmp_path: Path, source: str) -> None:
    """Not at registration, and not from a row of the database either."""
    evil = tmp_path / "evil"
    given = source.format(evil=evil)
    body = {"name": "team", "source": given}
    answer = Client(app.wsgi).put("/repositories/team", headers=bearer(ADMIN_KEY), json=body)
    assert answer.status_code == 400
    team = world.repository()
    world.execute("UPDATE repositories SET source = %s", given)
    world.sweep()
    team.sync()
    assert team.status().condition in (Condition.FETCH_FAILED, Condition.AUTHENTICATION_FAILED)
    assert not evil.exists()
    world.execute("UPDATE repositories SET source = 'x'")


@pytest.mark.parametrize("branch", ["--upload-pack=x", "-c", "-", "../x", "refs/heads/x", "a b", "a\nb", "a:b", "@{u}"])
def test_no_branch_is_an_option(app: App, world: World, branch: str) -> None:
    body = {"name": "team", "source": "/srv/x.git", "branches": [branch]}
    assert Client(app.wsgi).put("/repositories/team", headers=bearer(ADMIN_KEY), json=body).status_code == 400
    team = world.repository()
    team.git.commit({"a-runtime.yaml": workflow(1)})
    world.execute("UPDATE repositories SET branches = ARRAY[%s]", branch)
    world.execute("DELETE FROM branches")
    team.ask(branch)
    team.run(branch)
    assert team.served(branch) in (None, {})


def test_names_of_files_are_no_options_either(world: World) -> None:
    team = world.repository()
    names = ("--output=evil-runtime.yaml", "-runtime.yaml", "-c/x-runtime.yaml", ":(top)x-runtime.yaml")
    team.git.commit({name: workflow(number) for number, name in enumerate(names)})
    team.sync()
    assert team.numbers() == {name: f"workflow-{number}" for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("/srv/git/{project}/{repository}.git", ("..", "x")),
        ("/srv/git/{project}/{repository}.git", ("x", "../../etc")),
        ("/srv/git/{project}/{repository}.git", ("x", "..\\..\\etc")),
        ("/srv/git/{project}/{repository}.git", (".", "x")),
        ("/srv/git/{project}/{repository}.git", ("a/b", "x")),
        ("/srv/git/{repository}", ("x", "a\0b")),
        ("git@host:{repository}", ("x", "-oProxyCommand=touch")),
        ("git@host:{project}/{repository}", ("x", "a@b")),
        ("{repository}", ("x", "--upload-pack=touch")),
        ("{repository}", ("x", "ext::sh -c touch")),
    ],
)
def test_who_knows_the_hook_secret_gets_no_further_than_the_template(
    world: World, template: str, names: tuple[str, str]
) -> None:
    """A delivery is signed by nobody: its names are whatever its sender likes."""
    registrar = Registrar(world.registry, branches=[BranchName("main")], url_template=template)
    project, repository = names
    event = Event("git.push", repo_id=RepoId(FOREIGN), project=project, repository=repository)
    assert registrar.announced(event) is None
    assert world.registry.list() == []


@pytest.mark.parametrize("name", ["x@evil.example", "x?y", "x#y", "%2e%2e", "..%2f..", "x y", "evil.example:80"])
def test_a_name_is_one_segment_of_the_url(world: World, name: str) -> None:
    template = "https://git.example.com/{project}/_git/{repository}"
    registrar = Registrar(world.registry, branches=[BranchName("main")], url_template=template)
    event = Event("git.push", repo_id=RepoId(FOREIGN), project=name, repository=name)
    registered = registrar.announced(event)
    assert registered is not None
    host, project, _git, repository = registered.source.removeprefix("https://").split("/")
    assert host == "git.example.com"
    assert not {*"@?#: "} & {*project, *repository}
    assert ".." not in (project, repository)


def test_a_repository_of_this_machine_is_an_admins_choice_and_starts_nothing(
    app: App, world: World, tmp_path: Path
) -> None:
    """A path is read as it is, whoever wrote its configuration: that says which commands Git starts."""
    evil = tmp_path / "evil"
    hostile = GitRepository(tmp_path / "hostile")
    hostile.commit({"a-runtime.yaml": workflow(1)})
    for setting in ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "uploadpack.packObjectsHook"):
        hostile.git("config", setting, f"touch {evil}")
    for setting, value in {
        "alias.cat-file": f"!touch {evil}",
        "remote.origin.url": f"ext::sh -c touch% {evil}",
        "remote.origin.promisor": "true",
        "extensions.partialClone": "origin",
        "credential.helper": f"!touch {evil}",
        "protocol.ext.allow": "always",
    }.items():
        hostile.git("config", setting, value)
    body = {"name": "team", "source": str(hostile.path)}
    client = Client(app.wsgi)
    assert client.put("/repositories/team", headers=bearer(ADMIN_KEY), json=body).status_code == 201
    assert client.post("/repositories/team/sync", headers=bearer(ADMIN_KEY)).status_code == 200
    assert not evil.exists()
