"""Tokens of this app's identity, from the real SDK and an identity endpoint on this machine."""

import base64
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from emulators import identity
from emulators.key_vault import vault
from emulators.key_vault.vault import StaticCredential
from psycopg.conninfo import make_conninfo
from support.cli import CommandLine, log_restored
from support.tls import Authority, proxied

from shared import bootstrap
from shared.errors import (
    DatabaseUnavailable,
    RuntimeStoreError,
    SecretUnavailable,
    SettingsInvalid,
    SourceFailed,
    SourceRefused,
)
from shared.identity import AZURE_DEVOPS, DATABASE, Authorization, basic, managed_identity, tokens
from shared.key_vault import KeyVaultSecrets, secret_client

CLIENT_ID = "11111111-2222-4333-8444-555555555555"
OLD = "sentinel-old-token"
NEW = "sentinel-new-token"
SHORT = 200
"""A life of a token, in seconds, that ends too soon to be used again."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[identity.Identity]:
    with identity.running(OLD, CLIENT_ID) as running:
        # azure.identity reads the process's environment itself, when the credential is made.
        monkeypatch.setenv("IDENTITY_ENDPOINT", running.url)
        monkeypatch.setenv("IDENTITY_HEADER", running.header)
        managed_identity.cache_clear()
        yield running
        managed_identity.cache_clear()


def tokens_for(
    scope: str, client_id: str = CLIENT_ID, failure: Callable[..., RuntimeStoreError] = SourceRefused
) -> Callable[[], str]:
    return tokens(lambda: managed_identity(client_id, is_hosted=True), scope, failure)


def test_a_token_is_asked_for_once_for_each_resource(endpoint: identity.Identity) -> None:
    devops, database = tokens_for(AZURE_DEVOPS), tokens_for(DATABASE)
    assert endpoint.asked == 0, "nothing is asked for before the first use"
    assert [devops(), database(), devops(), database()] == [OLD] * 4
    assert endpoint.resources == ["499b84ac-1321-427f-aa17-267ca6975798", "https://ossrdbms-aad.database.windows.net"]


def test_a_token_that_ends_soon_is_replaced_before_it_does(endpoint: identity.Identity) -> None:
    token = tokens_for(AZURE_DEVOPS)
    endpoint.lifetime = SHORT
    assert token() == OLD
    endpoint.token, endpoint.lifetime = NEW, 3600
    assert [token(), token()] == [NEW, NEW]
    assert endpoint.asked == 2


def test_the_credential_is_not_asked_for_a_token_that_is_good() -> None:
    signed_in = StaticCredential(OLD)
    token = tokens(lambda: signed_in, AZURE_DEVOPS, SourceRefused)
    assert [token() for _ in range(9)] == [OLD] * 9
    assert signed_in.asked == 1


def test_while_the_endpoint_is_in_trouble_a_token_is_used_to_its_end(endpoint: identity.Identity) -> None:
    token = tokens_for(AZURE_DEVOPS)
    endpoint.lifetime = SHORT
    assert token() == OLD
    endpoint.answer = b"<html>out of order</html>"
    assert token() == OLD
    endpoint.answer, endpoint.lifetime = None, -1
    managed_identity.cache_clear()  # the SDK's own copy of the first one
    assert token() == OLD
    endpoint.answer = b"<html>out of order</html>"
    with pytest.raises(SourceRefused):
        token()


@pytest.mark.parametrize(
    "answer",
    [b"<html>sentinel-old-token</html>", b'["sentinel-old-token"]', b'{"access_token": "sentinel-old-token"}', b""],
    ids=["html", "list", "no end", "nothing"],
)
def test_an_answer_that_is_no_token_is_told_without_its_words(endpoint: identity.Identity, answer: bytes) -> None:
    endpoint.answer = answer
    with pytest.raises(SourceRefused, match="could not sign in to Azure DevOps") as caught:
        tokens_for(AZURE_DEVOPS)()
    told = "".join(traceback.format_exception(caught.value)) + f"{caught.value!r}{caught.value.hint}"
    assert OLD not in told
    endpoint.answer = None
    assert tokens_for(AZURE_DEVOPS)() == OLD


def test_an_endpoint_that_is_away_is_told_as_what_the_caller_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    managed_identity.cache_clear()
    with pytest.raises(DatabaseUnavailable, match="could not sign in to the database") as caught:
        tokens_for(DATABASE, failure=DatabaseUnavailable)()
    for words in ("managed identity", "AZURE_CLIENT_ID", "az login"):
        assert words in (caught.value.hint or "")
    managed_identity.cache_clear()


def test_an_identity_that_the_app_does_not_have_is_told(endpoint: identity.Identity) -> None:
    with pytest.raises(SourceRefused) as caught:
        tokens_for(AZURE_DEVOPS, "99999999-2222-4333-8444-555555555555")()
    assert "AZURE_CLIENT_ID" in (caught.value.hint or "")
    assert "AZURE_DEVOPS_PAT" in (caught.value.hint or "")


def test_elsewhere_than_in_azure_it_is_whoever_is_signed_in() -> None:
    credential = managed_identity(CLIENT_ID, is_hosted=False)
    assert type(credential).__name__ == "DefaultAzureCredential"
    cast(Any, credential).close()
    managed_identity.cache_clear()


class TestAuthorization:
    def test_a_personal_access_token_is_a_password_without_a_user(self) -> None:
        assert base64.b64decode(basic("pat-0123").removeprefix("Basic ")) == b":pat-0123"

    def test_the_identity_speaks_where_there_is_no_pat(self, endpoint: identity.Identity) -> None:
        authorization = Authorization(lambda: None, lambda: None, tokens_for(AZURE_DEVOPS))
        assert authorization.current() == authorization.renewed() == f"Bearer {OLD}"

    def test_where_there_is_one_no_token_is_asked_for(self, endpoint: identity.Identity) -> None:
        authorization = Authorization(lambda: "pat", lambda: "pat", tokens_for(AZURE_DEVOPS))
        assert authorization.current() == authorization.renewed() == basic("pat")
        assert endpoint.asked == 0

    @pytest.mark.parametrize(
        ("pat", "value"), [("pat\n", basic("pat")), (" \n", f"Bearer {OLD}"), ("", f"Bearer {OLD}")]
    )
    def test_a_line_end_is_no_part_of_it(self, pat: str, value: str) -> None:
        assert Authorization(lambda: pat, lambda: pat, lambda: OLD).current() == value

    def test_a_pat_that_cannot_be_read_fails_the_source_for_now(self) -> None:
        def pat() -> str:
            raise SecretUnavailable("The vault is away.", hint="Call it back.")

        authorization = Authorization(pat, pat, lambda: OLD)
        with pytest.raises(SourceFailed, match="The vault is away") as caught:
            authorization.current()
        assert caught.value.hint == "Call it back."

    def test_one_that_was_rotated_in_the_vault_is_found_after_a_refusal(self, tmp_path: Path) -> None:
        now, name = [1000.0], "azure-devops-pat"
        with vault.running(tmp_path) as store:
            options = {"connection_verify": str(store.ca_file), "verify_challenge_resource": False}
            secrets = KeyVaultSecrets(
                store.url,
                lambda: secret_client(store.url, StaticCredential(store.token), **options),
                ttl=timedelta(minutes=10),
                environment={},
                clock=lambda: now[0],
            )
            authorization = Authorization(lambda: secrets.get(name), lambda: secrets.refresh(name), lambda: OLD)
            store.set(name, "first-pat")
            assert authorization.current() == basic("first-pat")
            store.set(name, "second-pat")
            now[0] += 30
            assert authorization.current() == basic("first-pat")
            assert authorization.renewed() == basic("second-pat")
            assert authorization.current() == basic("second-pat")
            store.delete(name)
            now[0] += 30
            assert authorization.renewed() == f"Bearer {OLD}"


class TestDatabaseLogin:
    """The whole way: settings, the identity's token, verified TLS, PostgreSQL."""

    @pytest.fixture
    def environ(self, own_database: str, tmp_path: Path, endpoint: identity.Identity) -> Iterator[dict[str, str]]:
        authority = Authority(tmp_path)
        with (
            closing(psycopg.connect(own_database, autocommit=True)) as admin,
            proxied(own_database, authority.context("database.test")) as proxy,
        ):
            admin.execute(f"CREATE ROLE app_entra LOGIN PASSWORD '{OLD}'")
            admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_entra")
            admin.execute("GRANT CREATE ON SCHEMA public TO app_entra")
            url = make_conninfo(proxy.conninfo, user="app_entra", password="unused", sslrootcert=str(authority.bundle))
            yield {
                **{name: os.environ[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")},
                "ENVIRONMENT": "local",
                "DATABASE_URL": url,
                "DATABASE_LOGIN": "entra",
                "AZURE_CLIENT_ID": CLIENT_ID,
            }
            admin.execute("DROP OWNED BY app_entra")
            admin.execute("DROP ROLE app_entra")

    def test_the_app_logs_in_with_its_token(self, environ: dict[str, str], endpoint: identity.Identity) -> None:
        app = bootstrap.build(environ)
        with closing(app):
            assert endpoint.asked == 0
            assert app.registry.list() == []
            assert app.pool.rows("SELECT current_user::text") == [("app_entra",)]
        assert endpoint.resources == ["https://ossrdbms-aad.database.windows.net"]

    def test_without_a_token_it_says_that_it_could_not_sign_in(
        self, environ: dict[str, str], endpoint: identity.Identity
    ) -> None:
        endpoint.answer = b"{}"
        app = bootstrap.build(environ)
        with closing(app), pytest.raises(DatabaseUnavailable, match="could not sign in to the database"):
            app.registry.list()

    def test_a_refused_token_is_in_no_message(self, environ: dict[str, str], endpoint: identity.Identity) -> None:
        endpoint.token = NEW
        app = bootstrap.build(environ)
        with closing(app), pytest.raises(DatabaseUnavailable, match="refuses the login") as caught:
            app.registry.list()
        assert NEW not in "".join(traceback.format_exception(caught.value))

    def test_a_url_that_is_not_safe_for_a_token_keeps_the_app_from_starting(self, environ: dict[str, str]) -> None:
        unsafe = {**environ, "DATABASE_URL": "postgresql://app_entra@database.test/x?sslmode=require"}
        with pytest.raises(SettingsInvalid, match="sslmode=require"):
            bootstrap.build(unsafe)
        bootstrap.build({**unsafe, "DATABASE_LOGIN": "password"}).close()

    def test_migrations_log_in_the_same_way(
        self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with log_restored():
            assert CommandLine(capsys)("migrate").code == 0
            monkeypatch.setenv("DATABASE_URL", "postgresql://app_entra@database.test/x?sslmode=require")
            refused = CommandLine(capsys)("migrate")
        assert "sslmode=require" in refused.stderr


def test_importing_the_module_loads_nothing_of_azure() -> None:
    code = "import sys, shared.identity; print([name for name in sys.modules if name.startswith('azure')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert found.stdout.strip() == "[]"
