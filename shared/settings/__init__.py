"""Every setting in one table, and the only code that reads the environment.

`SETTINGS` drives parsing, `docs/settings.md` and `local.settings.json.example`. The invariant: no text that is made
here, neither a problem nor a `repr`, holds the value of a secret.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from shared.errors import SettingsInvalid
from shared.model import BranchName
from shared.settings.forms import Unusable
from shared.settings.table import HOST_SETTINGS, SETTINGS, DatabaseLogin, DatabasePooler, LogLevel, ReadAccess, Setting

__all__ = [
    "HOST_SETTINGS",
    "SETTINGS",
    "DatabaseLogin",
    "DatabasePooler",
    "LogLevel",
    "ReadAccess",
    "Setting",
    "Settings",
    "load",
    "parse",
]


@dataclass(frozen=True)
class Settings:
    """What the environment says, read once by `load`.

    A secret is not a field of its own: it may live in Key Vault and change while the app runs, so there is one way to
    all of them, `ports.Secrets`.
    """

    environment: str
    branches: tuple[BranchName, ...]
    database_login: DatabaseLogin
    database_pooler: DatabasePooler
    database_pool_size: int
    key_vault_url: str | None
    key_vault_cache: timedelta
    azure_client_id: str | None
    read_access: ReadAccess
    auto_register: bool
    azure_devops_organization: str | None
    """Without a slash at its end."""
    commit_statuses: bool
    public_url: str | None
    """Without a slash at its end."""
    git_url_template: str | None
    schema: str | None = field(repr=False)
    """What `Rules.of` takes. A URL may have a signature that grants access."""
    git_timeout: timedelta
    webhook_budget: timedelta
    webhook_budget_files: int
    webhook_max_bytes: int
    manual_budget: timedelta
    reconcile_schedule: str
    reconcile_budget: timedelta
    reconcile_workers: int
    head_check_interval: timedelta
    retention: timedelta
    list_cache_bytes: int
    log_level: LogLevel
    applicationinsights_connection_string: str | None = field(repr=False)
    """Lets whoever has it write there."""
    otel_exporter_otlp_endpoint: str | None
    is_hosted: bool
    """Azure offers this process a managed identity."""
    secrets: Mapping[str, str] = field(repr=False)
    """What the environment has of the secret settings, by setting name: the environment to give to `key_vault`."""
    process: Mapping[str, str] = field(repr=False)
    """The environment without the secret settings, for programs that are started from here."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in `environ`, by default the process's. A variable that is empty counts as not set.

    Raises `SettingsInvalid` with every problem at once.
    """
    given = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    problems: list[str] = []
    for setting in SETTINGS:
        text = _text(setting, given)
        try:
            value = _value(setting, text) if text else None
        except Unusable as unusable:
            problems.append(str(unusable))
            continue
        if not setting.is_secret:
            values[setting.attribute or setting.name.lower()] = value
        elif text:
            secrets[setting.name] = text
    is_hosted = bool(given.get("IDENTITY_ENDPOINT"))
    problems += _contradictions(given, secrets, is_hosted)
    if problems:
        raise SettingsInvalid(problems)
    process = MappingProxyType({name: text for name, text in given.items() if name not in secrets})
    return Settings(**values, is_hosted=is_hosted, secrets=MappingProxyType(secrets), process=process)


def parse(name: str, text: str) -> Any:
    """The value of one setting whose text comes from elsewhere, such as a secret of Key Vault, under the same rules.

    `READER_KEYS` and its previous ones become a mapping from name to key, all other secrets stay text. Raises
    `SettingsInvalid`.
    """
    setting = next(setting for setting in SETTINGS if setting.name == name)
    try:
        return _value(setting, text)
    except Unusable as unusable:
        problem = str(unusable)
    raise SettingsInvalid([problem])


def _text(setting: Setting, given: Mapping[str, str]) -> str:
    text = given.get(setting.name, "")
    return text if setting.is_secret and text else text.strip() or setting.default


def _value(setting: Setting, text: str) -> object:
    if text.lstrip().startswith("@Microsoft.KeyVault("):
        raise Unusable(
            f"{setting.name} still is the literal text of a Key Vault reference, so Azure did not resolve it: give the "
            "app's identity the role Key Vault Secrets User on that vault, and name that identity in the app's "
            "property keyVaultReferenceIdentity"
        )
    try:
        return setting.form.parse(text)
    except Unusable as unusable:
        reason = str(unusable)
    raise Unusable(f"{setting.name} must be {setting.form.words}: {reason}")


def _contradictions(given: Mapping[str, str], secrets: Mapping[str, str], is_hosted: bool) -> Sequence[str]:
    """What is wrong about settings that are right one by one."""
    problems = []
    if not given.get("DATABASE_URL") and not given.get("KEY_VAULT_URL", "").strip():
        problems.append(
            "DATABASE_URL is not set: set it, or set KEY_VAULT_URL and keep it there as the secret `database-url`"
        )
    if is_hosted or given.get("ENVIRONMENT", "").strip() not in ("", "local"):
        problems += [
            f"{name} is the value from local.settings.json.example, which everybody knows: set one of your own"
            for name, value in secrets.items()
            if "local-only-" in value
        ]
    return problems
