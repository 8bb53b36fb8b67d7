"""The scripts that bring an environment to Azure: the commands of Azure's tools are recorded, what is ours runs.

`az` and `func` are stand-ins that write down how they were called, and answer what a deployment answered.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator
from psycopg.conninfo import conninfo_to_dict
from support.functions import functions
from support.git import environment as git_environment
from support.processes import started
from support.web import HOOK_KEY, READER_KEY

from shared.cli.program import program
from shared.settings import DatabaseLogin, load

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "pipelines" / "deploy"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripts are Bash, as the agents are Linux")
OUTPUTS = {
    "appObjectId": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
    "appRole": "runtime-store-dev",
    "branches": "dev",
    "databaseHost": "contoso.postgres.database.azure.com",
    "databaseName": "runtime_store",
    "databaseOwner": "Owners of Runtime Store",
    "databaseServerId": "/subscriptions/1/servers/contoso",
    "environmentName": "dev",
    "functionAppName": "runtime-store-dev-abc",
    "organizationUrl": "https://dev.azure.com/contoso",
    "url": "https://runtime-store-dev-abc.azurewebsites.net",
    "vaultUrl": "https://rs-abc.vault.azure.net/",
}
STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["STAND_INS"])
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps([name, *words]) + "\\n")
if words[:3] == ["deployment", "group", "show"]:
    output = words[words.index("--query") + 1].split(".")[2]
    print(json.loads((folder / "outputs").read_text())[output])
elif words[:3] == ["functionapp", "function", "list"]:
    if (starting := folder / "starting").exists():
        starting.unlink()
        sys.exit("Service Unavailable")
    print((folder / "functions").read_text(), end="")
elif name == "runtime-store":
    (folder / "environment").write_text(json.dumps(dict(os.environ)))
    sys.exit(int((folder / "exit").read_text()))
"""


