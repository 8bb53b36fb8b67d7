"""Connections that end in the middle of a sync or a delivery, and statements that the server ends itself."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from support.cutting import Wire, wired
from support.killing import pushed, stepping
from support.processes import eventually
from support.stores import PATIENCE, Store, started
from support.world import MAIN, Team, World, budget, workflow

from shared.errors import DatabaseUnavailable, SourceFailed
from shared.model import Condition, Failed, Replaced, Trigger
from shared.postgres.pool import Pool
from shared.postgres.statements import Statements
from shared.rules import Rules

A, B = "a_runtime.yaml", "b_runtime.yaml"
OURS = "datname = current_database() AND application_name = 'runtime-store'"
RULES = Rules.shipped()


class Step:
    """Does something at one of the steps, by its number."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at: int | None = None
        self.do: Callable[[], object] = lambda: None

    def __call__(self, name: str) -> None:
        self.names.append(name)
        if self.at == len(self.names) - 1:
            self.do()

    def begin(self, at: int | None) -> None:
        self.names, self.at = [], at


def heal(world: World) -> None:
    """Leases and back-offs end, and the timer comes."""
    world.execute("UPDATE branches SET lease_until = clock_timestamp() - interval '1 second'")
    world.let_back_off_pass()
    world.sweep()


def end_connections(store: Store) -> None:
    """As a failover does."""
    store.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
    eventually(lambda: store.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}") == [(0,)], "their end")


@pytest.fixture
def near(database: str, tmp_path: Path) -> Iterator[Team]:
    """A team whose world has two connections."""
    with closing(Pool(database, size=2)) as pool:
        yield World(pool, tmp_path, rules=RULES).repository()


def test_a_sync_whose_connections_are_ended_at_any_step_ends_once(near: Team, database: str) -> None:
    team, world = near, near.world
    store = Store(world.pool, database)
    team.git.commit({A: workflow(0), B: workflow(0)})
    team.sync()
    step = Step()
    step.do = lambda: end_connections(store)
    stepping(world, RULES, step)

    def sync(number: int, at: int | None) -> Any:
        team.git.commit({A: workflow(number), B: None if number % 2 else workflow(number)})
        team.ask()
        with world.pool.connection(), world.pool.connection():
            pass  # Both are open.
        step.begin(at)
        return team.run()

    assert isinstance(sync(1, None), Replaced)
    names = list(step.names)
    for at in range(len(names)):
        number = at + 2
        told = f"ended before {names[at]}, step {at}"
        outcome = sync(number, at)
        ended = team.outcomes()
        wanted = {A: f"workflow-{number}", **({} if number % 2 else {B: f"workflow-{number}"})}
        assert isinstance(outcome, Replaced | Failed), told
        step.begin(None)
        if isinstance(outcome, Failed):
            assert outcome.error.message == "The database did not answer.", told
            assert team.numbers() != wanted, told
            heal(world)
            assert team.outcomes() == [*ended, "replaced"], told
        assert team.numbers() == wanted, told
        assert not team.status().is_waiting, told
    assert team.outcomes().count("replaced") == len(names) + 2
    assert "failed" in team.outcomes()


@pytest.fixture
def wire(database: str) -> Iterator[Wire]:
    with wired(database) as wire:
        yield wire


@pytest.fixture
def far(wire: Wire, tmp_path: Path) -> Iterator[Team]:
    """A team whose world reaches the database through the wire."""
    # Nothing is prepared, so that the text of each statement is on the wire.
    with closing(Pool(wire.conninfo, transaction_pooler=True)) as pool:
        yield World(pool, tmp_path, rules=RULES).repository()


def text_of(file: str, name: str) -> str:
    """What is on the wire of this statement: its beginning, up to the first value."""
    text = Statements(file)[name]
    return str(text).partition("%")[0].strip()[:120]


