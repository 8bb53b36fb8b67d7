"""Secrets stay secret when settings cannot be used, and when a command fails."""

from collections.abc import Iterator, Mapping

import click
import pytest
from emulators.azure_devops import Emulator, Fault
from support import functions
from support.cli import CommandLine, log_restored
from support.leaks import SECRETS, Net, core
from support.secretive import UNUSED, WRONG_DATABASE, settings_for

import function_app
from shared import bootstrap, settings
from shared.cli.program import program

UNUSABLE: Mapping[str, str] = {
    "DATABASE_URL": f"mysql://me:{SECRETS['database']}@server/x",
    "DATABASE_URL ": f"postgresql://me:%zz{SECRETS['database']}@server/x",
    "DATABASE_URL  ": f"host=server password='{SECRETS['database']}",
    "DATABASE_URL   ": f"host=server passwort={SECRETS['database']}",
    "DATABASE_URL    ": f"postgresql://me:{SECRETS['database']}/{SECRETS['database-tail']}@server/x",
    "WEBHOOK_SECRET": f"{SECRETS['hook']} with a space",
    "ADMIN_KEY": f"{SECRETS['admin']}\n",
    "ADMIN_KEY_PREVIOUS": core("admin-before"),
    "READER_KEYS": f"{SECRETS['reader']}",
    "READER_KEYS_PREVIOUS": f"etl={SECRETS['reader']},etl={SECRETS['reader-before']}",
    "AZURE_DEVOPS_PAT": f"{SECRETS['pat']} {SECRETS['pat']}",
    "AZURE_DEVOPS_ORGANIZATION": f"https://me:{SECRETS['pat']}@dev.azure.com/contoso",
    "GIT_URL_TEMPLATE": f"https://{SECRETS['template']}@git.example.com/{{repository}}",
    "GIT_URL_TEMPLATE ": f"ssh://me:{SECRETS['template']}@git.example.com/{{repository}}",
    "KEY_VAULT_URL": f"https://me:{SECRETS['vault-token']}@contoso.vault.azure.net",
    "PUBLIC_URL": f"https://store.example.com?code={SECRETS['hook']}",
    "SCHEMA": f"https://127.0.0.1:1/schema.json?sig={SECRETS['schema']}#sha256={'0' * 64}",
    "SCHEMA ": f"https://me:{SECRETS['schema']}@127.0.0.1:1/schema.json#sha256={'0' * 64}",
    "SCHEMA  ": f"/nowhere/schema.json?sig={SECRETS['schema']}",
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_setting_that_cannot_be_used_is_not_repeated(
    net: Net, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for key, value in {**settings_for("dbname=x host=127.0.0.1 port=1"), name.strip(): UNUSABLE[name]}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(function_app, "_built", None)
    net.failing("build", bootstrap.build)
    net.failing("settings", lambda: net.note("repr", repr(settings.load())))
    net.note("function", functions.call("config_api", "/repositories"))
    with log_restored():
        for words in (["status"], ["migrate"], ["status", "--debug"]):
            ended = CommandLine(capfd)(*words)
            net.note("command", ended)
            assert ended.code
    net.holds("build", "function", "command", "log function_app")


def test_what_settings_look_like_has_no_secret(net: Net) -> None:
    environ = settings_for("dbname=x", SCHEMA=f"https://host/schema.json?sig={SECRETS['schema']}")
    net.note("repr", repr(settings.load(environ)))


FAILING: Mapping[str, tuple[list[str], ...]] = {
    "status": (["status"], ["status", "orders"]),
    "repositories": (["repositories"],),
    "register": (
        ["register", f"https://me:{SECRETS['source']}@git.example.com/x.git"],
        ["register", f"https://git.example.com/x.git?token={SECRETS['source']}"],
        ["register", f"https://me:{SECRETS['source']}/{SECRETS['source-tail']}@git.example.com/x.git"],
        ["register", f"https://me:{SECRETS['source']}@dev.azure.com/contoso/data/_git/orders"],
        ["register", f"file://me:{SECRETS['source']}@server/x"],
    ),
    "unregister": (["unregister", "orders", "--yes"],),
    "sync": (["sync", "orders"], ["sync", "--all"]),
    "reconcile": (["reconcile"],),
    "migrate": (["migrate"], ["migrate", "--app-role", "nobody"]),
    "serve": (["serve", "--host", "host.invalid"],),
    "validate": (
        ["validate", ".", "--schema", f"https://127.0.0.1:1/x?sig={SECRETS['schema']}#sha256={'0' * 64}"],
        ["validate", ".", "--schema", f"https://me:{SECRETS['schema']}@127.0.0.1:1/x"],
        ["validate", ".", "--schema", f"https:/me:{SECRETS['schema']}@127.0.0.1:1/x"],
        ["validate", ".", "--schema", f"me:{SECRETS['schema']}@127.0.0.1:1/x"],
        ["validate", ".", "--schema", f"https://me:{SECRETS['schema']}/{SECRETS['source-tail']}@127.0.0.1:1/x"],
    ),
    "restore": (["restore", "missing.json"], ["restore", __file__]),
    "wait": (
        ["wait", "--url", UNUSED, "--repository", "x", "--branch", "main", "--commit", "a" * 40, "--timeout", "0"],
        [
            *["wait", "--url", f"https://me:{SECRETS['wrong']}@127.0.0.1:1", "--repository", "x"],
            *["--branch", "main", "--commit", "a" * 40],
        ],
    ),
    "hooks list": (["hooks", "list"],),
    "hooks check": (["hooks", "check"], ["hooks", "check", "data"]),
    "hooks ensure": (
        ["hooks", "ensure", "data", "--url", UNUSED],
        ["hooks", "ensure", "data", "--url", f"https://me:{SECRETS['wrong']}@example.com"],
        ["hooks", "ensure", "data", "--url", f"https://example.com?code={SECRETS['wrong']}"],
    ),
}


def _commands(group: click.Group, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} ")
        else:
            yield before + name


def test_every_command_is_among_those_that_fail() -> None:
    assert set(_commands(program)) == set(FAILING)


@pytest.mark.parametrize("command", FAILING)
def test_a_command_that_fails_lets_nothing_out(
    net: Net,
    emulator: Emulator,
    database: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Without a database, with an organisation that refuses us, and with one that breaks; quietly, and with the log."""
    emulator.repository("data", "orders")
    monkeypatch.chdir(emulator.folder)
    good = settings_for(database, emulator, PUBLIC_URL=UNUSED)
    for key, value in good.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("RUNTIME_STORE_KEY", SECRETS["reader"])
    with log_restored():
        for is_down in (True, False):
            monkeypatch.setenv("DATABASE_URL", WRONG_DATABASE if is_down else good["DATABASE_URL"])
            for fault in () if is_down else (Fault.UNAUTHORIZED, Fault.ERROR):
                emulator.behave()
                emulator.misbehave(fault, status=500)
            for words in FAILING[command]:
                net.note("command", CommandLine(capfd)(*words))
                net.note("command", CommandLine(capfd)(*words, "--debug"))
    net.holds("command")


def test_the_password_of_a_subscription_goes_to_the_organisation_alone(
    net: Net,
    emulator: Emulator,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hosted = emulator.repository("data", "orders")
    for key, value in settings_for(database, emulator, PUBLIC_URL=UNUSED).items():
        monkeypatch.setenv(key, value)
    with log_restored():
        cli = CommandLine(capfd)
        assert cli("register", hosted.web_url).code == 0
        for fault in (Fault.FORBIDDEN, Fault.SIGN_IN, Fault.RESET, None):
            emulator.behave()
            if fault:
                emulator.misbehave(fault, route="subscriptions")
            for words in (["ensure", "data"], ["ensure", "data", "--renew-secret", "--json"], ["check"]):
                net.note("command", cli("hooks", *words, "--debug"))
    (made,) = emulator.subscriptions
    assert made.data["consumerInputs"]["basicAuthPassword"] == SECRETS["hook"]
    net.rows(database)
