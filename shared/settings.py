"""Every setting: its name, default, form and meaning in one table, and the only code that reads the environment.

`SETTINGS` drives parsing, `docs/settings.md` and `local.settings.json.example`; write both again with
`python -m shared.settings`. The invariant: no text made here, neither a problem nor a `repr`, holds a secret's value.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from shared.errors import SettingsInvalid
from shared.model import BranchName

_REFERENCE = "@Microsoft.KeyVault("
_PLACEHOLDER = "local-only-"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LOCAL = "local"
_NEVER_SPLIT = re.compile(r"(?!)")


class ReadAccess(StrEnum):
    """Who may read configs."""

    KEYS = "keys"
    ANONYMOUS = "anonymous"


class DatabasePooler(StrEnum):
    """What stands between this app and the database."""

    NONE = "none"
    TRANSACTION = "transaction"


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Settings:
    """What the environment says, read once; `load` makes one.

    Secrets are not fields: their values may live in Key Vault and change while the app runs, so that there is one way
    to them, `ports.Secrets`.
    """

    environment: str
    branches: tuple[BranchName, ...]
    database_pooler: DatabasePooler
    database_pool_size: int
    key_vault_url: str | None
    key_vault_cache: timedelta
    azure_client_id: str | None
    read_access: ReadAccess
    auto_register: bool
    azure_devops_organization: str | None
    git_url_template: str | None
    git_timeout: timedelta
    webhook_budget: timedelta
    webhook_budget_files: int
    manual_budget: timedelta
    webhook_max_bytes: int
    reconcile_schedule: str
    reconcile_budget: timedelta
    reconcile_workers: int
    head_check_interval: timedelta
    retention: timedelta
    list_cache_bytes: int
    log_level: LogLevel
    secrets: Mapping[str, str] = field(repr=False)
    """What the environment holds of the secret settings, by setting name, and the names that Azure sets for a managed
    identity: what `key_vault` is given as its environment."""
