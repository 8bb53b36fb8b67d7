"""What `Organisation` makes of every answer, through the real SDK, and how long it takes for it."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator, Fault, HostedRepository
from emulators.azure_devops.answers import HTML, Answer
from emulators.azure_devops.faults import Misbehaviour
from emulators.azure_devops.server import Server
from support.tls import Authority

from shared.azure_devops import client, transport
from shared.azure_devops.client import Organisation
from shared.azure_devops.trouble import NotFound
from shared.errors import (
    RepositoryRefused,
    SourceError,
    SourceFailed,
    SourceRefused,
    SourceThrottled,
)
from shared.model import Deadline

NEWER = "Bearer newer-token"
Ask = Callable[[Organisation, HostedRepository], object]


@pytest.fixture
def hosted(emulator: Emulator) -> HostedRepository:
    hosted = emulator.repository("etl", "orders")
    hosted.git.commit({"a.yaml": "a: 1", "b.yaml": "b: 1"})
    return hosted


@pytest.fixture
def organisation(emulator: Emulator) -> Organisation:
    return to(emulator)


def to(emulator: Emulator, **options: Any) -> Organisation:
    known = {"authorization": lambda: EMULATOR_AUTHORIZATION, "timeout": timedelta(seconds=20), **options}
    return Organisation(emulator.url, **known)


def soon(seconds: float = 20) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds))


def refs(organisation: Organisation, hosted: HostedRepository, deadline: Deadline | None = None) -> Any:
    with organisation.git(deadline or soon()) as git:
        return git.get_refs(hosted.id, filter="heads/")


def archive(organisation: Organisation, hosted: HostedRepository, deadline: Deadline | None = None) -> bytes:
    """A POST that reads."""
    blob = hosted.git.blob_id("main", "a.yaml")
    with organisation.git(deadline or soon()) as git, git.get_blobs_zip([blob], hosted.id) as file:
        read: bytes = file.read()
        return read


def post_status(organisation: Organisation, hosted: HostedRepository) -> object:
    """A POST that changes something."""
    from azure.devops.v7_1.git.models import GitStatus, GitStatusContext

    status = GitStatus(state="succeeded", description="14 configs", context=GitStatusContext("test", "store"))
    with organisation.git(soon()) as git:
        return git.create_commit_status(status, hosted.git.head("main"), hosted.id)


def failure(ask: Callable[[], object]) -> SourceError:
    with pytest.raises(SourceError) as raised:
        ask()
    return raised.value


def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def routes(emulator: Emulator) -> list[str]:
    return [call.route for call in emulator.calls]


# -- Good answers ----------------------------------------------------------------------------------------------------


def test_answers_are_parsed_json_and_downloads_are_files(organisation: Organisation, hosted: HostedRepository) -> None:
    assert [ref["name"] for ref in refs(organisation, hosted)] == ["refs/heads/main"]
    assert archive(organisation, hosted).startswith(b"PK")


def test_service_hooks_are_the_models_of_the_sdk(organisation: Organisation) -> None:
    with organisation.hooks(soon()) as hooks:
        assert hooks.list_subscriptions() == []


def test_where_things_are_is_asked_once_by_all_threads(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository
) -> None:
    emulator.latency = 0.02
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: refs(organisation, hosted), range(16)))

    assert answers == [answers[0]] * 16
    assert routes(emulator) == ["options"] + ["refs"] * 16


def test_where_things_are_is_not_kept_from_an_organisation_that_was_at_the_same_address(tmp_path: Path) -> None:
    with Emulator(tmp_path / "first") as emulator:
        hosted = emulator.repository("etl", "orders")
        assert refs(to(emulator), hosted) == []
    with Emulator(tmp_path / "second", port=emulator.port) as other:
        assert refs(to(other), other.repository("etl", "orders")) == []
        assert routes(other) == ["options", "refs"]


def test_one_connection_serves_one_thread(
    emulator: Emulator, hosted: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    accept = Server.process_request

    def counted(server: Server, request: socket.socket, address: object) -> None:
        opened.append(address)
        accept(server, request, address)

    monkeypatch.setattr(Server, "process_request", counted)
    organisation = to(emulator)
    for _ in range(5):
        refs(organisation, hosted)
        archive(organisation, hosted)
    emulator.misbehave(Fault.NOT_FOUND)
    failure(lambda: refs(organisation, hosted))

    assert len(emulator.calls) == 12
    assert len(opened) == 1


def test_nothing_is_written_to_the_home_of_the_process(
    emulator: Emulator, hosted: HostedRepository, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    script = (
        "from datetime import timedelta\n"
        "from shared.azure_devops.client import Organisation\n"
        "from shared.model import Deadline\n"
        f"organisation = Organisation({emulator.url!r}, authorization=lambda: {EMULATOR_AUTHORIZATION!r}, "
        "timeout=timedelta(seconds=20))\n"
        "with organisation.git(Deadline.after(timedelta(seconds=20))) as git:\n"
        f"    print(len(git.get_refs({hosted.id!r})))\n"
    )
    environment = {"PATH": os.defpath, "HOME": str(home), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert list(home.iterdir()) == list(temporary.iterdir()) == []


# -- Trouble is told apart -------------------------------------------------------------------------------------------

TROUBLE: dict[str, tuple[Fault, dict[str, Any], type[SourceError], str, str]] = {
    "sign-in": (Fault.SIGN_IN, {}, SourceRefused, "asks to sign in", "personal access token"),
    "redirect": (Fault.REDIRECT, {}, SourceRefused, "asks to sign in", "access level Basic"),
    "html": (Fault.HTML, {}, SourceRefused, "asks to sign in", "personal access token"),
    "unauthorized": (Fault.UNAUTHORIZED, {}, SourceRefused, "401: TF400813", "expired"),
    "not-found": (Fault.NOT_FOUND, {}, RepositoryRefused, "missing, disabled or forbidden", "Code (read)"),
    "forbidden": (Fault.FORBIDDEN, {}, RepositoryRefused, "403: TF401027", "Read on the repository"),
    "throttled": (Fault.THROTTLED, {}, SourceThrottled, "429, too many requests: TF400733", ""),
    "error": (Fault.ERROR, {"status": 500}, SourceFailed, "500: TF400898", "tried again"),
    "bad-gateway": (Fault.ERROR, {"status": 502}, SourceFailed, "answered 502", "tried again"),
    "unavailable": (Fault.ERROR, {"status": 503}, SourceFailed, "answered 503", "tried again"),
    "reset": (Fault.RESET, {}, SourceFailed, "broke its answer off: Connection reset by peer", "tried again"),
    "cut": (Fault.CUT, {}, SourceFailed, "broke its answer off", "tried again"),
}
TRIED_AGAIN = ("error", "bad-gateway", "unavailable", "reset", "cut")


@pytest.mark.parametrize("what", TROUBLE)
@pytest.mark.parametrize(("route", "ask"), [("refs", refs), ("blobs", archive)])
def test_each_trouble_has_its_error_which_says_what_to_do_after_so_many_calls(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository, what: str, route: str, ask: Ask
) -> None:
    fault, details, expected, words, hint = TROUBLE[what]
    emulator.misbehave(fault, route=route, **details)

    error = failure(lambda: ask(organisation, hosted))

    assert type(error) is expected
    assert words in error.message
    assert emulator.url.split("/")[2] in error.message
    assert hint in (error.hint or "")
    assert routes(emulator) == ["options"] + [route] * (3 if what in TRIED_AGAIN else 1)


@pytest.mark.parametrize("what", TROUBLE)
def test_trouble_on_the_first_call_of_all_is_told_apart_too(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository, what: str
) -> None:
    fault, details, expected, _, _ = TROUBLE[what]
    emulator.misbehave(fault, route="options", **details)
    error = failure(lambda: refs(organisation, hosted))
    assert isinstance(error, SourceRefused if what == "forbidden" else expected)

    emulator.behave()
    assert refs(organisation, hosted)


def test_what_is_not_found_in_a_repository_says_nothing_about_the_repository(
    organisation: Organisation, hosted: HostedRepository
) -> None:
    with pytest.raises(NotFound), organisation.git(soon()) as git:
        git.get_commit("12" * 20, hosted.id)


def test_an_organisation_that_is_not_there_is_a_failure(emulator: Emulator, hosted: HostedRepository) -> None:
    url = emulator.url.replace("contoso", "fabrikam")
    organisation = Organisation(url, authorization=lambda: EMULATOR_AUTHORIZATION, timeout=timedelta(seconds=20))
    assert isinstance(failure(lambda: refs(organisation, hosted)), SourceFailed)


def test_a_body_that_is_cut_off_but_framed_as_if_it_were_whole_is_a_failure(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository
) -> None:
    emulator.misbehave(Fault.CUT, route="refs", framed=True)
    error = failure(lambda: refs(organisation, hosted))
    assert type(error) is SourceFailed
    assert "cannot be understood" in error.message


def test_an_answer_of_another_shape_is_a_failure(organisation: Organisation, hosted: HostedRepository) -> None:
    refs(organisation, hosted)
    with pytest.raises(SourceFailed, match="cannot be understood: KeyError"), organisation.git(soon()) as git:
        git.get_repository(hosted.id)["treeEntries"]


def test_a_redirect_to_another_host_is_not_followed(
    emulator: Emulator, hosted: HostedRepository, tmp_path: Path
) -> None:
    with Emulator(tmp_path / "elsewhere") as elsewhere:
        organisation = Organisation(
            elsewhere.url, authorization=lambda: EMULATOR_AUTHORIZATION, timeout=timedelta(seconds=20)
        )
        assert refs(organisation, elsewhere.repository("etl", "orders")) == []
        with pytest.raises(SourceFailed, match="another address"):
            organisation.send("GET", f"{emulator.url}/_apis/projects", {}, None, soon())
    assert emulator.calls == []


# -- Tried again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "details"), [(Fault.ERROR, {"status": 503}), (Fault.RESET, {}), (Fault.CUT, {})])
@pytest.mark.parametrize(("route", "ask"), [("refs", refs), ("blobs", archive)])
def test_what_breaks_once_is_tried_again_also_when_it_is_a_post(
    emulator: Emulator,
    organisation: Organisation,
    hosted: HostedRepository,
    fault: Fault,
    details: dict[str, Any],
    route: str,
    ask: Ask,
) -> None:
    emulator.misbehave(fault, route=route, times=2, **details)

    assert ask(organisation, hosted)
    assert routes(emulator) == ["options", *[route] * 3]


@pytest.mark.parametrize(("fault", "details"), [(Fault.ERROR, {"status": 503}), (Fault.RESET, {}), (Fault.CUT, {})])
def test_what_changes_something_is_sent_once(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository, fault: Fault, details: dict[str, Any]
) -> None:
    emulator.misbehave(fault, route="statuses", times=1, **details)

    assert type(failure(lambda: post_status(organisation, hosted))) is SourceFailed
    assert routes(emulator) == ["options", "statuses"]
    assert post_status(organisation, hosted)


@pytest.mark.parametrize("status", [429, 503])
def test_an_answer_that_asks_to_come_later_is_not_tried_again_now(
    emulator: Emulator,
    organisation: Organisation,
    hosted: HostedRepository,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = Answer(status, b"", HTML, {"Retry-After": "17"})
    monkeypatch.setattr(Misbehaviour, "instead", lambda self, repository: later)
    emulator.misbehave(Fault.ERROR, route="refs")
    error = failure(lambda: refs(organisation, hosted))
    assert isinstance(error, SourceThrottled)
    assert error.retry_after == timedelta(seconds=17)
    assert routes(emulator) == ["options", "refs"]


# -- Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "details"),
    [
        (Fault.HANG, {}),
        (Fault.SLOW, {"seconds": 30.0}),
        (Fault.SLOW, {"seconds": 30.0, "drip": True}),
        (Fault.SLOW, {"seconds": 4.0, "drip": True}),
    ],
    ids=["hang", "slow", "stall", "drip"],
)
@pytest.mark.parametrize(("route", "ask"), [("refs", refs), ("blobs", archive)])
def test_no_call_outlasts_its_deadline(
    emulator: Emulator,
    organisation: Organisation,
    hosted: HostedRepository,
    fault: Fault,
    details: dict[str, Any],
    route: str,
    ask: Callable[[Organisation, HostedRepository, Deadline], object],
) -> None:
    refs(organisation, hosted)
    emulator.misbehave(fault, route=route, **details)
    started = time.monotonic()

    error = failure(lambda: ask(organisation, hosted, soon(0.3)))

    assert 0.2 < time.monotonic() - started < 3.5
    assert "did not answer within" in error.message


def test_a_body_that_stalls_late_has_only_what_is_left(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository
) -> None:
    refs(organisation, hosted)
    emulator.misbehave(Fault.SLOW, seconds=20.0, drip=True)
    started = time.monotonic()

    # A piece comes after a second, and the next too late.
    failure(lambda: refs(organisation, hosted, soon(1.2)))
    assert time.monotonic() - started < 1.8


def test_each_user_of_a_client_has_a_deadline_and_pages_of_its_own(
    organisation: Organisation, hosted: HostedRepository
) -> None:
    hosted.git.commit({"a.yaml": "a: 1"}, branch="other")
    with organisation.git(soon()) as one, organisation.git(soon(0)) as late:
        assert len(one.get_refs(hosted.id, top=1)) == 1
        assert one.continuation
        assert late.continuation is None
        with pytest.raises(SourceFailed, match="No time was left"):
            late.get_refs(hosted.id)


def test_no_call_outlasts_the_longest_one(emulator: Emulator, hosted: HostedRepository) -> None:
    organisation = to(emulator, timeout=timedelta(seconds=0.3))
    refs(organisation, hosted)
    emulator.misbehave(Fault.HANG)
    started = time.monotonic()

    assert "did not answer within" in failure(lambda: refs(organisation, hosted)).message
    assert time.monotonic() - started < 10


def test_nothing_is_tried_again_without_time_for_it(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository
) -> None:
    refs(organisation, hosted)
    emulator.forget_calls()
    emulator.misbehave(Fault.ERROR, status=503)

    # The pause before the third try is longer than what is left.
    failure(lambda: refs(organisation, hosted, soon(0.3)))
    assert routes(emulator) == ["refs", "refs"]


def test_a_thread_waits_for_the_answer_to_another_only_as_long_as_it_may(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository
) -> None:
    emulator.misbehave(Fault.HANG, route="options")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(failure, lambda: refs(organisation, hosted, soon(3.0)))
        while not emulator.calls:
            threading.Event().wait(0.01)
        assert "No time was left" in failure(lambda: refs(organisation, hosted, soon(0.1))).message
        assert not first.done()
        assert "did not answer within" in first.result().message


def test_an_answer_without_end_is_given_up(
    organisation: Organisation, hosted: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs(organisation, hosted)
    monkeypatch.setattr(transport, "LARGEST_TEXT", 100)
    assert "larger than" in failure(lambda: refs(organisation, hosted)).message
    monkeypatch.setattr(transport, "LARGEST_DOWNLOAD", 100)
    assert "larger than" in failure(lambda: archive(organisation, hosted)).message


# -- Being asked to slow down ----------------------------------------------------------------------------------------


def test_an_answer_that_asks_to_slow_down_is_used_and_the_next_call_refused_at_once(
    emulator: Emulator, hosted: HostedRepository
) -> None:
    told: list[timedelta] = []
    organisation = to(emulator, slow_down=told.append)
    emulator.misbehave(Fault.SLOW_DOWN, route="refs", retry_after=25)
    assert refs(organisation, hosted)
    assert told == [timedelta(seconds=25)]

    started = time.monotonic()
    error = failure(lambda: archive(organisation, hosted))
    assert time.monotonic() - started < 10
    assert isinstance(error, SourceThrottled)
    assert timedelta(seconds=20) < error.retry_after <= timedelta(seconds=25)
    assert routes(emulator) == ["options", "refs"]


def test_an_allowance_that_is_used_up_is_heeded_without_retry_after(
    emulator: Emulator, hosted: HostedRepository
) -> None:
    told: list[timedelta] = []
    organisation = to(emulator, slow_down=told.append)
    emulator.misbehave(Fault.SLOW_DOWN, route="refs", retry_after=None)
    assert refs(organisation, hosted)
    assert [timedelta(seconds=50) < pause <= timedelta(seconds=61) for pause in told] == [True]


def test_a_short_wish_is_waited_for(
    emulator: Emulator, organisation: Organisation, hosted: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "wish", lambda headers: timedelta(seconds=0.2))
    assert refs(organisation, hosted)
    started = time.monotonic()
    assert refs(organisation, hosted)
    assert 0.1 < time.monotonic() - started < 10

    # Unless there is no time for it.
    assert isinstance(failure(lambda: refs(organisation, hosted, soon(0.1))), SourceThrottled)


# -- Credentials -----------------------------------------------------------------------------------------------------


def test_the_token_is_asked_for_every_request(emulator: Emulator, hosted: HostedRepository) -> None:
    tokens = [f"Bearer token-{number}" for number in range(3)]
    emulator.credentials |= set(tokens)
    left = iter(tokens)
    organisation = to(emulator, authorization=lambda: next(left))
    refs(organisation, hosted)
    refs(organisation, hosted)
    assert [call.headers["authorization"] for call in emulator.calls] == tokens


@pytest.mark.parametrize("fault", [Fault.SIGN_IN, Fault.REDIRECT, Fault.HTML, Fault.UNAUTHORIZED])
def test_a_refusal_asks_for_newer_credentials_and_tries_once_more(
    emulator: Emulator, hosted: HostedRepository, fault: Fault
) -> None:
    emulator.credentials.add(NEWER)
    organisation = to(emulator, renewed=lambda: NEWER)
    refs(organisation, hosted)
    emulator.forget_calls()
    emulator.misbehave(fault, times=1)
    assert refs(organisation, hosted)
    assert [call.headers["authorization"] for call in emulator.calls] == [EMULATOR_AUTHORIZATION, NEWER]

    emulator.forget_calls()
    emulator.misbehave(fault)
    assert type(failure(lambda: refs(organisation, hosted))) is SourceRefused
    assert len(emulator.calls) == 2


@pytest.mark.parametrize("newer", [None, EMULATOR_AUTHORIZATION])
def test_credentials_that_are_no_newer_are_not_tried_again(
    emulator: Emulator, hosted: HostedRepository, newer: str | None
) -> None:
    organisation = to(emulator, renewed=lambda: newer)
    emulator.misbehave(Fault.UNAUTHORIZED)
    failure(lambda: refs(organisation, hosted))
    assert len(emulator.calls) == 1


def test_a_refused_repository_is_no_reason_to_renew(emulator: Emulator, hosted: HostedRepository) -> None:
    emulator.credentials.add(NEWER)
    asked: list[str] = []
    organisation = to(emulator, renewed=lambda: asked.append("renewed") or NEWER)  # type: ignore[func-returns-value]
    emulator.misbehave(Fault.NOT_FOUND, route="refs")
    failure(lambda: refs(organisation, hosted))
    assert asked == []


@pytest.mark.parametrize("what", TROUBLE)
def test_no_message_and_no_log_holds_a_secret(
    emulator: Emulator,
    organisation: Organisation,
    hosted: HostedRepository,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    fault, details, *_ = TROUBLE[what]
    emulator.misbehave(fault, route="refs", **details)
    error = failure(lambda: refs(organisation, hosted))

    told = "".join([*traceback.format_exception(error), error.hint or "", caplog.text])
    assert EMULATOR_AUTHORIZATION not in told
    assert EMULATOR_AUTHORIZATION.split()[1] not in told
    assert "<html" not in told


# -- TLS and the way there -------------------------------------------------------------------------------------------


def test_a_certificate_that_nobody_vouches_for_is_a_failure_until_its_authority_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    emulator = Emulator(tmp_path)
    server = emulator._server
    server.socket = authority.context("127.0.0.1").wrap_socket(server.socket, server_side=True)
    with emulator:
        emulator.url = emulator.url.replace("http:", "https:")
        hosted = emulator.repository("etl", "orders")
        error = failure(lambda: refs(to(emulator), hosted))
        assert type(error) is SourceFailed
        assert "is not trusted: unable to get local issuer certificate" in error.message
        assert "REQUESTS_CA_BUNDLE" in (error.hint or "")
        assert emulator.calls == []

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
        assert refs(to(emulator), hosted) == []


def test_the_proxy_of_the_environment_is_used_and_named_when_it_does_not_work(
    emulator: Emulator, hosted: HostedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://somebody:proxy-secret@127.0.0.1:{unused_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    error = failure(lambda: refs(to(emulator), hosted))
    assert type(error) is SourceFailed
    assert "proxy" in error.message
    assert "HTTPS_PROXY" in (error.hint or "")
    assert "proxy-secret" not in "".join(traceback.format_exception(error))

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert refs(to(emulator), hosted)


def test_a_host_that_is_not_there_is_a_failure(hosted: HostedRepository) -> None:
    nobody = f"http://127.0.0.1:{unused_port()}/contoso"
    organisation = Organisation(nobody, authorization=lambda: "Basic x", timeout=timedelta(seconds=20))
    error = failure(lambda: refs(organisation, hosted))
    assert type(error) is SourceFailed
    assert "cannot be connected to" in error.message
    assert "firewall" in (error.hint or "")
