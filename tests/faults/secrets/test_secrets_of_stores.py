"""Secrets stay secret while the database or the vault is in trouble."""

import json
import os
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from emulators import identity
from emulators.key_vault import vault
from emulators.key_vault.vault import Answer, StaticCredential
from psycopg.conninfo import make_conninfo
from support.leaks import SECRETS, Net, core
from support.secretive import CLIENT_ID, WRONG_DATABASE, deliver, look_around, payload, settings_for

from shared import bootstrap, settings
from shared.key_vault import KeyVaultSecrets, secret_client
from shared.model import RepoId


@pytest.fixture
def guarded(own_database: str) -> str:
    """A database whose owner has another password than any of ours."""
    return make_conninfo(own_database, password=SECRETS["database"])


@pytest.mark.parametrize("how", ["down", "refusing"])
def test_a_database_that_does_not_let_us_in_lets_nothing_out(net: Net, guarded: str, how: str) -> None:
    environ = settings_for(guarded) | {"DATABASE_URL": {"down": WRONG_DATABASE, "refusing": guarded}[how]}
    with closing(bootstrap.build(environ)) as app:
        assert deliver(net, app, payload("278d5cd2-584d-4b63-824a-2ba458937249")) == 503
        look_around(net, app, "orders")
        net.failing("sweep", app.sweep)
        net.failing("sync", lambda: app.registry.get(RepoId("x")))
    net.holds("log psycopg", "sweep", "sync", "POST")


@pytest.mark.parametrize("mark", "@/")
def test_the_end_of_a_password_is_not_taken_for_the_name_of_a_server(net: Net, guarded: str, mark: str) -> None:
    """What libpq makes of a mark that is not quoted; the name is looked up, and logged when nobody has it."""
    url = f"postgresql://me:{SECRETS['database']}{mark}{core('database-tail')}@127.0.0.1:1/nothing"

    def start() -> None:
        with closing(bootstrap.build(settings_for(guarded) | {"DATABASE_URL": url})) as app:
            app.sweep()

    net.failing("start", start)
    net.holds("start")


@pytest.mark.parametrize(
    "answer",
    [None, f"<html>{SECRETS['token']}</html>", f'["{SECRETS["token"]}"]', f'{{"error": "{SECRETS["token"]}"}}'],
    ids=["refused", "page", "list", "error"],
)
def test_a_token_that_cannot_be_used_gets_nowhere(
    net: Net, guarded: str, endpoint: identity.Identity, answer: str | None
) -> None:
    """One that the database refuses, or that is in an answer which the SDK cannot read."""
    more = {"DATABASE_LOGIN": "entra", "AZURE_CLIENT_ID": CLIENT_ID, "IDENTITY_ENDPOINT": endpoint.url}
    environ = settings_for(guarded, None, **more) | {"DATABASE_URL": make_conninfo(guarded, sslmode="disable")}
    endpoint.answer = answer.encode() if answer else None
    with closing(bootstrap.build(environ)) as app:
        assert deliver(net, app, payload("278d5cd2-584d-4b63-824a-2ba458937249")) == 503
        net.failing("sweep", app.sweep)
    assert endpoint.asked
    net.holds("log psycopg", "sweep")


SECRET_NAMES = {setting.name: setting.secret_name for setting in settings.SETTINGS if setting.is_secret}
TROUBLE = {
    "forbidden": vault.FORBIDDEN,
    "firewalled": vault.FIREWALLED,
    "throttled": vault.THROTTLED,
    "out of order": vault.OUT_OF_ORDER,
    "quoted": Answer(500, json.dumps({"error": {"code": SECRETS["admin"], "message": SECRETS["admin"]}}).encode()),
    "no bundle": Answer(200, json.dumps([SECRETS["admin"]]).encode()),
    "cut": Answer(200, b'{"value": "' + SECRETS["admin"].encode()),
    "unusable": Answer(200, json.dumps({"value": f"too short {core('wrong')}", "id": "x"}).encode()),
}


@pytest.mark.parametrize("trouble", [None, "down", *TROUBLE])
def test_a_vault_in_trouble_lets_nothing_out(net: Net, database: str, tmp_path: Path, trouble: str | None) -> None:
    now = [1000.0]
    with vault.running(tmp_path) as store:
        store.token = SECRETS["vault-token"]
        for name, value in settings_for(database).items():
            if name in SECRET_NAMES and name not in ("DATABASE_URL", "DATABASE_PASSWORD"):
                store.set(SECRET_NAMES[name], value)
        secrets = KeyVaultSecrets(
            store.url,
            lambda: secret_client(
                store.url,
                StaticCredential(store.token),
                connection_verify=str(store.ca_file),
                verify_challenge_resource=False,
            ),
            ttl=timedelta(minutes=10),
            environment={"DATABASE_URL": database},
            clock=lambda: now[0],
        )
        environ = {"KEY_VAULT_URL": "https://127.0.0.1:1", "LOG_LEVEL": "DEBUG", "PATH": os.environ["PATH"]}
        with closing(bootstrap.build(environ, secrets=secrets)) as app:
            for is_known in (False, True):
                store.answer, store.is_down = TROUBLE.get(trouble or ""), trouble == "down"
                for credential in (SECRETS["admin"], SECRETS["wrong"]):
                    headers = {"Authorization": f"Bearer {credential}"}
                    net.call(app.wsgi, "GET", "/repositories", headers=headers)
                    net.call(app.wsgi, "POST", "/webhooks/azure-devops", headers=headers, json=payload("x"))
                net.failing("secrets", lambda: secrets.get("azure-devops-pat"))
                if not is_known:
                    store.answer, store.is_down = None, False
                    now[0] += 60
                    assert secrets.get("admin-key") == SECRETS["admin"]
                    now[0] += 3600
    net.holds("log azure", "log shared.web", "GET")
