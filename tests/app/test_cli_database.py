"""`runtime-store migrate`."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from support import postgres
from support.cli import CommandLine, log_restored

from shared.postgres.migrate import REQUIRED_VERSION, read_migrations


@pytest.fixture
def empty_database(postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with postgres_server.clone("template1") as conninfo:
        monkeypatch.setenv("DATABASE_URL", conninfo)
        yield conninfo


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with log_restored():
        yield CommandLine(capsys)


def test_what_is_pending_runs_once(cli: CommandLine, empty_database: str) -> None:
    names = [f"{one.version:04}_{one.name}" for one in read_migrations()]
    first = cli("migrate", "--json")
    assert first.code == 0
    assert first.value == {"ran": names, "version": REQUIRED_VERSION, "app_role": None}
    second = cli("migrate")
    assert second.code == 0
    assert second.stdout == f"The schema is at version {REQUIRED_VERSION}, as it was.\n"


def test_each_migration_that_ran_is_named(cli: CommandLine, empty_database: str) -> None:
    assert "Ran 0001_" in cli("migrate").stdout


def test_a_role_that_does_not_exist_is_a_misuse_and_changes_nothing(cli: CommandLine, empty_database: str) -> None:
    ended = cli("migrate", "--app-role", "nobody_has_this")
    assert ended.code == 2
    assert "nobody_has_this" in ended.stderr
    assert "Ran 0001_" in cli("migrate").stdout


def test_the_apps_role_gets_its_rights(cli: CommandLine, empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE ROLE cli_test_app LOGIN")
        try:
            ended = cli("migrate", "--app-role", "cli_test_app")
            row = connection.execute(
                "SELECT has_table_privilege('cli_test_app', 'runtime_configs', 'INSERT')"
            ).fetchone()
            assert row == (True,)
            assert "cli_test_app may do what the app needs." in ended.stdout
        finally:
            connection.execute("DROP OWNED BY cli_test_app")
            connection.execute("DROP ROLE cli_test_app")


def test_it_waits_for_a_server_as_long_as_it_was_told(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres@127.0.0.1:1/nothing")
    started = time.monotonic()
    assert cli("migrate").code == 8
    at_once = time.monotonic() - started
    assert cli("migrate", "--wait", "0.6").code == 8
    assert time.monotonic() - started - at_once >= 0.6


def test_an_identity_needs_the_name_of_its_role(cli: CommandLine, empty_database: str) -> None:
    ended = cli("migrate", "--app-identity", "6f9619ff-8b86-d011-b42d-00c04fc964ff")
    assert ended.code == 2
    assert "--app-identity needs --app-role" in ended.stderr
