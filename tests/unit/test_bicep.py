"""What infra/ says, checked as far as it can be without Azure: it parses, its parts fit, and it agrees with the app.

The parser knows the syntax only, so names are looked up here. Numbers of Azure's documentation stand beside their use.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from pycep import BicepParser

from shared.postgres.queue import BACK_OFF_CAP
from shared.settings import SETTINGS
from shared.telemetry.instruments import Gauge
from shared.telemetry.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
MAIN = INFRA / "main.bicep"
FILES = sorted(INFRA.rglob("*.bicep"))
PARAMETERS = sorted((INFRA / "parameters").glob("*.json"))
ALERTS = json.loads((INFRA / "alerts.json").read_text(encoding="utf-8"))
WORKBOOK = json.loads((INFRA / "workbook.json").read_text(encoding="utf-8"))

MINUTES = {"PT5M": 5, "PT10M": 10, "PT15M": 15, "PT30M": 30, "PT45M": 45, **{f"PT{n}H": n * 60 for n in range(1, 7)},
           "P1D": 1440}  # fmt: skip
"""How often a log alert may be asked, and for which window, as the portal offers it."""
ROLES = {
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
}
"""https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"""
CONNECTIONS = {"Standard_B2s": 414, "Standard_D2ds_v5": 844}
"""https://learn.microsoft.com/azure/postgresql/configure-maintain/concepts-limits: those for users."""
POOLED = 5000
"""Clients of the built-in PgBouncer, its `max_client_conn` by default."""
FUNCTIONS = {
    "cidrSubnet", "concat", "empty", "environment", "guid", "loadJsonContent", "map", "resourceGroup", "string",
    "subscription", "subscriptionResourceId", "union", "uniqueString",
}  # fmt: skip
KEYWORDS = {
    "array", "bool", "existing", "false", "for", "if", "in", "int", "module", "null", "object", "output", "param",
    "parent", "resource", "string", "targetScope", "true", "var",
}  # fmt: skip
_TEXT = re.compile(r"//.*|'(?:[^'\\$]|\\.|\$(?!\{)|\$\{[^}]*\})*'")
"""A comment or a string; either may hold what looks like the other."""
_NAME = re.compile(r"(?<![\w.@])[A-Za-z_]\w*\b(?!\s*:)")


@lru_cache
def parsed(path: Path) -> Mapping[str, Any]:
    return BicepParser().parse(text=path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def code(path: Path) -> str:
    """The text without comments and decorators, its strings reduced to what they insert."""
    text = _TEXT.sub(lambda found: " ".join(re.findall(r"\$\{([^}]*)\}", found[0])), path.read_text(encoding="utf-8"))
    text = re.sub(r"^@\w+\(.*\)$", "", text, flags=re.MULTILINE)
    return re.sub(r"\bin (\w+):", r"in \1 ", text)


def called() -> Iterator[tuple[Path, str, Mapping[str, Any], Path]]:
    for path in FILES:
        for name, module in parsed(path).get("modules", {}).items():
            yield path, name, module["config"], path.parent / module["detail"]["path"]


def nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, Mapping):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for one in tree:
            yield from nodes(one)


def given(path: Path) -> Mapping[str, Any]:
    """The values of a parameter file, with the defaults of what it leaves out."""
    values = {name: one["value"] for name, one in json.loads(path.read_text(encoding="utf-8"))["parameters"].items()}
    defaults = {name: one["default"] for name, one in parsed(MAIN)["parameters"].items()}
    return {**defaults, **values}


def test_every_file_is_parsed_and_none_is_skipped() -> None:
    assert len(FILES) == 10
    assert len(PARAMETERS) == 3
    for path in FILES:
        # The parser keeps one of two siblings that stand within a third.
        for kind in ("resource", "module", "param", "var", "output"):
            stated = re.findall(rf"^ *{kind} \w+", path.read_text(encoding="utf-8"), re.MULTILINE)
            plural = {"param": "parameters", "var": "variables"}.get(kind, f"{kind}s")
            assert len(parsed(path).get(plural, {})) == len(stated), f"{path.name}: {kind}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_name_is_declared_and_every_parameter_used(path: Path) -> None:
    tree, text = parsed(path), code(path)
    kinds = ("parameters", "variables", "resources", "modules", "outputs")
    # One within another is called `outer__inner`.
    declared = {name.rpartition("__")[2] for kind in kinds for name in tree.get(kind, {})}
    items = set(re.findall(r"\w+", " ".join(re.findall(r"\bfor (\w+|\(\w+, \w+\)) in\b", text))))
    items |= set(re.findall(r"\b(\w+) =>", text))
    assert set(_NAME.findall(text)) - declared - items - FUNCTIONS - KEYWORDS == set()
    words = re.findall(r"(?<!\.)\b\w+", text)
    assert [name for kind in ("parameters", "variables") for name in tree.get(kind, {}) if words.count(name) < 2] == []


