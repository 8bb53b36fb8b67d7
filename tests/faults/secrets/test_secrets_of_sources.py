"""Secrets stay secret while Azure DevOps or Git is in trouble: looked for in the logs of all libraries at their finest
level, in answers, exceptions with their causes, rows, statuses and command lines."""

import logging
import os
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import pytest
from emulators import identity
from emulators.azure_devops import Emulator, Fault, HostedRepository
from support import git_http
from support.git import environment
from support.leaks import SECRETS, Net, basic, core, listening
from support.processes import eventually
from support.secretive import CLIENT_ID, WRONG_DATABASE, ask, deliver, look_around, payload, settings_for
from support.world import NOT_YAML, workflow

from shared import bootstrap, settings
from shared.bootstrap import App
from shared.local_git.source import LocalGitSource
from shared.model import BranchName, Deadline, Registration, RepoId, Repository, SourceName


@pytest.mark.parametrize(
    "told",
    [
        SECRETS["pat"],
        SECRETS["pat"].upper(),
        quote(SECRETS["pat"]),
        basic("", SECRETS["pat"]),
        basic("me", SECRETS["pat"]),
        basic("someone", SECRETS["pat"]),
        repr({"key": SECRETS["pat"]}),
        SECRETS["pat"][::-1],
        f"it ends with {core('pat')}",
    ],
)
def test_the_net_catches_a_secret_in_every_form(told: str, caplog: pytest.LogCaptureFixture) -> None:
    net, log = Net(), logging.getLogger("somebody.elses")
    with listening(net):
        log.debug("in a message: %s", told)
        log.debug("beside it", extra={"deep": {"within": [told]}})
        try:
            try:
                raise KeyError(told)
            except KeyError as error:
                raise ValueError("something else") from error
        except ValueError:
            log.exception("behind it")
    assert net.leaks() == {("pat", "log somebody.elses")}
    for level in ("message", "beside", "behind"):
        one = Net()
        with listening(one):
            if level == "message":
                log.debug(told)
            elif level == "beside":
                log.debug("x", extra={"data": told})
            else:
                log.debug("x", exc_info=KeyError(told))
        assert one.leaks(), level


DETAILS: Mapping[Fault, dict[str, Any]] = {
    Fault.SLOW: {"seconds": 1.2},
    Fault.THROTTLED: {"retry_after": 0},
    Fault.SLOW_DOWN: {"retry_after": 0},
}


def through(net: Net, app: App, hosted: HostedRepository, emulator: Emulator, *, is_slow: bool) -> None:
    """Every way by which the organisation is asked for something."""
    deliver(net, app, payload(hosted.id, emulator))
    if not is_slow:
        address = hosted.web_url.replace("://", f"://me:{quote(SECRETS['source'])}@")
        ask(net, app, "PUT", "/repositories/another", json={"name": "another", "source": address})
        ask(net, app, "POST", "/repositories/orders/sync?branch=main&dry_run=true")
        with app.pool.connection() as connection:
            connection.execute("UPDATE sources SET paused_until = clock_timestamp()")
        net.failing("sweep", app.sweep)
        net.failing("heads", lambda: app.registrar.locate(address))
    look_around(net, app, "orders")


@pytest.mark.parametrize(
    ("fault", "sign_in"),
    [*((fault, "pat") for fault in Fault), *((fault, "token") for fault in (Fault.UNAUTHORIZED, Fault.FORBIDDEN))],
)
def test_a_fault_of_the_organisation_lets_nothing_out(
    net: Net, emulator: Emulator, endpoint: identity.Identity, database: str, fault: Fault, sign_in: str
) -> None:
    is_slow = fault in (Fault.SLOW, Fault.HANG, Fault.CUT, Fault.RESET, Fault.ERROR)
    with_token = {"AZURE_DEVOPS_PAT": "", "AZURE_CLIENT_ID": CLIENT_ID, "IDENTITY_ENDPOINT": endpoint.url}
    environ = settings_for(database, emulator, **(with_token if sign_in == "token" else {}))
    hosted = emulator.repository("data", "orders")
    hosted.git.commit({"a-runtime.yaml": workflow(1), "b-runtime.yaml": NOT_YAML})
    emulator.pushed(hosted)
    with closing(bootstrap.build(environ)) as app:
        source = SourceName(emulator.url)
        app.registrar.put(RepoId(hosted.id), Registration("orders", source, ()), expected=None)
        emulator.misbehave(fault, **DETAILS.get(fault, {}))
        through(net, app, hosted, emulator, is_slow=is_slow)
        if not is_slow:
            # And where only the contents, or only the statuses, are in trouble.
            for route in ("blobs", "statuses"):
                emulator.behave()
                emulator.misbehave(fault, route=route, **DETAILS.get(fault, {}))
                ask(net, app, "POST", "/repositories/orders/sync?deep=true")
    net.rows(database)
    net.note("statuses", hosted.statuses)
    net.note("addresses", *(call.path for call in emulator.calls))
    sent = {call.headers.get("authorization") for call in emulator.calls if call.route != "sign_in"}
    assert sent <= {*emulator.credentials, None}
    net.holds("log shared", "table deliveries", "table syncs", "addresses")


