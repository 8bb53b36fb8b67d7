"""The pipeline templates are what Azure Pipelines documents, and call the command line as it is.

The keys are those of https://learn.microsoft.com/azure/devops/pipelines/yaml-schema/ (pipeline, jobs.job, steps.*,
parameters.parameter, resources.repositories.repository, variables.*, trigger). A key that is missing here is not wrong
by itself: look it up there, and add it.
"""

import fnmatch
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from shared.cli.program import program
from shared.cli.validate import validate
from shared.model import Registration, SourceName

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "pipelines"
TEMPLATES = sorted(FOLDER.glob("*.steps.yml"))
PIPELINES = [*sorted(FOLDER.glob("*.pipeline.yml")), ROOT / "examples" / "team" / "pipelines" / "azure-pipelines.yaml"]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))

_ANY_STEP = {
    "condition", "continueOnError", "displayName", "enabled", "env", "name", "retryCountOnTaskFailure", "target",
    "timeoutInMinutes",
}  # fmt: skip
STEPS: Mapping[str, set[str]] = {
    "bash": {"bash", "failOnStderr", "workingDirectory", *_ANY_STEP},
    "script": {"script", "failOnStderr", "workingDirectory", *_ANY_STEP},
    "task": {"task", "inputs", *_ANY_STEP},
    "checkout": {
        "checkout", "clean", "fetchDepth", "fetchFilter", "fetchTags", "lfs", "path", "persistCredentials",
        "sparseCheckoutDirectories", "sparseCheckoutPatterns", "submodules", "workspaceRepo", *_ANY_STEP,
    },
    "template": {"template", "parameters"},
}  # fmt: skip
TASKS = {
    "UsePythonVersion@0": {
        "versionSpec", "disableDownloadFromRegistry", "allowUnstable", "githubToken", "addToPath", "architecture",
    }
}  # fmt: skip
PIPELINE = {
    "appendCommitMessageToRunName", "jobs", "lockBehavior", "name", "parameters", "pool", "pr", "resources",
    "schedules", "stages", "steps", "trigger", "variables",
}  # fmt: skip
JOB = {
    "cancelTimeoutInMinutes", "condition", "container", "continueOnError", "dependsOn", "displayName", "job", "pool",
    "services", "steps", "strategy", "templateContext", "timeoutInMinutes", "uses", "variables", "workspace",
}  # fmt: skip
PARAMETER = {"name", "displayName", "type", "default", "values"}
PARAMETER_TYPES = {"string": str, "number": int, "boolean": bool}
REPOSITORY = {"repository", "endpoint", "trigger", "name", "ref", "type"}
POOL = {"name", "demands", "vmImage"}
# https://pre-commit.com/#creating-new-hooks
HOOK = {
    "additional_dependencies", "always_run", "args", "description", "entry", "exclude", "exclude_types", "fail_fast",
    "files", "id", "language", "language_version", "log_file", "minimum_pre_commit_version", "name", "pass_filenames",
    "require_serial", "stages", "types", "types_or", "verbose",
}  # fmt: skip
_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_PARAMETER = re.compile(r"parameters\.(\w+)")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def inserted(node: Any) -> Any:
    """The node with all that stands under `${{ if ... }}` in its place."""
    if isinstance(node, list):
        flat: list[Any] = []
        for one in node:
            key = next(iter(one)) if isinstance(one, dict) and len(one) == 1 else ""
            flat.extend(inserted(one[key]) if key.startswith("${{ if ") else [inserted(one)])
        return flat
    return {key: inserted(value) for key, value in node.items()} if isinstance(node, dict) else node


