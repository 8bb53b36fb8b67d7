"""A process that is killed in the middle: at every step of its work, whatever the steps are."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from support.git import GitRepository
from support.killing import DONE, Killer, killer, pushed
from support.processes import eventually
from support.stores import Store
from support.world import MAIN, NOT_YAML, Team, World, budget, workflow

from shared.model import Registration, RepoId, SourceName

A, B, C = "a_runtime.yaml", "b_runtime.yaml", "etl/c_runtime.yaml"
BEFORE: Mapping[str, bytes | None] = {A: workflow(1), B: workflow(2)}
OLD = {A: "workflow-1", B: "workflow-2"}


class Case(NamedTuple):
    """What was pushed when the sync began, and what is served before it and after."""

    push: Callable[[GitRepository], object]
    old: Mapping[str, str] | None
    new: Mapping[str, str] | None
    outcome: str
    kind: str = ""


CASES = {
    "a new branch": Case(lambda git: git.commit({A: workflow(1)}), None, {A: "workflow-1"}, "replaced"),
    "a changed set": Case(
        lambda git: git.commit({A: workflow(11), B: None, C: workflow(3)}),
        OLD,
        {A: "workflow-11", C: "workflow-3"},
        "replaced",
    ),
    "a rejected set": Case(lambda git: git.commit({A: workflow(11), B: NOT_YAML}), OLD, OLD, "rejected"),
    "a set with the same configs": Case(lambda git: git.commit({"README.md": b"# us"}), OLD, OLD, "unchanged"),
    "a deleted branch": Case(lambda git: git.delete("main"), OLD, None, "replaced"),
    "a source that is gone": Case(lambda git: git.path.rename(git.path.with_suffix(".gone")), OLD, OLD, "failed"),
    "a deep sync": Case(lambda git: None, {**OLD, A: "edited"}, OLD, "replaced", "deep"),
}


@pytest.fixture(scope="module")
def killers() -> Iterator[Killer]:
    with killer() as one:
        yield one


class Stage:
    """Repositories that are alike: each serves the same, and has the same push in front of it."""

    def __init__(self, world: World, conninfo: str, killers: Killer, case: Case) -> None:
        self.world = world
        self.conninfo = conninfo
        self.killers = killers
        self.case = case
        self.git = GitRepository(world.folder / "git")
        self.teams: list[Team] = []

    def add(self, count: int) -> list[Team]:
        """So many more, each synced, with the push that comes next still undone."""
        added = []
        for number in range(len(self.teams), len(self.teams) + count):
            registration = Registration(f"team-{number}", SourceName(str(self.git.path)), (MAIN,))
            repository = self.world.registrar.put(RepoId(f"id-{number}"), registration, expected=None)
            added.append(Team(self.world, self.git, repository))
        self.teams += added
        if self.case.old is not None:
            self.world.sweep()
        return added

    def push(self, teams: list[Team]) -> None:
        self.case.push(self.git)
        for team in teams:
            team.ask(deep=bool(self.case.kind))
            if self.case.kind:
                edit = "UPDATE runtime_configs SET config = jsonb_set(config, '{workflow,id}', '\"edited\"')"
                self.world.execute(f"{edit} WHERE repo_id = %s AND filepath = %s", team.repo_id, A)

    def sync(self, team: Team, kill_at: int | None = None) -> Any:
        work = ("sync", team.repo_id, self.case.kind)
        return self.killers.run(self.conninfo, self.world.folder, *work, kill_at=kill_at)

    def pass_time(self) -> None:
        """Leases end, and back-offs."""
        self.world.execute("UPDATE branches SET lease_until = clock_timestamp() - interval '1 second'")
        self.world.execute("UPDATE sweeps SET lease_until = clock_timestamp() - interval '1 second'")
        self.world.let_back_off_pass()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_killed_sync_leaves_all_or_nothing_and_the_next_sweep_ends_it(
    world: World, database: str, killers: Killer, case: Case
) -> None:
    stage = Stage(world, database, killers, case)
    if case.old is not None:
        first = stage.git.commit(BEFORE)
    [unhurt] = stage.add(1)
    stage.push([unhurt])
    steps, _ = stage.sync(unhurt)
    assert unhurt.numbers() == case.new
    history = unhurt.outcomes()
    assert steps[0] == "claim"
    assert steps[-1] == DONE

    if case.outcome == "failed":
        unhurt.restore()
    if case.old is not None:
        stage.git.set_head("main", first)
    victims = stage.add(len(steps))
    stage.push(victims)
    for number, team in enumerate(victims):
        told = f"killed at {steps[number]}, step {number}"
        assert stage.sync(team, kill_at=number) == (steps[: number + 1], True), told
        is_over = team.outcomes() == history
        assert team.numbers() == (case.new if is_over else case.old), told
        if not is_over:
            assert team.outcomes() == history[:-1], told
            status = team.status()
            assert status.is_waiting or case.kind, told
        assert is_over == ({"replace", "settle"} & set(steps[:number]) != set()), told
    stage.pass_time()
    world.sweep()
    for number, team in enumerate(victims):
        told = f"killed at {steps[number]}, step {number}"
        assert team.numbers() == case.new, told
        assert team.outcomes()[-1] == case.outcome, told
        retried = case.outcome == "failed" and team.outcomes() == [*history, "failed"]
        assert team.outcomes() == history or retried, told
        assert team.status().is_waiting == (case.outcome == "failed"), told


def test_a_killed_sweep_is_no_ones_loss(world: World, database: str, killers: Killer) -> None:
    team = world.repository()
    stage = Stage(world, database, killers, CASES["a changed set"])

    def push(number: int) -> None:
        team.git.commit({A: workflow(number)})
        team.ask()
        world.make_head_checks_due()

    push(0)
    world.sweep()
    push(1)
    steps, _ = killers.run(database, world.folder, "sweep")
    assert {"begin", "claim_due", "replace", "heads", "prune", "end"} <= set(steps)
    for number in range(len(steps)):
        told = f"killed at {steps[number]}, step {number}"
        push(number + 2)
        assert killers.run(database, world.folder, "sweep", kill_at=number) == (steps[: number + 1], True), told
        stage.pass_time()
        assert world.sweep().started, told
        assert team.numbers() == {A: f"workflow-{number + 2}"}, told
        assert not team.status().is_waiting, told
        assert team.outcomes() == ["replaced"] * (number + 3), told


def test_a_killed_delivery_is_recorded_or_works_the_second_time(world: World, database: str, killers: Killer) -> None:
    team = world.repository()
    stage = Stage(world, database, killers, CASES["a changed set"])
    old = team.git.commit({A: workflow(-1)})
    world.sweep()
    head = team.git.commit({A: workflow(0)})
    steps, _ = killers.run(database, world.folder, "webhook", team.repo_id, old, head)
    requested = steps.index("request")
    assert requested < len(steps) - 5, "it syncs too"
    for number in range(len(steps)):
        told = f"killed at {steps[number]}, step {number}"
        old, head = head, team.git.commit({A: workflow(number + 1)})
        deliveries = len(world.journal.deliveries(team.repo_id, 100))
        death = killers.run(database, world.folder, "webhook", team.repo_id, old, head, kill_at=number)
        assert death == (steps[: number + 1], True), told
        is_recorded = len(world.journal.deliveries(team.repo_id, 100)) > deliveries
        assert is_recorded == (number > requested), told
        stage.pass_time()
        world.sweep()
        if not is_recorded:
            assert team.numbers() == {A: f"workflow-{number}"}, told
            # It got no answer, so that Azure DevOps sends it again.
            world.intake.receive(pushed(team.repo_id, old, head), budget())
        assert team.numbers() == {A: f"workflow-{number + 1}"}, told
        assert not team.status().is_waiting, told
        assert team.outcomes() == ["replaced"] * (number + 3), told


def test_what_was_sent_before_the_kill_is_done_whole(
    team: Team, database: str, killers: Killer, tmp_path: Path
) -> None:
    """The server does not look for its client while it works."""
    store = Store(team.world.pool, database)
    team.git.commit(BEFORE)
    team.sync()
    team.git.commit({A: workflow(11), B: workflow(12)})
    team.ask()
    with psycopg.connect(database) as person:
        person.execute("SELECT FROM runtime_configs WHERE filepath = %s FOR UPDATE", (B,))
        pid = killers.begin(database, tmp_path, "sync", team.repo_id)
        store.wait_for_lock()
        os.kill(pid, signal.SIGKILL)
        assert killers.end().was_killed
        assert team.numbers() == OLD
    eventually(lambda: team.outcomes() == ["replaced", "replaced"], "the end of the statement")
    assert team.numbers() == {A: "workflow-11", B: "workflow-12"}
    assert not team.status().is_waiting
