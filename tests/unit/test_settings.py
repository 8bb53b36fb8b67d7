"""Settings: everything that is wrong is said at once and by name, and no secret is ever said."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SettingsInvalid
from shared.settings import (
    HOST_SETTINGS,
    SETTINGS,
    DatabaseLogin,
    DatabasePooler,
    LogLevel,
    ReadAccess,
    Settings,
    load,
    parse,
)
from shared.settings.document import render_example, render_markdown

ROOT = Path(__file__).parents[2]
LEAST = {"DATABASE_URL": "postgresql://app@db.example/runtime_store"}
KEY = "sentinel-0123456789-0123456789-abcdef"
SECRET_NAMES = [setting.name for setting in SETTINGS if setting.is_secret]


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        load({**LEAST, **environ})
    return list(caught.value.problems)


def test_the_database_is_all_that_must_be_set() -> None:
    settings = load(LEAST)
    assert settings == Settings(
        environment="local",
        branches=("main",),  # type: ignore[arg-type]
        database_login=DatabaseLogin.PASSWORD,
        database_pooler=DatabasePooler.NONE,
        database_pool_size=8,
        key_vault_url=None,
        key_vault_cache=timedelta(minutes=10),
        azure_client_id=None,
        read_access=ReadAccess.KEYS,
        auto_register=True,
        azure_devops_organization=None,
        commit_statuses=True,
        public_url=None,
        git_url_template=None,
        schema=None,
        git_timeout=timedelta(seconds=60),
        webhook_budget=timedelta(seconds=8),
        webhook_budget_files=500,
        webhook_max_bytes=4 * 1024 * 1024,
        manual_budget=timedelta(seconds=60),
        reconcile_schedule="0 * * * * *",
        reconcile_budget=timedelta(minutes=4),
        reconcile_workers=4,
        head_check_interval=timedelta(minutes=15),
        retention=timedelta(days=30),
        list_cache_bytes=64 * 1024 * 1024,
        log_level=LogLevel.INFO,
        applicationinsights_connection_string=None,
        otel_exporter_otlp_endpoint=None,
        is_hosted=False,
        secrets=LEAST,
        process={},
    )


def test_every_setting_can_be_set() -> None:
    environ = {
        "ENVIRONMENT": "acc",
        "BRANCHES": "main, release/1.0,main",
        "DATABASE_URL": "host=db dbname='runtime store' password=p\\'w",
        "DATABASE_PASSWORD": " with spaces ",
        "DATABASE_LOGIN": "Entra",
        "DATABASE_POOLER": "Transaction",
        "DATABASE_POOL_SIZE": "2",
        "KEY_VAULT_URL": "https://contoso-acc.vault.azure.net/",
        "KEY_VAULT_CACHE_SECONDS": "60",
        "AZURE_CLIENT_ID": "11111111-2222-4333-8444-555555555555",
        "WEBHOOK_SECRET": KEY,
        "WEBHOOK_SECRET_PREVIOUS": KEY,
        "ADMIN_KEY": KEY,
        "ADMIN_KEY_PREVIOUS": KEY,
        "READER_KEYS": f"etl={KEY}, web-app={KEY}==",
        "READER_KEYS_PREVIOUS": f"etl={KEY}",
        "READ_ACCESS": "anonymous",
        "AUTO_REGISTER": "0",
        "AZURE_DEVOPS_ORGANIZATION": "https://dev.azure.com/contoso/",
        "AZURE_DEVOPS_PAT": "a-token-0123456789",
        "COMMIT_STATUSES": "false",
        "PUBLIC_URL": "https://contoso-acc.azurewebsites.net/",
        "GIT_URL_TEMPLATE": "https://dev.azure.com/contoso/{project}/_git/{repository}",
        "SCHEMA": "schemas/ours.json",
        "GIT_TIMEOUT_SECONDS": "89",
        "WEBHOOK_BUDGET_SECONDS": "1",
        "WEBHOOK_BUDGET_FILES": "2",
        "WEBHOOK_MAX_BYTES": "65536",
        "MANUAL_BUDGET_SECONDS": "3",
        "RECONCILE_SCHEDULE": "0 */5  8-18 1,15 JAN-MAR mon-FRI",
        "RECONCILE_BUDGET_SECONDS": "10",
        "RECONCILE_WORKERS": "1",
        "HEAD_CHECK_MINUTES": "5",
        "RETENTION_DAYS": "7",
        "LIST_CACHE_MB": "0",
        "LOG_LEVEL": "debug",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=11111111-2222-4333-8444-555555555555",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
    }
    assert set(environ) == {setting.name for setting in SETTINGS}
    settings = load({**environ, "IDENTITY_ENDPOINT": "http://localhost/msi", "SOMETHING_ELSE": "x"})
    assert settings.secrets == {name: environ[name] for name in SECRET_NAMES}
    assert settings.is_hosted
    assert settings.process["SOMETHING_ELSE"] == "x"
    assert settings.process.keys().isdisjoint(SECRET_NAMES)
    assert settings.branches == ("main", "release/1.0")
    assert settings.key_vault_url == "https://contoso-acc.vault.azure.net"
    assert settings.azure_devops_organization == "https://dev.azure.com/contoso"
    assert settings.git_timeout == timedelta(seconds=89)
    assert settings.reconcile_schedule == "0 */5 8-18 1,15 JAN-MAR mon-FRI"
    assert (settings.read_access, settings.database_pooler) == (ReadAccess.ANONYMOUS, DatabasePooler.TRANSACTION)
    assert settings.public_url == "https://contoso-acc.azurewebsites.net"
    assert (settings.auto_register, settings.list_cache_bytes, settings.log_level) == (False, 0, LogLevel.DEBUG)
    differs = [
        field.name for field in fields(Settings) if getattr(settings, field.name) == getattr(load(LEAST), field.name)
    ]
    assert differs == []


def test_the_fields_have_the_types_that_the_table_makes() -> None:
    hints = get_type_hints(Settings)
    filled = load({**LEAST, **json.loads(render_example())["Values"]})
    for setting in SETTINGS:
        if not setting.is_secret:
            name = setting.attribute or setting.name.lower()
            value = getattr(filled, name)
            kind = getattr(hints[name], "__origin__", hints[name])
            assert isinstance(value, kind), name
    made = {setting.attribute or setting.name.lower() for setting in SETTINGS if not setting.is_secret}
    assert set(hints) == made | {"is_hosted", "secrets", "process"}


def test_what_is_empty_counts_as_not_set() -> None:
    empty = load({**{setting.name: "" for setting in SETTINGS}, **LEAST})
    assert replace(empty, process={}) == replace(load(LEAST), process={})
    assert load({**LEAST, "BRANCHES": "  ", "RETENTION_DAYS": " 7 "}).retention == timedelta(days=7)


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    with pytest.raises(SettingsInvalid):
        load()
    monkeypatch.setenv("DATABASE_URL", LEAST["DATABASE_URL"])
    monkeypatch.setenv("ENVIRONMENT", "dev")
    assert load().environment == "dev"


def test_no_other_module_reads_the_environment() -> None:
    readers = [
        path.relative_to(ROOT).as_posix()
        for path in [*(ROOT / "shared").rglob("*.py"), ROOT / "function_app.py"]
        if re.search(r"\bos\.(environ|getenv)\b|from os import .*\b(environ|getenv)\b", path.read_text("utf-8"))
    ]
    # The SDK of Azure DevOps can be told where its cache is by a variable only: that room writes it, and reads none.
    assert readers == ["shared/azure_devops/sdk.py", "shared/settings/__init__.py"]
    assert "os.environ.setdefault(" in (ROOT / readers[0]).read_text("utf-8")


def test_the_database_may_be_named_in_the_vault_but_must_be_named() -> None:
    assert load({"KEY_VAULT_URL": "https://contoso.vault.azure.net"}).secrets == {}
    with pytest.raises(SettingsInvalid, match="DATABASE_URL is not set") as caught:
        load({})
    assert "KEY_VAULT_URL" in str(caught.value)


def test_all_problems_are_reported_at_once_in_the_order_of_the_table() -> None:
    found = problems(BRANCHES="a b", RETENTION_DAYS="0", ADMIN_KEY="short", LOG_LEVEL="LOUD")
    assert [problem.split()[0] for problem in found] == ["BRANCHES", "ADMIN_KEY", "RETENTION_DAYS", "LOG_LEVEL"]
    assert found[2] == "RETENTION_DAYS must be 1 to 3650 days: it is '0'"


BAD: list[tuple[str, str]] = [
    ("ENVIRONMENT", "dev env"),
    ("BRANCHES", "main,,dev"),
    ("AZURE_DEVOPS_PAT", f"{KEY} x"),
    ("PUBLIC_URL", "http://contoso.example"),
    ("PUBLIC_URL", "https://contoso.example/?code=x"),
    ("DATABASE_URL", KEY),
    ("DATABASE_URL", f"mysql://u:{KEY}@db/x"),
    ("DATABASE_URL", f"postgresql://u:{KEY} x@db/x"),
    ("DATABASE_POOLER", "session"),
    ("DATABASE_POOL_SIZE", "0"),
    ("DATABASE_POOL_SIZE", "1e1"),
    ("DATABASE_POOL_SIZE", "-1"),
    ("DATABASE_POOL_SIZE", "\u0661"),
    ("DATABASE_POOL_SIZE", "1_0"),
    ("KEY_VAULT_URL", "http://contoso.vault.azure.net"),
    ("KEY_VAULT_URL", "http://localhost"),
    ("KEY_VAULT_URL", "https://contoso.vault.azure.net/secrets/x"),
    ("KEY_VAULT_URL", "contoso"),
    ("KEY_VAULT_URL", "https://contoso.vault.azure.net:port"),
    ("KEY_VAULT_URL", "https://evil.example\\.vault.azure.net"),
    ("KEY_VAULT_URL", "https://contoso@evil.example"),
    ("KEY_VAULT_URL", "https://[contoso"),
    ("KEY_VAULT_CACHE_SECONDS", "29"),
    ("AZURE_CLIENT_ID", "my-identity"),
    ("WEBHOOK_SECRET", KEY[:31]),
    ("WEBHOOK_SECRET", KEY + "\n"),
    ("WEBHOOK_SECRET", KEY + " " + KEY),
    ("WEBHOOK_SECRET", KEY + "\u00e9"),
    ("WEBHOOK_SECRET", "  "),
    ("WEBHOOK_SECRET", KEY * 7),
    ("ADMIN_KEY_PREVIOUS", KEY[:31]),
    ("READER_KEYS", KEY),
    ("READER_KEYS", f"etl={KEY},Web={KEY}"),
    ("READER_KEYS", f"etl={KEY},etl={KEY}"),
    ("READER_KEYS", f"etl={KEY},web={KEY[:31]}"),
    ("READER_KEYS", f"etl={KEY},"),
    ("READ_ACCESS", "everybody"),
    ("AUTO_REGISTER", "maybe"),
    ("AZURE_DEVOPS_ORGANIZATION", "https://dev.azure.com"),
    ("AZURE_DEVOPS_ORGANIZATION", "https://dev.azure.com/contoso/project"),
    ("AZURE_DEVOPS_ORGANIZATION", "http://dev.azure.com/contoso"),
    ("AZURE_DEVOPS_ORGANIZATION", "https://contoso@dev.azure.com/contoso"),
    ("GIT_URL_TEMPLATE", "https://dev.azure.com/contoso"),
    ("GIT_URL_TEMPLATE", "/srv/git/{repository}/{branch}"),
    ("GIT_URL_TEMPLATE", "/srv/git/{repository.__class__}/{repository}"),
    ("GIT_URL_TEMPLATE", f"https://u:{KEY}@dev.azure.com/contoso/_git/{{repository}}"),
    ("GIT_URL_TEMPLATE", f"https://{KEY}@dev.azure.com/contoso/_git/{{repository}}"),
    ("GIT_URL_TEMPLATE", f"HTTP://{KEY}@git.local/{{repository}}"),
    ("GIT_URL_TEMPLATE", f"ssh://u:{KEY}@git.local/{{repository}}"),
    ("GIT_TIMEOUT_SECONDS", "90"),
    ("RECONCILE_SCHEDULE", "* * * * *"),
    ("RECONCILE_SCHEDULE", "0 60 * * * *"),
    ("RECONCILE_SCHEDULE", "0 */0 * * * *"),
    ("RECONCILE_SCHEDULE", "0 1-2-3 * * * *"),
    ("RECONCILE_SCHEDULE", "0 1, * * * *"),
    ("RECONCILE_SCHEDULE", "0 1/ * * * *"),
    ("RECONCILE_SCHEDULE", "0 0 0 JAN 1 *"),
    ("LOG_LEVEL", "verbose"),
    ("APPLICATIONINSIGHTS_CONNECTION_STRING", KEY),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", f"https://u:{KEY}@collector"),
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_value_that_cannot_be_used_is_one_problem_that_names_the_setting_and_quotes_no_secret(
    name: str, text: str
) -> None:
    [problem] = problems(**{name: text})
    assert problem.startswith(f"{name} must be ")
    assert KEY[:31] not in problem
    with pytest.raises(SettingsInvalid, match=f"^The settings cannot be used:\n  - {name} must be"):
        parse(name, text)


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
def test_a_reference_that_azure_did_not_resolve_is_said_to_be_that(name: str) -> None:
    [problem] = problems(**{name: f"@Microsoft.KeyVault(VaultName=contoso;SecretName={KEY})"})
    assert problem.startswith(f"{name} still is the literal text of a Key Vault reference")
    assert "Key Vault Secrets User" in problem
    assert "keyVaultReferenceIdentity" in problem
    assert KEY not in problem


def test_the_keys_of_the_example_are_refused_everywhere_but_locally() -> None:
    values = json.loads(render_example())["Values"]
    assert load(values)
    for elsewhere in ({"ENVIRONMENT": "prod"}, {"IDENTITY_ENDPOINT": "http://localhost/msi"}):
        with pytest.raises(SettingsInvalid) as caught:
            load({**values, **elsewhere})
        assert [problem.split()[0] for problem in caught.value.problems] == [
            name for name in SECRET_NAMES if "local-only-" in values[name]
        ]


def test_no_secret_is_shown_by_settings() -> None:
    secrets = {name: KEY for name in SECRET_NAMES if not name.startswith(("READER", "DATABASE_URL"))}
    settings = load(
        {"DATABASE_URL": f"postgresql://u:{KEY}@db/x", "READER_KEYS": f"etl={KEY}", "OTHER": KEY, **secrets}
    )
    assert KEY in settings.secrets["READER_KEYS"]
    assert KEY not in repr(settings) + str(settings)


@given(st.dictionaries(st.sampled_from(SECRET_NAMES), st.text(min_size=8)), st.sampled_from(["", "\n", " x"]))
def test_no_text_makes_a_secret_appear_in_a_problem(values: Mapping[str, str], tail: str) -> None:
    values = {name: text + KEY + tail for name, text in values.items()}
    try:
        shown = repr(load(values))
    except SettingsInvalid as invalid:
        shown = f"{invalid} {invalid!r} {invalid.problems} {invalid.__context__} {invalid.__cause__}"
    assert KEY not in shown


def test_reader_keys_from_the_vault_become_a_mapping() -> None:
    assert dict(parse("READER_KEYS", f"etl={KEY},web-app={KEY}=")) == {"etl": KEY, "web-app": KEY + "="}
    assert parse("ADMIN_KEY", KEY) == KEY


TAKEN_OR_NOT = (
    "main dev release/1.0 a/b/c feature_x UPPER x.y 1 x.locks - x- a]b a@b @ a@ a{b HEADS x/HEAD #1 a%b a'b $x \u00e9",
    "-x .x x. x/.y x..y x.lock x.lock/y a//b /a a/ a~b a^b a:b a?b a*b a[b a\\b a@{b @{ a\x7fb a\x01b",
)


@pytest.mark.parametrize("name", " ".join(TAKEN_OR_NOT).split(" "))
def test_branch_names_are_git_s(name: str) -> None:
    said = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True, check=False)
    try:
        is_taken = load({**LEAST, "BRANCHES": name}).branches == (name,)
    except SettingsInvalid:
        is_taken = False
    assert is_taken == (said.returncode == 0)


@pytest.mark.parametrize("name", ["refs/heads/main", "HEAD", "a b"])
def test_branch_names_that_are_mistakes_are_refused(name: str) -> None:
    assert problems(BRANCHES=f"main,{name}") == [
        f"BRANCHES must be Git branch names with commas between them, without `refs/heads/`: {name!r} is none"
    ]


def test_a_long_text_that_is_no_conninfo_is_refused_quickly() -> None:
    assert problems(DATABASE_URL="a=" * 20000 + "'")
    assert problems(DATABASE_URL="a='" + "\\" * 20001)


# -- The documents that are made from the table ------------------------------------------------------------------------


def test_the_page_of_settings_is_the_table() -> None:
    assert (ROOT / "docs/settings.md").read_text("utf-8") == render_markdown(), (
        "python -m shared.settings > docs/settings.md"
    )
    for setting in (*SETTINGS, *HOST_SETTINGS):
        assert f"| `{setting.name}` |" in render_markdown()
        assert "|" not in setting.help + setting.form.words


def test_the_example_holds_every_setting_with_a_safe_value() -> None:
    text = (ROOT / "local.settings.json.example").read_text("utf-8")
    assert text == render_example(), "python -m shared.settings example > local.settings.json.example"
    values: dict[str, Any] = json.loads(text)["Values"]
    assert set(values) == {setting.name for setting in (*SETTINGS, *HOST_SETTINGS)}
    assert all(isinstance(value, str) for value in values.values())
    settings = load(values)
    assert settings.read_access is ReadAccess.KEYS
    assert {"WEBHOOK_SECRET", "ADMIN_KEY", "READER_KEYS"} <= set(settings.secrets)


def test_defaults_and_names_have_their_form() -> None:
    names = [setting.name for setting in (*SETTINGS, *HOST_SETTINGS)]
    assert len(names) == len(set(names))
    for setting in SETTINGS:
        assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", setting.name)
        assert setting.help.endswith(".")
        assert not (setting.is_secret and setting.default)
        for text in filter(None, (setting.default, setting.example)):
            setting.form.parse(text)


@pytest.mark.parametrize(("arguments", "expected"), [([], render_markdown()), (["example"], render_example())])
def test_the_module_prints_its_documents(arguments: list[str], expected: str) -> None:
    command = [sys.executable, "-m", "shared.settings", *arguments]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ})
    assert printed.stdout == expected
