"""`runtime-store wait`: against the app over HTTP, with a database behind it and nothing else."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from socketserver import StreamRequestHandler, ThreadingTCPServer
from time import monotonic, time
from typing import Any
from uuid import uuid4

import pytest
from support.cli import CommandLine, Ended, log_restored
from support.web import ADMIN_KEY, HOOK_KEY, READER_KEY, app_over
from support.world import INVALID, MAIN, Team, World, budget, workflow
from werkzeug.serving import make_server

from shared.cli.service import parsed_url
from shared.errors import InvalidRequest
from shared.model import ABSENT, CommitId, Decision, Delivery, Event, RefUpdate
from shared.postgres.pool import Pool

A = "a_runtime.yaml"
LONG = ("--timeout", "60")
Handler = Callable[[Any, Any], Iterable[bytes]]


class Site:
    """The app at an address. `instead` answers the next requests; `before` happens before them, one each."""

    def __init__(self, app: Handler) -> None:
        self.app = app
        self.before: list[Callable[[], object]] = []
        self.instead: list[Handler] = []
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.asked.append((environ["PATH_INFO"], environ.get("HTTP_IF_NONE_MATCH")))
        if environ["PATH_INFO"].startswith("/runtimes/") and self.before:
            self.before.pop(0)()
        return (self.instead.pop(0) if self.instead else self.app)(environ, start_response)


def answering(status: str, body: bytes = b"", **headers: str) -> Handler:
    def answer(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, [(name.replace("_", "-"), value) for name, value in headers.items()])
        return [body]

    return answer


@pytest.fixture
def site(pool: Pool) -> Site:
    return Site(app_over(pool))


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, site, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def wait(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str
) -> Iterator[Callable[..., Ended]]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("RUNTIME_STORE_URL", address)
    monkeypatch.setenv("RUNTIME_STORE_KEY", READER_KEY)

    def wait(commit: str, *words: str, repository: str = "team", branch: str = "main") -> Ended:
        named = ("--repository", repository, "--branch", branch, "--commit", commit)
        return CommandLine(capsys)("wait", *named, *(words or LONG))

    with log_restored():
        yield wait


def push_of(team: Team, commit: CommitId) -> Event:
    return Event("git.push", repo_id=team.repo_id, updates=(RefUpdate(MAIN, ABSENT, commit),))


def deliver(team: Team, commit: CommitId) -> None:
    team.world.intake.receive(push_of(team, commit), budget())


def test_a_commit_that_is_served_ends_it_at_once(team: Team, site: Site, wait: Callable[..., Ended]) -> None:
    commit = team.git.commit({A: workflow()})
    team.sync()
    ended = wait(commit.upper(), branch="refs/heads/main")
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"team main: {commit[:8]} is served.\n", "")
    assert site.asked[0] == ("/runtimes/team/main", "*")


def test_a_branch_with_slashes_and_an_id_are_found(world: World, wait: Callable[..., Ended]) -> None:
    team = world.repository(branches=("release/1.0",))
    commit = team.git.commit({A: workflow()}, branch="release/1.0")
    team.sync("release/1.0")
    assert wait(commit, repository=team.repo_id, branch="release/1.0").code == 0


def test_it_waits_until_the_commit_is_served(team: Team, site: Site, wait: Callable[..., Ended]) -> None:
    before = team.git.commit({A: workflow(1)})
    team.sync()
    commit = team.git.commit({A: workflow(2)})
    site.before = [lambda: None, team.sync]
    ended = wait(commit)
    assert ended.code == 0
    assert ended.stdout == f"team main: {commit[:8]} is served.\n"
    assert ended.stderr.startswith(f"team main: {commit[:8]} is not served yet (Ready")
    assert f"{before[:8]} is served." in ended.stderr


def test_a_repository_that_its_first_push_registers_is_waited_for(
    world: World, site: Site, wait: Callable[..., Ended]
) -> None:
    commits = []

    def register() -> None:
        team = world.repository("new")
        commits.append(team.git.commit({A: workflow()}))
        team.sync()

    site.before = [lambda: None, register]
    ended = wait("a" * 40, "--timeout", "1", repository="new")
    assert ended.code == 11
    assert "new has no branch main yet, or --repository or --branch is mistaken." in ended.stderr
    assert f"{commits[0][:8]} is served." in ended.stderr


def test_a_commit_that_changes_no_config_is_served_too(team: Team, wait: Callable[..., Ended]) -> None:
    team.git.commit({A: workflow()})
    team.sync()
    commit = team.git.commit({"README.md": b"x"})
    team.sync()
    assert wait(commit).code == 0


def test_a_rejected_commit_ends_it_with_the_findings(team: Team, site: Site, wait: Callable[..., Ended]) -> None:
    good = team.git.commit({A: workflow()})
    team.sync()
    bad = team.git.commit({"b_runtime.yaml": INVALID})
    site.before = [lambda: None, team.sync]
    ended = wait(bad)
    assert ended.code == 1
    first, second = ended.stdout.splitlines()
    assert first == f"team main: {bad[:8]} is rejected; {good[:8]} is served."
    assert second.startswith("b_runtime.yaml:1:")
    assert "runtime-store validate" in ended.stderr


def test_the_first_commit_can_be_rejected(team: Team, wait: Callable[..., Ended]) -> None:
    bad = team.git.commit({A: INVALID})
    team.sync()
    ended = wait(bad, "--json")
    assert ended.code == 1
    assert ended.value["served"] is False
    assert ended.value["branch"]["judged_commit"] == bad
    assert ended.value["branch"]["report"]["findings"]


def test_a_later_commit_that_is_served_in_its_place_is_as_good(team: Team, wait: Callable[..., Ended]) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    ours = team.git.commit({A: workflow(2)})
    later = team.git.commit({A: workflow(3)})
    deliver(team, ours)
    ended = wait(ours)
    assert (ended.code, ended.stdout) == (
        0,
        f"team main: {ours[:8]} is served with {later[:8]}, which came after it.\n",
    )


def test_a_commit_that_was_served_for_a_moment_needs_no_delivery(team: Team, wait: Callable[..., Ended]) -> None:
    ours = team.git.commit({A: workflow(2)})
    team.sync()
    team.git.commit({A: workflow(3)})
    team.sync()
    assert wait(ours).code == 0


def test_a_rejected_commit_that_a_later_one_mends_is_served_with_it(team: Team, wait: Callable[..., Ended]) -> None:
    ours = team.git.commit({A: INVALID})
    team.sync()
    team.git.commit({A: workflow()})
    team.sync()
    assert wait(ours).code == 0


def test_a_later_commit_that_is_rejected_keeps_it_back(team: Team, wait: Callable[..., Ended]) -> None:
    ours = team.git.commit({A: workflow(2)})
    later = team.git.commit({A: INVALID})
    deliver(team, ours)
    ended = wait(ours)
    assert ended.code == 1
    assert f"{later[:8]}, which came after it, is rejected; nothing is served." in ended.stdout


def test_an_older_commit_is_not_taken_for_a_later_one(team: Team, wait: Callable[..., Ended]) -> None:
    """A sync that asked for the head just before the push ends after the push."""
    team.git.commit({A: workflow(1)})
    team.sync()
    calls, pushed, codes = team.world.git, [], []

    def push() -> None:
        pushed.append(team.git.commit({A: workflow(2)}))
        delivery = Delivery(uuid4(), Decision.REQUESTED, push_of(team, pushed[0]))
        team.world.queue.request(delivery, team.repo_id, [MAIN])

    def look() -> None:
        codes.append(wait(pushed[0], "--timeout", "0").code)

    calls.after["head"].append(push)
    calls.before["head"].append(lambda: calls.before["head"].append(look))
    team.sync()
    assert codes == [11]
    assert wait(pushed[0]).code == 0


def test_a_branch_that_was_deleted_serves_nothing_any_more(team: Team, wait: Callable[..., Ended]) -> None:
    ours = team.git.commit({A: workflow(1)})
    team.sync()
    team.git.delete("main")
    team.sync()
    ended = wait(ours)
    assert ended.code == 1
    assert "the branch was deleted" in ended.stdout


# -- When it cannot be known -----------------------------------------------------------------------------------------


def test_the_time_that_is_over_has_a_code_of_its_own(team: Team, wait: Callable[..., Ended]) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    for seconds in ("0", "1"):
        ended = wait("a" * 40, "--timeout", seconds)
        assert (ended.code, ended.stdout) == (11, "")
        assert f"team main: aaaaaaaa is not served after {seconds} s." in ended.stderr
        assert "GET /repositories/team" in ended.stderr


def test_a_service_that_is_down_is_asked_again(team: Team, site: Site, wait: Callable[..., Ended]) -> None:
    commit = team.git.commit({A: workflow(1)})
    team.sync()
    site.instead = [
        answering("503 X", Retry_After="1"),
        answering("500 X", b'{"detail": "The database did not answer."}', Retry_After="soon"),
        answering("429 X", Retry_After=formatdate(time(), usegmt=True)),
    ]
    ended = wait(commit)
    assert ended.code == 0
    assert "answers 503" in ended.stderr
    assert "answers 500: The database did not answer." in ended.stderr
    assert len(site.instead) == 0


def test_it_is_left_alone_for_as_long_as_it_asks(site: Site, wait: Callable[..., Ended]) -> None:
    site.instead = [answering("503 X", Retry_After="3600")]
    ended = wait("a" * 40, "--timeout", "30")
    assert ended.code == 11
    assert len(site.asked) == 1


def test_it_tells_how_long_it_waited_and_what_it_was_asked(site: Site, wait: Callable[..., Ended]) -> None:
    site.instead = [answering("503 X", Retry_After="3600")]
    ended = wait("a" * 40, "--timeout", "30")
    assert "is not served after 0 s, and the service asked to come back after 3600 s" in ended.stderr


def test_it_never_asks_before_a_retry_after_is_over(site: Site, wait: Callable[..., Ended]) -> None:
    site.instead = [answering("503 X", Retry_After="2")]
    assert wait("a" * 40, "--timeout", "1").code == 11
    assert len(site.asked) == 1


@pytest.mark.parametrize("told", ["Sat, 01 Jan 99999999999999 00:00:00 GMT", "9" * 400, "-1"])
def test_an_absurd_retry_after_is_no_defect(site: Site, wait: Callable[..., Ended], told: str) -> None:
    site.instead = [answering("503 X", Retry_After=told)]
    assert wait("a" * 40, "--timeout", "0").code == 11


def test_an_answer_that_breaks_off_is_asked_for_again(team: Team, site: Site, wait: Callable[..., Ended]) -> None:
    commit = team.git.commit({A: workflow(1)})
    team.sync()
    answer = answering("200 OK", b'{"status": [', Content_Type="application/json", Content_Length="4000")
    site.instead = [site.app, answer, answering("408 Request Timeout")]
    ended = wait(commit)
    assert ended.code == 0
    assert "broke its answer off" in ended.stderr
    assert "answers 408" in ended.stderr


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_a_service_that_drips_is_given_up_when_the_time_is_over(wait: Callable[..., Ended], head: bytes) -> None:
    with dripping(head) as address:
        began = monotonic()
        ended = wait("a" * 40, "--url", address, "--timeout", "1")
    assert ended.code == 11
    assert "did not answer in time" in ended.stderr
    assert monotonic() - began < 15


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """An address that answers `head`, and then something now and then for 30 seconds."""
    released = threading.Event()

    class Drip(StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.wfile.write(head)
                for _ in range(300):
                    if not released.wait(0.1):
                        self.wfile.write(b"X: y\r\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Drip) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        released.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "-1", "86401"])
def test_a_time_that_is_none_is_a_misuse(wait: Callable[..., Ended], seconds: str) -> None:
    assert wait("a" * 40, "--timeout", seconds).code == 2


def test_an_address_where_nobody_listens_is_said(wait: Callable[..., Ended]) -> None:
    ended = wait("a" * 40, "--url", "http://127.0.0.1:9", "--timeout", "0")
    assert ended.code == 11
    assert "http://127.0.0.1:9 cannot be reached: " in ended.stderr


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "wants a key, or another one"),
        ("wrong-key-0123456789-0123456789-0123", "wants a key, or another one"),
        (HOOK_KEY, "does not let this key read"),
    ],
)
def test_a_key_that_may_not_read_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch, wait: Callable[..., Ended], key: str | None, said: str
) -> None:
    monkeypatch.delenv("RUNTIME_STORE_KEY") if key is None else monkeypatch.setenv("RUNTIME_STORE_KEY", key)
    ended = wait("a" * 40)
    assert ended.code == 6
    assert said in ended.stderr
    assert "Set RUNTIME_STORE_KEY" in ended.stderr
    assert key is None or key not in ended.stderr


def test_an_admin_key_reads_too(monkeypatch: pytest.MonkeyPatch, team: Team, wait: Callable[..., Ended]) -> None:
    commit = team.git.commit({A: workflow()})
    team.sync()
    monkeypatch.setenv("RUNTIME_STORE_KEY", ADMIN_KEY)
    assert wait(commit).code == 0


@pytest.mark.parametrize("around", ["{}\n", "\r\n{}", " {}\t"])
def test_white_space_around_a_key_is_none_of_it(
    monkeypatch: pytest.MonkeyPatch, team: Team, wait: Callable[..., Ended], around: str
) -> None:
    commit = team.git.commit({A: workflow()})
    team.sync()
    monkeypatch.setenv("RUNTIME_STORE_KEY", around.format(READER_KEY))
    assert wait(commit).code == 0


@pytest.mark.parametrize(
    "key", ["secret\nsecret", "secret secret", "secr\xe9t-secret", "secret-\u20ac", "$(secret\nx)"]
)
@pytest.mark.parametrize("more", [(), ("--debug",)])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, wait: Callable[..., Ended], key: str, more: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RUNTIME_STORE_KEY", key)
    ended = wait("a" * 40, *LONG, *more)
    assert ended.code == 2
    assert "RUNTIME_STORE_KEY holds white space or a character outside ASCII" in ended.stderr
    assert "secr" not in ended.stderr


def test_a_variable_that_the_pipeline_does_not_have_is_said(
    monkeypatch: pytest.MonkeyPatch, wait: Callable[..., Ended]
) -> None:
    monkeypatch.setenv("RUNTIME_STORE_KEY", "$(runtimeStoreKey)")
    ended = wait("a" * 40)
    assert ended.code == 2
    assert "the pipeline has no such variable" in ended.stderr


def test_the_key_is_no_option(wait: Callable[..., Ended]) -> None:
    assert wait("a" * 40, "--key", READER_KEY).code == 2


@pytest.mark.parametrize(
    "answer",
    [
        answering("302 Found", Location="https://login.example.com/"),
        answering("200 OK", b"<html>Sign in</html>", Content_Type="text/html"),
        answering("410 Gone"),
        answering("404 Not Found", b"<html>", Content_Type="text/html"),
        answering("404 Not Found"),
    ],
)
def test_something_else_at_the_address_ends_it(site: Site, wait: Callable[..., Ended], answer: Handler) -> None:
    site.instead = [answer]
    ended = wait("a" * 40)
    assert ended.code == 2
    assert "does not answer as Runtime Store does" in ended.stderr
    assert "--url" in ended.stderr
    assert len(site.asked) == 1


REPORT = {"rejects": False, "count": 0, "findings": [], "omitted": 0}
BRANCH = {
    "branch": "main", "commit_id": None, "judged_commit": "b" * 40, "report": REPORT, "finished": 1, "syncing": False,
    "condition": "Ready", "reason": "", "message": "",
}  # fmt: skip
DELIVERY: dict[str, object] = {"updates": [], "requests": {}}


@pytest.mark.parametrize(
    "bodies",
    [
        [None],
        [[]],
        [{}],
        ["[" * 200_000],
        [{"status": {}}],
        [{"status": [[]]}],
        [{"status": [{}]}],
        *([{"status": [{name: value for name, value in BRANCH.items() if name != gone}]}] for gone in BRANCH),
        [{"status": [{**BRANCH, "report": {}}]}],
        [{"status": [{**BRANCH, "report": {**REPORT, "rejects": True, "findings": [{}]}}]}],
        [{"status": [{**BRANCH, "finished": "1"}]}],
        [{"status": [BRANCH]}, {}],
        [{"status": [BRANCH]}, [{}]],
        [{"status": [BRANCH]}, [{**DELIVERY, "updates": [1]}]],
        [{"status": [BRANCH]}, [{**DELIVERY, "requests": {"main": "1"}}]],
        [{"status": [BRANCH]}, [DELIVERY], {}],
        [{"status": [BRANCH]}, [DELIVERY], [[]]],
        [{"status": [BRANCH]}, [DELIVERY], [{"outcome": "Unchanged"}]],
    ],
)
def test_an_answer_of_another_form_ends_it(site: Site, wait: Callable[..., Ended], bodies: list[object]) -> None:
    texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    site.instead = [
        answering("304 Not Modified", X_Commit_Id="c" * 40),
        *(answering("200 OK", text.encode(), Content_Type="application/json") for text in texts),
    ]
    ended = wait("a" * 40)
    assert ended.code == 2
    assert "does not answer as Runtime Store does" in ended.stderr
    assert site.instead == []


@pytest.mark.parametrize("named", [{"repository": ""}, {"repository": " "}, {"branch": ""}, {"branch": "refs/heads/"},
                                   {"branch": "refs/pull/7/merge"}])  # fmt: skip
def test_a_repository_and_a_branch_are_named(site: Site, wait: Callable[..., Ended], named: dict[str, str]) -> None:
    ended = wait("a" * 40, **named)
    assert ended.code == 2
    assert "--repository is empty" in ended.stderr or "is no branch" in ended.stderr
    assert site.asked == []


@pytest.mark.parametrize("commit", ["HEAD", "a" * 39, "$(Build.SourceVersion)"])
def test_a_commit_is_named_by_its_whole_id(wait: Callable[..., Ended], commit: str) -> None:
    ended = wait(commit)
    assert ended.code == 2
    assert "is no commit id" in ended.stderr


def test_a_key_leaves_this_machine_encrypted_only() -> None:
    assert parsed_url("https://contoso.example.com/") == "https://contoso.example.com"
    for url in ("http://contoso.example.com", "contoso.example.com", "https://me:pw@contoso.example.com"):
        with pytest.raises(InvalidRequest, match="--url must be an https URL"):
            parsed_url(url)


def test_an_address_has_no_path_and_a_host_that_can_be_one() -> None:
    with pytest.raises(InvalidRequest, match="without a path") as caught:
        parsed_url("https://contoso.example.com/api")
    assert "https://contoso.example.com," in (caught.value.hint or "")
    with pytest.raises(InvalidRequest, match="--url names a host that cannot be one"):
        parsed_url(f"https://{'a' * 64}.example.com")
