"""SQL in files: what the loader takes, and what our files never say."""

import re
from pathlib import Path

import pytest

from shared.postgres import statements
from shared.postgres.configs import PostgresConfigReader, PostgresConfigStore
from shared.postgres.journal import PostgresJournal
from shared.postgres.outbox import PostgresOutbox
from shared.postgres.queue import PostgresQueue
from shared.postgres.registry import PostgresRegistry
from shared.postgres.statements import Statements
from shared.postgres.sweeps import PostgresSweeps

ROOM = Path(statements.__file__).parent
FILES = sorted(file.name for file in (ROOM / "queries").glob("*.sql"))
ADAPTERS = (
    PostgresRegistry,
    PostgresQueue,
    PostgresSweeps,
    PostgresConfigStore,
    PostgresConfigReader,
    PostgresJournal,
    PostgresOutbox,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(statements, "_FOLDER", tmp_path)
    return tmp_path


def test_a_statement_reaches_from_its_name_to_the_next(folder: Path) -> None:
    (folder / "x.sql").write_text(
        "-- a preface\n-- name: one\nSELECT 1 -- name: no\n\n-- name: two\n-- why\nSELECT 2\n"
    )
    loaded = Statements("x.sql")
    assert list(loaded) == ["one", "two"]
    assert loaded["one"].strip() == "SELECT 1 -- name: no"
    assert loaded["two"].strip() == "-- why\nSELECT 2"


def test_an_unknown_name_says_which_file(folder: Path) -> None:
    (folder / "x.sql").write_text("-- name: one\nSELECT 1\n")
    with pytest.raises(KeyError, match=r"x\.sql has no statement named 'two'"):
        Statements("x.sql")["two"]


def test_a_file_without_statements_is_an_error(folder: Path) -> None:
    (folder / "x.sql").write_text("SELECT 1\n")
    with pytest.raises(ValueError, match=r"x\.sql"):
        Statements("x.sql")


def test_there_are_files() -> None:
    assert {"configs.sql", "queue.sql", "registry.sql", "journal.sql", "outbox.sql", "sweeps.sql"} == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_every_statement_is_used_and_every_used_one_is_there(file: str) -> None:
    code = (ROOM / file).with_suffix(".py").read_text(encoding="utf-8")
    names = set(Statements(file))
    used = {name for name in re.findall(r'"([a-z_]+)"', code) if name in names}
    assert used == names
    looked_up = set(re.findall(r'_sql\["([a-z_]+)"\]', code))
    assert looked_up <= names


@pytest.mark.parametrize("file", FILES)
def test_statements_are_named_like_the_methods_that_use_them(file: str) -> None:
    methods = {name for adapter in ADAPTERS for name in vars(adapter) if not name.startswith("_")}
    named = [name for name in Statements(file) if name in methods]
    steps = {"stored_verified", "would_take", "why_not"} | {"lock", "add", "change", "lock_branches", "ask_named"}
    assert set(Statements(file)) - set(named) <= steps | {"drop_unnamed", "unposted", "release"}


@pytest.mark.parametrize("file", FILES)
def test_none_relies_on_a_session(file: str) -> None:
    """Behind a transaction-mode PgBouncer the next statement may run on another connection."""
    for name in Statements(file):
        words = re.sub(r"--.*", "", Statements(file)[name]).upper()
        forbidden = (
            r"^\s*(SET|LISTEN|PREPARE|DECLARE|LOCK|BEGIN|COMMIT)\b|PG_ADVISORY_LOCK|\bTEMP(ORARY)?\b|SET_CONFIG|NEXTVAL"
        )
        assert not re.search(forbidden, words), f"{file}: {name}"


@pytest.mark.parametrize("file", FILES)
def test_time_is_the_time_of_the_clock_not_of_the_transaction(file: str) -> None:
    for name in Statements(file):
        assert not re.search(r"\bnow\(\)|current_timestamp|localtime", Statements(file)[name], re.IGNORECASE), name