def test_a_proxy_that_does_not_work_lets_nothing_out(
    net: Net, emulator: Emulator, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://me:{quote(SECRETS['proxy'])}@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    hosted = emulator.repository("data", "orders")
    with closing(bootstrap.build(settings_for(database, emulator))) as app:
        app.registrar.put(RepoId(hosted.id), Registration("orders", SourceName(emulator.url), ()), expected=None)
        through(net, app, hosted, emulator, is_slow=False)
    assert emulator.calls == []
    net.rows(database)


def registered(source: str) -> Repository:
    registration = Registration("team", SourceName(source), (BranchName("main"),))
    now = datetime.now(UTC)
    return Repository(RepoId("team"), registration, 1, now, now)


@pytest.mark.parametrize(
    "said",
    [
        "fatal: unable to access '{url}': The requested URL returned error: 403",
        "fatal: Authentication failed for '{url}'",
        "remote: moved to {url}\nfatal: unable to update url base from redirection: {url}",
        "fatal: repository '{url}' not found",
        "error: {url} and {url}",
    ],
)
def test_what_git_says_is_told_without_the_credentials_of_its_urls(
    net: Net, database: str, tmp_path: Path, said: str
) -> None:
    """A helper's, a rewritten URL's, a redirect's: the source itself has none."""
    url = f"https://me:{SECRETS['source']}@git.example.com/x.git"
    script = tmp_path / "bin" / "git"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\ncat >&2 <<'END'\n" + said.format(url=url) + "\nEND\nexit 128\n")
    script.chmod(0o755)
    environ = settings_for(database, PATH=f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    with closing(bootstrap.build(environ)) as app:
        source = SourceName("https://git.example.com/x.git")
        app.registrar.put(RepoId("team"), Registration("team", source, ()), expected=None)
        ask(net, app, "POST", "/repositories/team/sync")
        net.failing("sweep", app.sweep)
        look_around(net, app, "team")
    net.rows(database)
    net.holds("table syncs", "log shared.sync")


@pytest.mark.parametrize(
    "source",
    [
        f"https://me:{SECRETS['source']}@git.example.com/x.git",
        f"http://{SECRETS['source']}@127.0.0.1:1/x.git",
        f"ssh://me:{SECRETS['source']}@127.0.0.1:1/x.git",
        f"git://me:{SECRETS['source']}@127.0.0.1:1/x.git",
        f"file://me:{SECRETS['source']}@server/x.git",
        f"ftp://me:{SECRETS['source']}@server/x.git",
        f"https://me:{SECRETS['source']}@{SECRETS['source-tail']}@git.example.com/x.git",
    ],
)
def test_a_source_with_credentials_is_refused_everywhere_and_given_to_no_process(
    net: Net, database: str, source: str
) -> None:
    with closing(bootstrap.build(settings_for(database))) as app:
        body = {"name": "team", "source": source}
        assert ask(net, app, "PUT", "/repositories/team", json=body).status_code == 400
        # In the database of before, or of somebody with psql.
        app.registrar.put(RepoId("team"), Registration("team", SourceName("/nowhere"), ()), expected=None)
        with app.pool.connection() as connection:
            connection.execute("UPDATE repositories SET source = %s", (source,))
        assert ask(net, app, "POST", "/repositories/team/sync").status_code == 502
        net.failing("sweep", app.sweep)
        look_around(net, app, "team")
        with app.pool.connection() as connection:
            connection.execute("UPDATE repositories SET source = ''")
            connection.execute("DELETE FROM sources")
    net.rows(database)
    net.holds("table syncs", "log shared.sync", "POST")


def test_no_process_of_git_is_given_a_secret(net: Net, database: str, tmp_path: Path) -> None:
    """Its command line is in the list of processes, and its environment goes to whatever it starts."""
    environ = settings_for(database, None, **environment())
    parsed = settings.load({**environ, "DATABASE_URL": WRONG_DATABASE})
    git = LocalGitSource(timeout=timedelta(seconds=20), environment=parsed.process)
    with git_http.serving(tmp_path) as host:
        host.hangs = True
        repository = registered(f"{host.url}/team.git")
        asking = threading.Thread(
            target=lambda: net.failing("git", lambda: git.heads(repository, Deadline.after(timedelta(seconds=20))))
        )
        asking.start()
        eventually(lambda: host.requests, "git's question")
        children = psutil.Process().children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                net.note("process", child.cmdline(), child.environ())
        host.released.set()
        asking.join()
    net.holds("process", "git")


def test_a_url_with_credentials_is_not_given_to_git_at_all(net: Net, tmp_path: Path) -> None:
    """Which would hand it to its transport on the command line."""
    git = LocalGitSource(timeout=timedelta(seconds=20), environment=environment())
    with git_http.serving(tmp_path) as host:
        url = host.url.replace("://", f"://me:{SECRETS['source']}@")
        net.failing("git", lambda: git.heads(registered(f"{url}/team.git"), Deadline.after(timedelta(seconds=20))))
        assert host.requests == []
    net.holds("git")
