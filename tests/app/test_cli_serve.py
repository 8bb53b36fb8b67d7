"""`runtime-store serve`: a real server in a process of its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from urllib.request import urlopen

import pytest
from support.processes import eventually, started
from support.world import Team, workflow

ADDRESS = r"Runtime Store is at (http://\S+)"


@pytest.fixture
def environment(database: str) -> Mapping[str, str]:
    return {"DATABASE_URL": database, "READ_ACCESS": "anonymous"}


def read(url: str) -> Any:
    with urlopen(url, timeout=30) as response:  # noqa: S310
        return json.load(response)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_ends_well(environment: Mapping[str, str], number: signal.Signals) -> None:
    with started("shared", "serve", "--port", "0", environment=environment) as server:
        url = server.says(ADDRESS)
        assert read(f"{url}/livez") == {"status": "ok"}
        assert server.ends(number) == 0
        assert server.output.endswith("Stopped.\n")
        assert "Traceback" not in server.output


SWALLOWED = """
import os, signal, sys, time
from shared.cli.serve import ending_on_signals
with ending_on_signals(again=0.1):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except BaseException:
        pass  # as an extension module does that clears errors
    os.kill(os.getpid(), signal.SIGINT)  # a second Ctrl-C is not what ends it
    time.sleep(60)
    sys.exit(3)
os.kill(os.getpid(), signal.SIGINT)
print("ended")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process of Windows cannot send itself Ctrl-C")
def test_a_signal_that_was_swallowed_comes_again() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def test_the_timer_runs_beside_it(environment: Mapping[str, str], team: Team) -> None:
    team.git.commit({"a-runtime.yaml": workflow()})
    with started("shared", "serve", "--port", "0", environment=environment) as server:
        url = server.says(ADDRESS)
        eventually(team.served, "the sync by the timer")
        assert [one["filepath"] for one in read(f"{url}/runtimes/team/main")] == ["a-runtime.yaml"]
        assert server.ends(signal.SIGTERM) == 0


def test_the_timer_can_be_left_to_others(environment: Mapping[str, str], team: Team) -> None:
    with started("shared", "serve", "--port", "0", "--no-timer", environment=environment) as server:
        url = server.says(ADDRESS)
        assert read(f"{url}/health")["sweep_age_seconds"] is None
        assert server.ends(signal.SIGTERM) == 0
    assert team.world.sweeps.age() is None


def test_a_port_in_use_is_said(environment: Mapping[str, str]) -> None:
    with started("shared", "serve", "--port", "0", environment=environment) as first:
        port = first.says(ADDRESS).rpartition(":")[2]
        with started("shared", "serve", "--port", port, environment=environment) as second:
            assert second.ends() == 2
            assert f"Port {port} of 127.0.0.1 is in use." in second.output
            assert "choose another --port" in second.output


def test_a_database_that_is_down_is_said_and_the_server_runs() -> None:
    environment = {"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/nothing", "READ_ACCESS": "anonymous"}
    with started("shared", "serve", "--port", "0", environment=environment) as server:
        url = server.says(ADDRESS)
        server.says("The sweep failed error=The database did not answer. hint=Check DATABASE_URL")
        assert read(f"{url}/livez") == {"status": "ok"}
        assert server.ends(signal.SIGTERM) == 0


def test_missing_settings_are_said_at_once() -> None:
    with started("shared", "serve", "--port", "0") as server:
        assert server.ends() == 9
        assert "DATABASE_URL is not set" in server.output