def test_a_module_is_there_and_gets_what_it_declares() -> None:
    assert {target for *_, target in called()} == set(FILES) - {MAIN}
    for path, name, config, target in called():
        parameters = parsed(target)["parameters"]
        required = {one for one, how in parameters.items() if how["default"] is None}
        assert required <= set(config["params"]) <= set(parameters), f"{path.name}: {name}"


def test_an_output_that_is_read_exists() -> None:
    for path in FILES:
        targets = {name: target for where, name, _, target in called() if where == path}
        for name, output in re.findall(r"(\w+)\.outputs\.(\w+)", code(path)):
            assert output in parsed(targets[name])["outputs"], f"{path.name}: {name}.outputs.{output}"


def test_the_scripts_read_outputs_that_exist() -> None:
    scripts = sorted((INFRA / "pipelines" / "deploy").glob("*.sh"))
    read = {name for path in scripts for name in re.findall(r"\$\(output (\w+)\)", path.read_text(encoding="utf-8"))}
    outputs = set(parsed(MAIN)["outputs"])
    assert read <= outputs
    # What only people read: docs/deployment.md.
    assert outputs - read == {"vaultName"}


def test_api_versions_are_fixed_and_one_for_each_type() -> None:
    versions: dict[str, set[str]] = {}
    for path in FILES:
        for kind, version in re.findall(r"'(Microsoft\.[\w./]+)@([\w-]+)'", path.read_text(encoding="utf-8")):
            assert re.fullmatch(r"\d{4}-\d\d-\d\d(-preview)?", version)
            versions.setdefault(kind, set()).add(version)
    assert {kind: found for kind, found in versions.items() if len(found) > 1} == {}


def test_no_other_rights_are_given_than_these_to_the_apps_identity() -> None:
    roles, assignments = {}, 0
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        roles |= dict(re.findall(r"= '([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})' // ([\w ]+)", text))
        assignments += text.count("Microsoft.Authorization/roleAssignments@")
    assert {name.strip(): role for role, name in roles.items()} == ROLES
    assert assignments == len(ROLES)


def test_the_children_of_the_database_server_wait_for_each_other() -> None:
    tree = parsed(INFRA / "modules" / "database.bicep")
    chain = {}
    for name, one in {**tree["resources"], **tree["modules"]}.items():
        config = one["config"].get("config", one["config"])
        if "loop_type" in one["config"]:
            assert {"type": "batchSize", "argument": 1} in one["decorators"]
        chain[name] = config.get("dependsOn")
    # A loop over nothing waits for nothing: what follows `firewall` has to name what that one follows.
    assert chain == {
        "server": None, "database": None, "configuration": ["database"], "firewall": ["configuration"],
        "owner": ["configuration", "firewall"], "endpoint": ["owner"], "logs": ["endpoint"],
    }  # fmt: skip


def test_nothing_of_it_has_a_password_or_a_key() -> None:
    found = {
        key: node[key]
        for path in FILES
        for node in nodes(parsed(path))
        for key in (
            "passwordAuth",
            "allowSharedKeyAccess",
            "DisableLocalAuth",
            "disableLocalAuth",
            "allowBlobPublicAccess",
        )
        if key in node
    }
    assert found == {
        "passwordAuth": "Disabled", "allowSharedKeyAccess": False, "DisableLocalAuth": True, "disableLocalAuth": True,
        "allowBlobPublicAccess": False,
    }  # fmt: skip
    assert "listKeys" not in "".join(path.read_text(encoding="utf-8") for path in FILES)


# -- The app's settings ----------------------------------------------------------------------------------------------


def app_settings() -> Mapping[str, Any]:
    settings = parsed(INFRA / "modules" / "function_app.bicep")["resources"]["settings"]
    return settings["config"]["properties"]  # type: ignore[no-any-return]


def test_every_setting_is_said_and_every_secret_is_left_to_the_vault() -> None:
    ours = {name for name in app_settings() if name in {setting.name for setting in SETTINGS}}
    secrets = {setting.name for setting in SETTINGS if setting.is_secret}
    # With a token for a password there is nothing secret in it; and telemetry goes to Application Insights alone.
    assert {setting.name for setting in SETTINGS} - ours == secrets - {"DATABASE_URL"} | {"OTEL_EXPORTER_OTLP_ENDPOINT"}


def test_the_other_settings_are_those_of_the_host_and_of_telemetry() -> None:
    others = set(app_settings()) - {setting.name for setting in SETTINGS}
    assert others == {
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
        "AzureWebJobsDisableHomepage", "AzureWebJobsStorage__blobServiceUri", "AzureWebJobsStorage__clientId",
        "AzureWebJobsStorage__credential", "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "OTEL_SERVICE_NAME",
        "PYTHON_ENABLE_OPENTELEMETRY", "PYTHON_THREADPOOL_THREAD_COUNT",
    }  # fmt: skip


