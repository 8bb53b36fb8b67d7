"""The demo with an organisation of Azure DevOps, started for real, and used as a newcomer would."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from support.demos import Demo, run, servers, typed
from support.processes import eventually, started

from examples import embedded_postgres

SOURCE = ("--source", "azure-devops")
ANY_PORT = ("--port", "0", "--organization-port", "0")


def start(folder: Path) -> tuple[str, ...]:
    return ("examples.demo", "--folder", str(folder), *SOURCE, *ANY_PORT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for demos, with a space in its name; their data may have had to be kept elsewhere."""
    folder = tmp_path_factory.mktemp("a demo")
    yield folder
    embedded_postgres.remove(folder / "azure-devops" / "postgres")
    embedded_postgres.remove(folder / "postgres")


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    embedded_postgres.remove(tmp_path / "azure-devops" / "postgres")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Iterator[Demo]:
    with started(*start(folder)) as program:
        yield Demo(folder / "azure-devops", program)
        assert program.ends(signal.SIGINT) == 0
        assert "Stopped. The data is kept" in program.output
    assert servers(folder / "azure-devops") == []


def change(demo: Demo, text: str) -> str:
    """Commit a new description; returns the commit."""
    demo.write(f"\n  description: {demo.described()}", f"\n  description: {text}")
    demo.git("commit", "--quiet", "--all", "--message=Change")
    return demo.head()


def told(demo: Demo, commit: str, state: str = "succeeded") -> str:
    """Wait until the commit shows this state; returns the description."""
    return demo.program.says(rf"A commit shows a status commit={commit[:8]} state={state} description=(.+)\n")


def statuses(demo: Demo) -> list[dict[str, str]]:
    """What the head shows in Azure DevOps, asked for as it is printed."""
    (command,) = (one for one in demo.commands() if "/statuses" in one)
    found: list[dict[str, str]] = json.loads(typed(command))["value"]
    return found


def test_the_commands_do_what_is_said_as_they_are_printed(demo: Demo) -> None:
    listed, push, read, spoil, shown, status, hooks, throttle, behave = demo.commands()
    assert len(json.loads(typed(listed))) == 7
    typed(push)
    assert told(demo, demo.head()) == "7 configs served"
    assert re.search(r'"description": "Changed at \d\d:\d\d:\d\d"', typed(read))
    typed(spoil)
    mistake = demo.head()
    assert "customers_runtime.yaml:4:12: enabled must be true or false" in told(demo, mistake, "failed")
    assert re.search(r'"description": "sales.+:4:12: enabled must be true or false', typed(shown))
    assert re.search(r"^sample +main +Invalid ", typed(status), re.MULTILINE)
    assert '"description": "Changed at' in typed(read)
    assert typed(hooks).count("enabled") == 2
    typed(throttle)
    demo.program.says("A sync failed .+ answers 429")
    assert re.search(r"^sample +main +Throttled ", typed(status), re.MULTILINE)
    assert f"sample main: {demo.head()[:8]} is served" in typed(behave)
    assert demo.head() != mistake


