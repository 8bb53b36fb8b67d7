"""What people read about settings, made from the table."""

import json

from shared.settings.table import HOST_SETTINGS, SETTINGS, Setting

_MARKDOWN = """\
# Settings

Every setting is an environment variable: an application setting of the function app in Azure, an entry of
`local.settings.json` on a developer's machine. A variable that is empty counts as not set. The app reports everything
that is wrong with its settings at once, by name, in its log when it starts, and never repeats the value of a secret.

This page is made from the table in the code: `python -m shared.settings > docs/settings.md`.

| setting | default | what it must be | meaning |
|---|---|---|---|
{settings}

## Secrets

A secret is taken from the environment; when it is not set there and `KEY_VAULT_URL` is, from Key Vault, under the
name in this table. A new value in Key Vault is used within `KEY_VAULT_CACHE_SECONDS`, without a restart (but for
`DATABASE_URL`), and the last known one is used while the vault is down. A secret that is deleted or disabled there
counts as not set. A key is rotated without a gap when the old one stays in the `_PREVIOUS` setting until no caller
uses it any more: in [this order](operations.md#rotating-secrets).

In Azure, where the platform sets `IDENTITY_ENDPOINT`, the app signs in as its managed identity; elsewhere as whoever is
signed in to the Azure CLI and its like. That identity needs the role *Key Vault Secrets User* on the vault.

| setting | secret in Key Vault |
|---|---|
{secrets}

A Key Vault reference (`@Microsoft.KeyVault(...)`) as the value of a setting works too. Azure leaves its text as it is
when it cannot resolve it; the app then says so instead of using it.

## Settings of the Functions host

| setting | meaning |
|---|---|
{host}
"""


def render_markdown() -> str:
    """The text of `docs/settings.md`."""
    return _MARKDOWN.format(
        settings="\n".join(
            f"| `{setting.name}` | {_default(setting)} | {setting.form.words} | {setting.help} |"
            for setting in SETTINGS
        ),
        secrets="\n".join(
            f"| `{setting.name}` | `{setting.secret_name}` |" for setting in SETTINGS if setting.is_secret
        ),
        host="\n".join(f"| `{setting.name}` | {setting.help} |" for setting in HOST_SETTINGS),
    )


def render_example() -> str:
    """The text of `local.settings.json.example`: every setting, with a value for a developer's machine."""
    values = {
        setting.name: setting.default if setting.example is None else setting.example
        for setting in (*HOST_SETTINGS, *SETTINGS)
    }
    return json.dumps({"IsEncrypted": False, "Values": values}, indent=2) + "\n"


def _default(setting: Setting) -> str:
    return f"`{setting.default}`" if setting.default else "not set"