def steps_of(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from document.get("steps", ())
    for job in document.get("jobs", ()):
        yield from job["steps"]


def declared(path: Path) -> Mapping[str, Mapping[str, Any]]:
    return {one["name"]: one for one in read(path).get("parameters", ())}


def check_step(step: Mapping[str, Any]) -> None:
    kind = next(iter(step))  # "Required as first property"
    assert kind in STEPS
    assert set(step) <= STEPS[kind]
    assert isinstance(step[kind], str)
    assert all(isinstance(value, str) for value in step.get("env", {}).values())
    if kind == "task":
        assert set(step.get("inputs", {})) <= TASKS[step["task"]]


def check_template(step: Mapping[str, Any], template: Path) -> None:
    """It is there, and gets what it declares: what it must have, and no more."""
    parameters, given = declared(template), step.get("parameters", {})
    assert set(given) <= set(parameters)
    assert {name for name, one in parameters.items() if "default" not in one} <= set(given)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_the_documented_structure(path: Path) -> None:
    document = inserted(read(path))
    assert list(document) == ["parameters", "steps"]
    for one in document["parameters"]:
        assert next(iter(one)) == "name"
        assert {"name", "type"} <= set(one) <= PARAMETER
        if "default" in one:
            assert type(one["default"]) is PARAMETER_TYPES[one["type"]]
            assert one["default"] in one.get("values", [one["default"]])
    for step in document["steps"]:
        check_step(step)
        if "template" in step:
            check_template(step, path.parent / step["template"])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_declares_what_it_uses_and_uses_what_it_declares(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = {name for expression in _EXPRESSION.findall(text) for name in _PARAMETER.findall(expression)}
    assert used == set(declared(path))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_a_pipeline_has_the_documented_structure(path: Path) -> None:
    document = inserted(read(path))
    assert set(document) <= PIPELINE
    assert len({"jobs", "steps", "stages"} & set(document)) == 1
    assert set(document["trigger"]["branches"]) <= {"include", "exclude"}
    assert set(document["pool"]) <= POOL
    for job in document.get("jobs", ()):
        assert next(iter(job)) == "job"
        assert set(job) <= JOB
        assert re.fullmatch(r"[A-Za-z_]\w*", job["job"])
        assert all(set(one) in ({"group"}, {"name", "value"}) for one in job.get("variables", ()))
        known = [other["job"] for other in document["jobs"]]
        assert job.get("dependsOn", known[0]) in known
    for step in steps_of(document):
        check_step(step)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_a_pipeline_includes_templates_of_this_repository(path: Path) -> None:
    document = inserted(read(path))
    resources = document["resources"]["repositories"]
    for resource in resources:
        assert next(iter(resource)) == "repository"
        assert {"repository", "type", "name", "ref"} <= set(resource) <= REPOSITORY
        assert resource["type"] == "git"
        assert resource["ref"].startswith("refs/")
    aliases = {resource["repository"] for resource in resources}
    steps = list(steps_of(document))
    assert steps
    for step in steps:
        name, _, alias = step["template"].partition("@")
        assert alias in aliases
        check_template(step, ROOT / name)
        # The template checks out the alias that it is told, and it is told that one by default.
        assert step.get("parameters", {}).get("tool", declared(ROOT / name)["tool"]["default"]) == alias


def test_the_gate_covers_every_protected_branch() -> None:
    for path in PIPELINES:
        assert read(path)["trigger"]["branches"]["include"] == ["dev", "acc", "main"]


# -- What the steps call ---------------------------------------------------------------------------------------------


def calls(path: Path) -> Iterator[list[str]]:
    """The words of every command of the template's scripts, with the defaults of its parameters."""
    defaults = {name: str(one.get("default", "given")) for name, one in declared(path).items()}

    def value_of(text: str) -> str:
        return _EXPRESSION.sub(lambda found: defaults[_PARAMETER.fullmatch(found[1])[1]], text)  # type: ignore[index]

    for step in read(path)["steps"]:
        variables = {name: value_of(value) for name, value in step.get("env", {}).items()}
        for line in step.get("bash", "").splitlines():
            used = set(re.findall(r"\$(\w+)", line))
            assert used <= set(variables), f"{path.name} uses variables that it does not set"
            assert {one for one in variables if not one.startswith("RUNTIME_STORE_")} == used
            yield shlex.split(Template(line).substitute(variables))


def test_the_commands_and_options_of_the_templates_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_STORE_URL", "https://contoso.example.com")
    called = [words for path in TEMPLATES for words in calls(path)]
    ours = [words[1:] for words in called if words[0] == "runtime-store"]
    assert sorted(words[0] for words in ours) == ["validate", "wait"]
    for name, *words in ours:
        program.commands[name].make_context(name, words)
    assert [words[:4] for words in called if words[0] != "runtime-store"] == [["python", "-m", "pip", "install"]]


def test_the_defaults_of_the_gate_are_those_of_a_registration() -> None:
    defaults = Registration(name="", source=SourceName(""), branches=())
    parameters = declared(FOLDER / "validate.steps.yml")
    assert {name: parameters[name]["default"] for name in ("root", "pattern", "validation")} == {
        "root": defaults.root,
        "pattern": defaults.pattern,
        "validation": defaults.validation.value,
    }


def test_the_tool_is_installed_from_where_it_was_checked_out() -> None:
    checkout, _, install = read(FOLDER / "install.steps.yml")["steps"]
    assert install["workingDirectory"] == "$(Pipeline.Workspace)"
    assert f'"./{checkout["path"]}[cli]"' in install["bash"]
    first, *_, judge = read(FOLDER / "validate.steps.yml")["steps"]
    assert judge["workingDirectory"] == f"$(Pipeline.Workspace)/{first['path']}"


def test_the_key_is_never_part_of_a_command() -> None:
    for path in TEMPLATES:
        assert all("key" not in step.get("bash", "").lower() for step in read(path)["steps"])


# -- pre-commit ------------------------------------------------------------------------------------------------------


def test_the_hook_has_the_documented_structure_and_calls_the_command() -> None:
    (hook,) = HOOKS
    assert {"id", "name", "entry", "language"} <= set(hook) <= HOOK
    command, name, *words = shlex.split(hook["entry"])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert command in scripts
    program.commands[name].make_context(name, [*words, "etl/a_runtime.yaml"])
    assert hook["additional_dependencies"] == [".[cli]"]


@pytest.mark.parametrize(
    "path",
    [
        "runtime.yaml", "a/b/x-runtime-y.yaml", "runtime/x.yaml", "a_runtime.yml", "a_Runtime.yaml", "xruntimey.yaml",
        "a/runtime.yaml/b.txt", "runtime.yaml.bak", ".runtime.yaml", "a.runtime.b.yaml", "run/time.yaml",
    ],
)  # fmt: skip
def test_the_hook_looks_at_the_files_that_the_app_looks_at(path: str) -> None:
    pattern = next(one for one in validate.params if one.name == "pattern").default
    assert isinstance(pattern, str)
    matches = re.search(HOOKS[0]["files"], path) is not None
    assert matches == fnmatch.fnmatchcase(path.rpartition("/")[2], pattern)
