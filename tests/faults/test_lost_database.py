"""A database that is gone costs one sweep: all it holds is in Git, but for the registry, which a command restores."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from emulators.azure_devops import Emulator
from support.cli import CommandLine, log_restored
from support.web import Api
from support.world import INVALID, workflow

from shared import bootstrap
from shared.postgres.migrate import migrate

A = "a-runtime.yaml"
READER = "a-reader-key-of-thirty-two-characters"
PAT = "emulator-personal-access-token"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "organization") as emulator:
        yield emulator


@pytest.fixture
def cli(
    own_database: str, emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommandLine]:
    settings = {
        "DATABASE_URL": own_database,
        "AZURE_DEVOPS_ORGANIZATION": emulator.url,
        "AZURE_DEVOPS_PAT": PAT,
        "READER_KEYS": f"test={READER}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with log_restored():
        yield CommandLine(capsys)


def lose(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    migrate(conninfo)


def test_it_is_whole_again_after_one_sweep(
    own_database: str, cli: CommandLine, emulator: Emulator, tmp_path: Path
) -> None:
    orders = emulator.repository("data", "orders")
    orders.git.commit({A: workflow(1)})
    jobs = emulator.repository("data", "jobs")
    jobs.git.commit({"etl/" + A: workflow(2), A: INVALID}, branch="release/1.0")
    assert cli("register", orders.web_url).code == 0
    assert cli("register", jobs.web_url, "--branch", "release/1.0", "--root", "etl", "--name", "our-jobs").code == 0

    def read() -> dict[str, tuple[str, object]]:
        """The ETag and the configs of every list, by its address."""
        with closing(bootstrap.build()) as app:
            api = Api(app.wsgi, READER)
            answers: dict[str, Any] = {
                path: api.get(path) for path in ("/runtimes/orders/main", "/runtimes/our-jobs/release/1.0")
            }
        assert {answer.status_code for answer in answers.values()} == {200}
        return {
            path: (answer.headers["ETag"], {one["filepath"]: (one["blob_id"], one["config"]) for one in answer.json})
            for path, answer in answers.items()
        }

    assert cli("reconcile").code == 0
    before = read()
    kept = tmp_path / "kept.json"
    kept.write_text(cli("repositories", "--json").stdout, encoding="utf-8")

    lose(own_database)
    assert json.loads(cli("repositories", "--json").stdout) == []
    ended = cli("restore", str(kept))
    assert (ended.code, ended.stdout) == (0, "2 repositories registered.\n")
    assert cli("reconcile").code == 0
    after = read()
    assert [configs for _, configs in after.values()] == [configs for _, configs in before.values()]
    # A client's copy of before is not taken for one of after.
    assert all(after[path][0] > before[path][0] for path in before)


def test_restoring_twice_changes_nothing(cli: CommandLine, emulator: Emulator, tmp_path: Path) -> None:
    hosted = emulator.repository("data", "orders")
    assert cli("register", hosted.web_url, "--suspend", "not yet").code == 0
    kept = tmp_path / "kept.json"
    kept.write_text(cli("repositories", "--json").stdout, encoding="utf-8")
    assert cli("restore", str(kept)).code == 0
    assert cli("repositories", "--json").stdout == kept.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "1", "[1]", '[{"name": "x"}]', '"x"'])
def test_a_file_that_holds_no_repositories_is_told(cli: CommandLine, tmp_path: Path, text: str) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(text, encoding="utf-8")
    ended = cli("restore", str(kept))
    assert ended.code == 2
    assert "does not hold repositories" in ended.stderr