class Agent:
    """A machine with the tools on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = FOLDER
        self._path = folder / "bin"
        self._path.mkdir()
        self.say(outputs=json.dumps(OUTPUTS), functions="app/webhook\napp/config_api\napp/reconcile\n", exit="0")
        self.put("sleep", "#!/bin/sh\n")
        for name in ("az", "func", "runtime-store"):
            self.put(name, STAND_IN)

    def put(self, name: str, text: str) -> None:
        path = self._path / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def say(self, **answers: str) -> None:
        for name, answer in answers.items():
            (self.folder / name).write_text(answer, encoding="utf-8")

    def runs(self, script: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """As Azure Pipelines does it: Bash is given the path."""
        environ = {
            **git_environment(),
            "PATH": f"{self._path}{os.pathsep}{os.environ['PATH']}",
            "STAND_INS": str(self.folder),
            **variables,
        }
        command = ["bash", str(self.scripts / script), *words]
        return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=self.folder, check=False)

    def calls(self) -> Sequence[Sequence[str]]:
        """All but the questions for outputs."""
        lines = (self.folder / "calls").read_text(encoding="utf-8").splitlines()
        return [call for call in map(json.loads, lines) if call[:4] != ["az", "deployment", "group", "show"]]

    def environment(self) -> Mapping[str, str]:
        """What our command was given."""
        return json.loads((self.folder / "environment").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    folder = tmp_path / "agent"
    folder.mkdir()
    return Agent(folder)


@pytest.mark.parametrize("script", sorted(path.name for path in FOLDER.glob("*.sh") if path.name != "outputs.sh"))
def test_a_script_without_its_group_says_how_it_is_called(agent: Agent, script: str) -> None:
    done = agent.runs(script)
    assert done.returncode != 0
    assert "RESOURCE_GROUP" in done.stderr


@pytest.mark.parametrize("environment", ["dev", "acc", "prod"])
def test_the_resources_are_made_from_files_that_are_there(agent: Agent, environment: str) -> None:
    assert agent.runs("infrastructure.sh", "rg", environment).returncode == 0
    ((*command, _, _),) = agent.calls()
    named = dict(zip(command[4::2], command[5::2], strict=True))
    assert command[:4] == ["az", "deployment", "group", "create"]
    assert (named["--resource-group"], named["--name"]) == ("rg", "runtime-store")
    assert (ROOT / "infra" / named["--template-file"]).is_file()
    assert (ROOT / "infra" / named["--parameters"].removeprefix("@")).is_file()


class TestMigrating:
    def test_it_is_done_as_the_owner_for_the_apps_identity_while_the_firewall_is_open(self, agent: Agent) -> None:
        done = agent.runs("migrate.sh", "rg", OPERATE_FROM="192.0.2.7")
        assert done.returncode == 0, done.stderr
        opened, (command, name, *words), closed = agent.calls()
        assert (opened[1:3], closed[1:3]) == (["resource", "create"], ["resource", "delete"])
        rule = opened[opened.index("--id") + 1]
        assert rule.startswith("/subscriptions/1/servers/contoso/firewallRules/operate-")
        assert closed[closed.index("--ids") + 1] == rule
        assert json.loads(opened[opened.index("--properties") + 1]) == {
            "startIpAddress": "192.0.2.7", "endIpAddress": "192.0.2.7",
        }  # fmt: skip
        assert command == "runtime-store"
        given = program.commands[name].make_context(name, list(words)).params
        assert (given["app_role"], given["app_identity"]) == (OUTPUTS["appRole"], OUTPUTS["appObjectId"])
        settings = load(agent.environment())
        assert settings.database_login is DatabaseLogin.ENTRA
        assert (settings.environment, settings.branches) == ("dev", ("dev",))
        assert settings.key_vault_url == "https://rs-abc.vault.azure.net"
        assert settings.azure_devops_organization == OUTPUTS["organizationUrl"]
        assert settings.public_url == OUTPUTS["url"]
        assert conninfo_to_dict(agent.environment()["DATABASE_URL"]) == {
            "host": OUTPUTS["databaseHost"], "port": "5432", "dbname": "runtime_store",
            "user": "Owners of Runtime Store", "sslmode": "verify-full",
        }  # fmt: skip

    def test_a_failure_is_the_scripts_and_the_firewall_is_closed_all_the_same(self, agent: Agent) -> None:
        agent.say(exit="8")
        assert agent.runs("migrate.sh", "rg", OPERATE_FROM="192.0.2.7").returncode == 8
        assert agent.calls()[-1][1:3] == ["resource", "delete"]

    def test_it_runs_from_an_artifact_which_has_no_executable_bits(self, agent: Agent) -> None:
        agent.scripts = agent.folder / "artifact"
        shutil.copytree(FOLDER, agent.scripts, copy_function=shutil.copyfile)
        assert agent.runs("migrate.sh", "rg", OPERATE_FROM="").returncode == 0
        assert [call[0] for call in agent.calls()] == ["runtime-store"]

    def test_an_agent_in_the_network_opens_nothing(self, agent: Agent) -> None:
        assert agent.runs("migrate.sh", "rg", OPERATE_FROM="").returncode == 0
        assert [call[0] for call in agent.calls()] == ["runtime-store"]


class TestPublishing:
    def test_the_functions_that_azure_found_are_compared(self, agent: Agent) -> None:
        done = agent.runs("publish.sh", "rg")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "runtime-store-dev-abc has the functions config_api reconcile webhook.\n"
        assert agent.calls()[0] == ["func", "azure", "functionapp", "publish", "runtime-store-dev-abc", "--python"]

    def test_an_app_that_is_still_starting_is_asked_again(self, agent: Agent) -> None:
        agent.say(starting="")
        done = agent.runs("publish.sh", "rg")
        assert done.returncode == 0, done.stderr
        assert [call[0] for call in agent.calls()] == ["func", "az", "az"]

    def test_an_app_that_lost_its_functions_is_a_failure(self, agent: Agent) -> None:
        agent.say(functions="")
        done = agent.runs("publish.sh", "rg")
        assert done.returncode == 1
        assert "has the functions '' instead of 'config_api reconcile webhook'" in done.stderr

    def test_they_are_the_functions_of_this_app(self) -> None:
        assert f'expected="{" ".join(sorted(functions()))}"' in (FOLDER / "publish.sh").read_text(encoding="utf-8")


class TestSmoke:
    """Against a running server, with an emulated organization that tells it of pushes."""

    @pytest.fixture
    def emulator(self, tmp_path: Path) -> Iterator[Emulator]:
        with Emulator(tmp_path / "organization") as emulator:
            yield emulator

    @pytest.fixture
    def probe(self, emulator: Emulator, agent: Agent, database: str) -> Iterator[Mapping[str, str]]:
        """The variables of a run, while all that they name is there."""
        repository = emulator.repository("platform", "probe")
        repository.git.commit({"README.md": b"A probe"})
        settings = {
            "DATABASE_URL": database,
            "READER_KEYS": f"smoke={READER_KEY}",
            "WEBHOOK_SECRET": HOOK_KEY,
            "AZURE_DEVOPS_ORGANIZATION": emulator.url,
            "AZURE_DEVOPS_PAT": "emulator-personal-access-token",
        }
        # The command itself, in place of what only writes down.
        agent.put("runtime-store", f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m shared "$@"\n')
        with started("shared", "serve", "--port", "0", "--no-timer", environment=settings) as server:
            url = server.says(r"Runtime Store is at (http://\S+)")
            emulator.subscribe(f"{url}/webhooks/azure-devops", basicAuthUsername="hook", basicAuthPassword=HOOK_KEY)
            agent.say(outputs=json.dumps({**OUTPUTS, "url": url}))
            yield {
                "PROBE_URL": repository.web_url, "PROBE_NAME": "probe", "PROBE_BRANCH": "main",
                "RUNTIME_STORE_KEY": READER_KEY, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: {EMULATOR_AUTHORIZATION}",
            }  # fmt: skip

    def test_a_commit_that_is_pushed_now_is_served(self, agent: Agent, probe: Mapping[str, str]) -> None:
        done = agent.runs("smoke.sh", "rg", **probe)
        assert done.returncode == 0, done.stderr
        assert "/health" in done.stdout
        assert done.stdout.rstrip().endswith("is served.")

    def test_a_key_that_is_refused_is_a_failure(self, agent: Agent, probe: Mapping[str, str]) -> None:
        done = agent.runs("smoke.sh", "rg", **{**probe, "RUNTIME_STORE_KEY": "not-a-key-" * 4})
        assert done.returncode != 0
        assert "RUNTIME_STORE_KEY" in done.stderr


def test_bash_takes_every_script() -> None:
    bash = shutil.which("bash")
    assert bash
    for path in sorted(FOLDER.glob("*.sh")):
        assert subprocess.run([bash, "-n", str(path)], check=False).returncode == 0
        assert os.access(path, os.X_OK) == (path.name != "outputs.sh")
