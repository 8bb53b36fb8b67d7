"""Another schema in the settings: every branch is judged again without a commit, and what was accepted stays served."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from support.world import MAIN, World, workflow

from shared.model import Condition
from shared.rules import Rules

SHIPPED = Path(__file__).parents[2] / "shared/schemas/samara.schema.json"
PATH = "etl/one_runtime.yaml"


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    """The shipped one, by another name."""
    path = tmp_path / "schema.json"
    path.write_bytes(SHIPPED.read_bytes())
    return path


def narrowed(path: Path) -> str:
    """The same schema with ids of at most five characters, and its digest: what an operator would set."""
    schema = json.loads(path.read_bytes())
    schema["$defs"]["Id"]["maxLength"] = 5
    data = json.dumps(schema).encode()
    path.write_bytes(data)
    return f"{path}#sha256={sha256(data).hexdigest()}"


def test_the_same_schema_from_a_file_changes_nothing(world: World, schema: Path) -> None:
    team = world.repository()
    team.git.commit({PATH: workflow(1)})
    team.sync()
    world.use(Rules.of(str(schema)))
    world.git.calls.clear()
    team.sync()
    assert world.git.calls == {"head": 1}


def test_another_schema_judges_every_branch_again_and_keeps_what_is_served(world: World, schema: Path) -> None:
    teams = [world.repository("one"), world.repository("two")]
    for team in teams:
        team.git.commit({PATH: workflow(1)})
        team.sync()
    world.use(Rules.of(narrowed(schema)))
    world.make_head_checks_due()
    world.sweep()
    for team in teams:
        status = team.status()
        assert status.condition is Condition.INVALID
        assert [finding.rule for finding in status.report.findings] == ["schema-max-length"]
        assert team.numbers() == {PATH: "workflow-1"}


def test_the_schema_before_it_makes_it_right_again(world: World, schema: Path) -> None:
    team = world.repository()
    team.git.commit({PATH: workflow(1)})
    team.sync()
    world.use(Rules.of(narrowed(schema)))
    team.sync()
    world.use(Rules.of(None))
    team.sync()
    assert team.outcomes()[1:] == ["rejected", "unchanged"]
    assert team.status().condition is Condition.READY
    assert world.reader.listing(team.repo_id, MAIN).items[0].generation
