"""The demo, started for real in a folder of its own, and used as a newcomer would."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import demos
from support.demos import ITEM, run, servers, typed
from support.processes import eventually, started

from examples import embedded_postgres
from examples.service_hook import push_event
from shared.azure_devops.events import decode
from shared.model import ABSENT, BranchName, CommitId, Event, RefUpdate


class Demo(demos.Demo):
    def commit(self, *words: str) -> tuple[str, str]:
        """The commit's short id, and what the hook said."""
        said = self.git("commit", "--quiet", "--all", "--message=Change", *words)
        return self.head()[:8], said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for demos, with a space in its name; its data may have had to be kept elsewhere."""
    folder = tmp_path_factory.mktemp("a demo")
    yield folder
    embedded_postgres.remove(folder / "postgres")


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    embedded_postgres.remove(tmp_path / "postgres")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Iterator[Demo]:
    with started("examples.demo", "--folder", str(folder), "--port", "0") as program:
        yield Demo(folder, program)
        assert program.ends(signal.SIGINT) == 0
        assert "Stopped. The data is kept" in program.output
    assert servers(folder) == []


def test_it_says_what_it_did_and_what_to_try(demo: Demo) -> None:
    demo.program.says(r"Ctrl-C stops everything")
    output = demo.program.output
    for step in ("PostgreSQL, embedded", "Schema", "Sample repository", "Register and sync"):
        assert f"  {step} " in output
    assert "7 configs" in output
    assert "release/1.0@" in output


def test_the_five_commands_do_what_is_said_as_they_are_printed(demo: Demo) -> None:
    commands = demo.commands()
    (undo,) = re.findall(r"with `(.+)`\. Ctrl-C", demo.program.output)
    said = [typed(command) for command in (*commands, undo)]
    listed, item, changed, mistaken, status, undone = said
    assert [len(json.loads(listed)), json.loads(item)["workflow"]["id"]] == [7, "sales_customers"]
    assert re.search(r"main@[0-9a-f]{8} is served: 7 configs \(1 written", changed)
    assert re.search(r'"description": "Changed at \d\d:\d\d:\d\d"', changed)
    assert "enabled must be true or false" in mistaken
    assert "Still served: main@" in mistaken
    assert re.search(r"^sample +main +Invalid ", status, re.MULTILINE)
    assert "is served: 7 configs" in undone


def test_both_branches_are_served_and_differ(demo: Demo) -> None:
    main = {one["filepath"] for one in demo.read("/runtimes/sample/main")}
    release = {one["filepath"] for one in demo.read("/runtimes/sample/release/1.0")}
    assert len(main) == 7
    assert main - release == {"sales/orders/orders_runtime.yaml"}
    assert release < main


def test_a_commit_is_served_when_git_returns(demo: Demo) -> None:
    demo.write(demo.described(), "Newest of all")
    commit, said = demo.commit()
    assert f"runtime-store: main@{commit} is served: 7 configs (1 written, 0 removed), generation " in said
    assert demo.described() == "Newest of all"


def test_a_mistake_is_told_with_its_place_and_what_is_served_stays(demo: Demo) -> None:
    before = demo.read(f"/runtimes/sample/main/{ITEM}")
    served = demo.read("/repositories/sample")["status"][0]["commit_id"]
    demo.write("\n  enabled: true", "\n  enabled: perhaps")
    commit, said = demo.commit()
    lines = said.splitlines()
    assert f"runtime-store: main@{commit} is rejected, in " in lines[0]
    assert f"  {ITEM}:4:12: error: enabled must be true or false" in lines[1]
    assert lines[2] == f"runtime-store:   Still served: main@{served[:8]}, 7 configs"
    assert demo.read(f"/runtimes/sample/main/{ITEM}") == before
    assert "is served: 7 configs" in demo.git("revert", "--no-edit", "HEAD")


def test_status_is_one_command_away(demo: Demo, folder: Path) -> None:
    done = run(folder, "status", "sample")
    assert done.returncode == 0
    assert [line.split()[1:3] for line in done.stdout.splitlines()[1:3]] == [
        ["main", "Ready"],
        ["release/1.0", "Ready"],
    ]
    assert run(folder, "sync", "nope").returncode == 3


def test_every_way_to_move_a_branch_is_told_once(demo: Demo, tmp_path: Path) -> None:
    demo.write(demo.described(), "To be amended")
    demo.commit()
    demo.write("To be amended", "Amended")
    assert "main@" in demo.commit("--amend")[1]
    assert demo.described() == "Amended"
    old = demo.git("rev-parse", "release/1.0").strip()
    said = demo.git("branch", "--delete", "--force", "release/1.0")
    assert said.count("runtime-store: ") == 1
    assert "release/1.0 is gone, and nothing of it is served any more" in said
    assert demo.git("pack-refs", "--all") == ""
    assert f"release/1.0@{old[:8]} is served: 6 configs (6 written" in demo.git("branch", "release/1.0", old)
    assert "feature is not served; these branches are: main, release/1.0" in demo.git("branch", "feature")
    clone = tmp_path / "clone"
    demo.git("clone", "--quiet", str(demo.repository), str(clone))
    (clone / ITEM).unlink()
    person = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    demo.git(*person, "commit", "--quiet", "--all", "--message=Remove", cwd=clone)
    assert "is served: 6 configs (0 written, 1 removed)" in demo.git("push", cwd=clone)
    assert "is served: 7 configs (1 written, 0 removed)" in demo.git(
        "push", "--force", "origin", "HEAD~1:main", cwd=clone
    )
    assert not (clone / ITEM).exists()
    demo.git("reset", "--hard", "--quiet")


def test_a_second_demo_says_where_the_first_one_is(demo: Demo, folder: Path) -> None:
    done = run(folder, "--port", "0")
    assert done.returncode == 1
    assert f"The demo is running already, at {demo.url}." in done.stderr
    assert f"kill {demo.program.pid}" in done.stderr


def test_a_port_in_use_is_said(demo: Demo, tmp_path: Path) -> None:
    port = demo.url.rpartition(":")[2]
    done = run(tmp_path, "--port", port)
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use." in done.stderr
    assert "choose another --port" in done.stderr


def test_nobody_else_can_read_the_keys(demo: Demo, folder: Path) -> None:
    for name in ("keys.json", "running.json"):
        assert (folder / "demo" / name).stat().st_mode & 0o077 == 0
    assert json.loads((folder / "demo" / "keys.json").read_text())["webhook"] not in demo.program.output


def test_what_was_kept_is_there_again_also_after_a_kill(own_folder: Path) -> None:
    words = ("examples.demo", "--folder", str(own_folder), "--port", "0")
    with started(*words) as program:
        first = Demo(own_folder, program)
        first.write(first.described(), "Kept")
        first.commit()
        generation = first.read("/repositories/sample")["status"][0]["generation"]
        os.kill(program.pid, signal.SIGKILL)
        program.ends()
    left = servers(own_folder)
    assert left
    assert "It will find this change when it starts" in first.git(
        "commit", "--quiet", "--allow-empty", "--message=Alone"
    )
    with started(*words) as program:
        second = Demo(own_folder, program)
        assert servers(own_folder) == left
        status = second.read("/repositories/sample")["status"][0]
        assert (second.described(), status["generation"]) == ("Kept", generation)
        assert status["commit_id"] == second.git("rev-parse", "main").strip()
        assert program.ends(signal.SIGTERM) == 0
    assert servers(own_folder) == []
    assert "is not running. It will find" in second.git("commit", "--quiet", "--allow-empty", "--message=Alone")
    with started(*words, "--fresh") as program:
        third = Demo(own_folder, program)
        assert third.described() != "Kept"
        assert third.read("/repositories/sample")["status"][0]["generation"] != generation
        assert program.ends(signal.SIGTERM) == 0


def test_it_can_be_interrupted_while_it_starts(own_folder: Path) -> None:
    with started("examples.demo", "--folder", str(own_folder), "--port", "0") as program:
        program.says("the demo")
        eventually(lambda: list(own_folder.glob("postgres")), "the start of PostgreSQL")
        assert program.ends(signal.SIGINT) == 0, program.output
    assert servers(own_folder) == []


def test_the_hook_sends_what_a_service_hook_sends() -> None:
    old, new = CommitId("1" * 40), CommitId("2" * 40)
    event = decode(json.dumps(push_event([(old, new, "main"), (old, ABSENT, "release/1.0")], [])).encode())
    assert isinstance(event, Event)
    assert event.problem is None
    assert (event.event_type, event.is_test, event.repository, event.project) == ("git.push", False, "sample", "demo")
    assert event.organisation == "https://dev.azure.com/demo"
    assert event.updates == (
        RefUpdate(BranchName("main"), old, new),
        RefUpdate(BranchName("release/1.0"), old, ABSENT),
    )