def test_git_push_needs_no_password_and_obeys_nobodys_own_configuration(demo: Demo, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "pre-push"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    asked = tmp_path / "asked"
    own = {
        "commit.gpgSign": "true",
        "gpg.program": "false",
        "core.hooksPath": str(hooks),
        "credential.helper": f"!touch '{asked}'; false",
        "http.proxy": "http://127.0.0.1:1",
        "push.default": "nothing",
        "push.gpgSign": "true",
        "remote.pushDefault": "elsewhere",
    }
    for name, value in own.items():
        demo.git("config", "--file", str(tmp_path / "gitconfig"), name, value)
    proxy = {"http_proxy": "http://127.0.0.1:1", "GIT_TERMINAL_PROMPT": "0"}
    more = {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"), **proxy}
    for branch in ("release/1.0", "main"):
        demo.git("checkout", "--quiet", branch, more=more)
        demo.git("commit", "--quiet", "--allow-empty", "--message=Nothing", more=more)
        demo.git("push", more=more)
        assert "configs served" in told(demo, demo.head())
    assert not asked.exists()
    assert "@" not in demo.git("remote", "get-url", "origin")


def test_both_demos_run_side_by_side_and_commands_find_theirs(demo: Demo, folder: Path) -> None:
    assert run(folder, "hooks", "check").returncode == 0
    with started("examples.demo", "--folder", str(folder), "--port", "0") as program:
        other = Demo(folder, program)
        assert len(other.read("/runtimes/sample/main")) == 7
        assert str(folder) in run(folder, "repositories").stdout
        assert "/contoso" in run(folder, *SOURCE, "repositories").stdout
        assert program.ends(signal.SIGKILL) != 0
    assert "/contoso" in run(folder, "repositories").stdout, "what was killed does not run"
    embedded_postgres.remove(folder / "postgres")
    assert len(demo.read("/runtimes/sample/main")) == 7


def test_a_port_of_the_organization_that_is_in_use_is_said(demo: Demo, tmp_path: Path) -> None:
    port = demo.url.rpartition(":")[2]
    done = run(tmp_path, *SOURCE, "--port", "0", "--organization-port", port)
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1, for the organization" in done.stderr
    assert "choose another --organization-port" in done.stderr


def test_an_unknown_way_to_misbehave_is_answered_with_the_known_ones(demo: Demo) -> None:
    control = demo.git("remote", "get-url", "origin").partition("/contoso")[0]
    with pytest.raises(HTTPError, match="404") as refused:
        urlopen(f"{control}/_misbehave/oddly", data=b"", timeout=30)  # noqa: S310
    with refused.value as answer:
        assert b" throttled " in answer.read()


def test_the_webhook_secret_is_not_shown(demo: Demo, folder: Path) -> None:
    assert json.loads((folder / "azure-devops/demo/keys.json").read_text())["webhook"] not in demo.program.output


def test_what_was_kept_is_there_again_also_after_a_kill(own_folder: Path) -> None:
    data = own_folder / "azure-devops"
    with started(*start(own_folder)) as program:
        first = Demo(data, program)
        kept = change(first, "Kept")
        first.git("push", "--quiet")
        told(first, kept)
        before = statuses(first)
        generation = first.read("/repositories/sample")["status"][0]["generation"]
        os.kill(program.pid, signal.SIGKILL)
        program.ends()
    with started(*start(own_folder)) as program:
        second = Demo(data, program)
        assert (second.described(), statuses(second)) == ("Kept", before)
        assert second.read("/repositories/sample")["status"][0]["generation"] == generation
        assert run(own_folder, "hooks", "check").returncode == 0
        assert program.ends(signal.SIGTERM) == 0
    assert servers(data) == []
    second.write("description: Kept", "description: Pushed while nobody listened")
    second.git("commit", "--quiet", "--all", "--message=Alone")
    second.git("push", "--quiet", str(data / "organization" / "demo" / "sample.git"))
    with started(*start(own_folder)) as program:
        third = Demo(data, program)
        assert third.described() == "Pushed while nobody listened"
        told(third, third.head())
        assert program.ends(signal.SIGTERM) == 0
    with started(*start(own_folder), "--fresh") as program:
        fourth = Demo(data, program)
        assert fourth.described() not in ("Kept", "Pushed while nobody listened")
        told(fourth, fourth.head())
        assert program.ends(signal.SIGTERM) == 0
    assert servers(data) == []


def test_it_can_be_interrupted_while_it_starts(own_folder: Path) -> None:
    with started(*start(own_folder)) as program:
        program.says("the demo")
        eventually(lambda: list(own_folder.glob("azure-devops/postgres")), "the start of PostgreSQL")
        assert program.ends(signal.SIGINT) == 0, program.output
    assert servers(own_folder / "azure-devops") == []