def test_a_value_that_is_the_same_everywhere_is_the_default_of_the_app() -> None:
    text = (INFRA / "modules" / "function_app.bicep").read_text(encoding="utf-8")
    fixed = dict(re.findall(r"^    ([A-Z_]+): '([^'$]*)'$", text, re.MULTILINE))
    defaults = {setting.name: setting.default for setting in SETTINGS if setting.name in fixed}
    assert len(defaults) > 15
    assert {name: fixed[name] for name in defaults} == {**defaults, "DATABASE_LOGIN": "entra"}


@pytest.mark.parametrize("path", PARAMETERS, ids=lambda path: path.stem)
class TestEnvironments:
    def test_parameters_are_declared_and_complete(self, path: Path) -> None:
        parameters = parsed(MAIN)["parameters"]
        values = json.loads(path.read_text(encoding="utf-8"))["parameters"]
        required = {name for name, one in parameters.items() if one["default"] is None}
        assert required <= set(values) <= set(parameters)
        assert values["environmentName"]["value"] == path.stem

    def test_threads_connections_and_concurrency_are_one_number_that_the_database_bears(self, path: Path) -> None:
        settings, values = app_settings(), given(path)
        (app,) = (
            one for one in nodes(parsed(INFRA / "modules" / "function_app.bicep")) if "scaleAndConcurrency" in one
        )
        scale = app["scaleAndConcurrency"]
        assert scale["triggers"]["http"]["perInstanceConcurrency"] == "concurrency"
        assert scale["maximumInstanceCount"] == "maximumInstances"
        for name in ("PYTHON_THREADPOOL_THREAD_COUNT", "DATABASE_POOL_SIZE"):
            assert list(settings[name]["function"]["parameters"].values()) == ["concurrency"]
        is_pooled = values["databaseSku"]["tier"] != "Burstable"
        most = POOLED if is_pooled else CONNECTIONS[values["databaseSku"]["name"]]
        assert values["maximumInstances"] * values["concurrency"] <= most

    def test_each_ingests_its_protected_branch(self, path: Path) -> None:
        assert given(path)["branches"] == {"dev": "dev", "acc": "acc", "prod": "main"}[path.stem]


# -- Alerts and the workbook -----------------------------------------------------------------------------------------

QUERIES = {
    **{alert["name"]: alert["query"] for alert in ALERTS},
    **{f"workbook: {item['name']}": item["content"]["query"] for item in WORKBOOK["items"] if item["type"] == 3},
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_a_query_asks_for_metrics_and_attributes_that_are_told(query: str) -> None:
    metrics = {metric.name: metric for metric in METRICS}
    names = re.findall(r'name == "(runtime_store\.[\w.]+)"', query)
    assert set(names) <= set(metrics)
    if names:
        assert set(re.findall(r'customDimensions\["([\w.]+)"\]', query)) <= set(metrics[names[0]].attributes)
    assert query.count("(") == query.count(")")


def test_an_alert_names_what_it_is_about() -> None:
    for alert in ALERTS:
        by = "".join(re.findall(r" by ([\w, ]+) \|", alert["query"]))
        assert alert["by"] == re.findall(r"\w+", by), alert["name"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["name"])
def test_an_alert_is_asked_at_allowed_times_and_misses_none(alert: Mapping[str, Any]) -> None:
    assert set(alert) == {"name", "severity", "every", "window", "description", "query", "by"}
    assert alert["severity"] in range(5)
    assert MINUTES[alert["every"]] <= MINUTES[alert["window"]]


def test_an_alert_does_not_end_between_two_probes_of_a_source() -> None:
    (alert,) = [alert for alert in ALERTS if "source.pauses" in alert["query"]]
    longest = timedelta(minutes=MINUTES[alert["window"]])
    assert longest > BACK_OFF_CAP + timedelta(minutes=5)  # the timer's minute, and what ingestion takes


def test_a_gauge_is_its_value_and_summed_over_processes_only() -> None:
    gauges = {metric.name for metric in METRICS if isinstance(metric, Gauge)}
    for name, query in QUERIES.items():
        if gauges & set(re.findall(r'name == "([\w.]+)"', query)):
            assert not re.search(r"\bsum\(|\bvalue[A-Z]", query) or "cloud_RoleInstance" in query, name


def test_names_are_as_long_as_azure_allows() -> None:
    longest = parsed(MAIN)["parameters"]["environmentName"]["decorators"]
    (most,) = (one["argument"] for one in longest if one["type"] == "max_length")
    suffix = 13  # what uniqueString returns
    assert len("rs-") + most <= 12  # groupShortName
    assert len("rs") + suffix <= 24  # storage account
    assert len("rs-") + suffix <= 24  # vault
    assert len("runtime-store--") + most + suffix <= 60  # site; 63 for a database server


def test_every_alert_has_its_section_in_the_handbook() -> None:
    handbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (chapter,) = re.findall(r"^## Alerts$(.*?)^## ", handbook, re.MULTILINE | re.DOTALL)
    sections = re.findall(r"^### (.+)$", chapter, re.MULTILINE)
    assert sections == [*(alert["name"] for alert in ALERTS), "database-full"]
