"""The pipelines that deploy this app are what Azure Pipelines documents, and go from DEV over ACC to PROD.

Keys are those of https://learn.microsoft.com/azure/devops/pipelines/yaml-schema/ and of the task's reference.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "pipelines" / "deploy"
FILES = sorted(FOLDER.glob("*.yml"))
TASKS = {
    "AzureCLI@2": {"azureSubscription", "scriptType", "scriptLocation", "scriptPath", "arguments"},
    "UsePythonVersion@0": {"versionSpec"},
}
"""https://learn.microsoft.com/azure/devops/pipelines/tasks/reference/"""
STEPS = {
    "bash": {"bash", "displayName", "workingDirectory", "env"},
    "checkout": {"checkout", "fetchDepth"},
    "download": {"download", "artifact"},
    "publish": {"publish", "artifact"},
    "task": {"task", "displayName", "inputs", "env"},
    "template": {"template", "parameters"},
}
RESERVED = "deploy"
"""No name for a deployment: https://learn.microsoft.com/azure/devops/pipelines/yaml-schema/jobs-deployment"""
SCRIPTS = ["infrastructure.sh", "migrate.sh", "publish.sh", "smoke.sh"]


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def stages(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return document.get("stages", [document] if "jobs" in document else [])


def jobs(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for stage in stages(document):
        yield from stage.get("jobs", ())


def steps(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every step, and those that stand under a condition."""
    found = list(document.get("steps", ()))
    for job in jobs(document):
        found += job.get("steps", ()) or job["strategy"]["runOnce"]["deploy"]["steps"]
    for one in found:
        (key, *_) = one
        yield from one[key] if key.startswith("${{ if ") else [one]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_steps_have_the_documented_keys(path: Path) -> None:
    for step in steps(read(path.name)):
        kind = next(iter(step))
        assert set(step) <= STEPS[kind]
        if kind == "task":
            assert set(step["inputs"]) <= TASKS[step["task"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_templates_are_there_and_get_what_they_declare(path: Path) -> None:
    document = read(path.name)
    for one in [*stages(document), *steps(document)]:
        if "template" in one:
            parameters = {each["name"]: each for each in read(one["template"])["parameters"]}
            required = {name for name, each in parameters.items() if "default" not in each}
            assert required <= set(one["parameters"]) <= set(parameters)
    text = path.read_text(encoding="utf-8")
    used = {
        name for inside in re.findall(r"\$\{\{(.*?)\}\}", text) for name in re.findall(r"parameters\.(\w+)", inside)
    }
    assert used == {one["name"] for one in document.get("parameters", ())}


def test_what_was_tested_goes_from_one_environment_to_the_next() -> None:
    build, *environments = read("deploy.pipeline.yml")["stages"]
    said = [(one["parameters"]["environment"], one["parameters"]["after"]) for one in environments]
    assert said == [("dev", "build"), ("acc", "dev"), ("prod", "acc")]
    packed = next(step["artifact"] for step in build["jobs"][0]["steps"] if "publish" in step)
    for name in ("environment.stages.yml", "rollback.pipeline.yml"):
        assert [step["artifact"] for step in steps(read(name)) if "download" in step] == [packed]
        # Approvals and the history of deployments belong to it.
        assert [job["environment"] for job in jobs(read(name))] == ["runtime-store-${{ parameters.environment }}"]
    assert any(step.get("bash") == "python3 dev.py test" for step in build["jobs"][0]["steps"])


def test_a_run_may_push_to_the_probe() -> None:
    for name in ("deploy.pipeline.yml", "rollback.pipeline.yml"):
        assert [one["repository"] for one in read(name)["resources"]["repositories"]] == ["probe"]
    for name in ("environment.stages.yml", "rollback.pipeline.yml"):
        for job in jobs(read(name)):
            assert job["uses"] == {"repositories": ["probe"]}
            assert job["deployment"] != RESERVED


def test_a_release_runs_every_script_in_order_and_a_rollback_leaves_resources_and_schema_alone() -> None:
    document = read("release.steps.yml")
    scripts = [
        step["inputs"]["scriptPath"].rpartition("/")[2] for step in steps(document) if "AzureCLI@2" in step.values()
    ]
    assert scripts == SCRIPTS
    (under,) = (one for one in document["steps"] if next(iter(one)).startswith("${{ if "))
    ((condition, conditional),) = under.items()
    assert condition == "${{ if eq(parameters.isRollback, false) }}"
    assert [step["inputs"]["scriptPath"].rpartition("/")[2] for step in conditional] == SCRIPTS[:2]
    (rollback,) = (step["parameters"] for step in steps(read("rollback.pipeline.yml")) if "template" in step)
    assert rollback["isRollback"] is True


def test_the_scripts_are_there_and_no_secret_is_an_argument() -> None:
    for step in steps(read("release.steps.yml")):
        path = step.get("inputs", {}).get("scriptPath", "")
        if path:
            assert (ROOT / path.removeprefix("${{ parameters.folder }}/")).is_file()
            assert "Key" not in step["inputs"]["arguments"]