WRITES = [
    ("queue.sql", "claim"),
    ("queue.sql", "renew"),
    ("configs.sql", "replace"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("file", "name"), WRITES)
def test_a_write_that_is_cut_off_is_done_once(far: Team, wire: Wire, file: str, name: str, when: str) -> None:
    far.git.commit({A: workflow(1), B: workflow(2)})
    far.sync()
    head = far.git.commit({A: workflow(11), B: None})
    far.ask()
    wire.cut(when, text_of(file, name))
    outcome = far.run()
    assert wire.was_cut
    if (name, when) == ("replace", "after"):
        assert isinstance(outcome, Replaced), "the journal tells that it was done"
        assert (outcome.commit_id, outcome.written, outcome.removed) == (head, 1, 1)
    else:
        assert isinstance(outcome, Failed)
        assert far.numbers() == {A: "workflow-1", B: "workflow-2"}
        heal(far.world)
    assert far.numbers() == {A: "workflow-11"}
    assert not far.status().is_waiting
    # Without a claim there is no sync that could have failed.
    failed = [] if name == "claim" or isinstance(outcome, Replaced) else ["failed"]
    assert far.outcomes() == ["replaced", *failed, "replaced"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failure_that_is_cut_off_is_told_once(far: Team, wire: Wire, when: str) -> None:
    far.drop()
    wire.cut(when, text_of("queue.sql", "settle"))
    outcome = far.run()
    assert isinstance(outcome, Failed)
    # What was written down is the outcome; else it is what kept it from being written.
    assert type(outcome.error) is (SourceFailed if when == "after" else DatabaseUnavailable)
    assert wire.was_cut
    assert far.outcomes() == ["failed"]
    assert far.status().is_waiting
    far.restore()
    far.git.commit({A: workflow(1)})
    heal(far.world)
    assert far.numbers() == {A: "workflow-1"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delivery_that_is_cut_off_works_the_second_time(far: Team, wire: Wire, when: str) -> None:
    old = far.git.commit({A: workflow(1)})
    far.sync()
    new = far.git.commit({A: workflow(2)})
    wire.cut(when, text_of("queue.sql", "request"))
    with pytest.raises(DatabaseUnavailable):
        far.world.intake.receive(pushed(far.repo_id, old, new), budget())
    assert wire.was_cut
    assert far.status().is_waiting == (when == "after"), "what was recorded is done, whoever asks again"
    receipt = far.world.intake.receive(pushed(far.repo_id, old, new), budget())
    assert isinstance(receipt.outcomes[MAIN], Replaced)
    assert far.numbers() == {A: "workflow-2"}
    assert not far.status().is_waiting
    assert far.outcomes() == ["replaced", "replaced"]


class TestTimeouts:
    """The server gives a statement up itself, by the settings of the app's role."""

    @pytest.fixture
    def team(self, own_database: str, tmp_path: Path) -> Iterator[Team]:
        with closing(Pool(own_database)) as pool:
            yield World(pool, tmp_path, rules=RULES).repository()

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("lock_timeout", "The database is busy: canceling statement due to lock timeout"),
            ("statement_timeout", "The database took too long: canceling statement due to statement timeout"),
        ],
    )
    def test_a_replace_that_takes_too_long_fails_with_its_cause(
        self, team: Team, own_database: str, setting: str, message: str
    ) -> None:
        team.git.commit({A: workflow(1), B: workflow(2)})
        team.sync()
        head = team.git.commit({A: workflow(11), B: workflow(12)})
        with closing(psycopg.connect(own_database, autocommit=True)) as admin:
            database = sql.Identifier(str(conninfo_to_dict(own_database)["dbname"]))
            admin.execute(sql.SQL("ALTER DATABASE {} SET {} = '300ms'").format(database, sql.SQL(setting)))
        with closing(Pool(own_database)) as pool, Store(pool, own_database).transaction() as person:
            world = World(pool, team.world.folder, rules=RULES)
            person("SELECT FROM runtime_configs WHERE filepath = %s FOR UPDATE", B)
            team.ask()
            outcome = started(lambda: world.sync.run(team.repo_id, MAIN, budget(), Trigger.MANUAL)).result(PATIENCE)
            assert isinstance(outcome, Failed)
            assert outcome.error.message == message
            assert outcome.error.hint
            status = team.status()
            assert (status.condition, status.is_waiting) == (Condition.FETCH_FAILED, True)
            assert message in status.message
            assert team.numbers() == {A: "workflow-1", B: "workflow-2"}
            assert team.world.journal.syncs(team.repo_id, MAIN, 1)[0].commit_id == head
        heal(team.world)
        assert team.numbers() == {A: "workflow-11", B: "workflow-12"}
        assert team.outcomes() == ["replaced", "failed", "replaced"]
