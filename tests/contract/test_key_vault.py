"""What `ports.Secrets` promises, held by the real SDK against a vault on this machine."""

import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from emulators import identity
from emulators.key_vault import vault
from emulators.key_vault.vault import Answer, StaticCredential, Vault

from shared import key_vault
from shared.errors import SecretUnavailable
from shared.identity import managed_identity
from shared.key_vault import EnvironmentSecrets, KeyVaultSecrets, secret_client
from shared.ports import Secrets

NAME = "webhook-secret"
OLD = "sentinel-old-0123456789abcdef0123456789"
NEW = "sentinel-new-0123456789abcdef0123456789"
TTL = timedelta(minutes=10)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Vault]:
    with vault.running(tmp_path) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


def secrets_of(
    store: Vault, clock: Clock, environment: dict[str, str] | None = None, **options: Any
) -> KeyVaultSecrets:
    # The resource check is about the real domain of vaults, which a server on this machine cannot have.
    options = {"connection_verify": str(store.ca_file), "verify_challenge_resource": False, **options}
    return KeyVaultSecrets(
        store.url,
        lambda: secret_client(store.url, StaticCredential(store.token), **options),
        ttl=TTL,
        environment=environment or {},
        clock=clock,
    )


@pytest.fixture
def secrets(store: Vault, clock: Clock) -> KeyVaultSecrets:
    return secrets_of(store, clock)


def test_both_adapters_fit_the_port(store: Vault, clock: Clock) -> None:
    adapters: list[Secrets] = [EnvironmentSecrets({"WEBHOOK_SECRET": OLD}), secrets_of(store, clock)]
    store.set(NAME, OLD)
    assert [adapter.get(NAME) for adapter in adapters] == [OLD, OLD]
    assert [adapter.refresh("admin-key") for adapter in adapters] == [None, None]


def test_a_secret_is_read_after_the_challenge_and_then_from_the_cache(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock
) -> None:
    store.set(NAME, OLD)
    assert [secrets.get(NAME), secrets.get(NAME)] == [OLD, OLD]
    assert len(store.requests) == 2  # the one that is challenged, and the one with the token
    clock.now += TTL.total_seconds() - 1
    assert secrets.get(NAME) == OLD
    assert store.reads == [NAME]


def test_no_connection_is_kept_between_two_fetches(store: Vault, secrets: KeyVaultSecrets) -> None:
    secrets.get(NAME)
    assert [headers["connection"] for _, headers in store.requests] == ["close", "close"]


def test_a_new_version_is_used_when_the_cache_is_old(store: Vault, secrets: KeyVaultSecrets, clock: Clock) -> None:
    store.set(NAME, OLD)
    assert secrets.get(NAME) == OLD
    store.set(NAME, NEW)
    assert secrets.get(NAME) == OLD
    clock.now += TTL.total_seconds()
    assert secrets.get(NAME) == NEW


def test_a_refresh_asks_again_but_not_more_often_than_every_30_seconds(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock
) -> None:
    store.set(NAME, OLD)
    secrets.get(NAME)
    store.set(NAME, NEW)
    clock.now += 29
    assert secrets.refresh(NAME) == OLD
    clock.now += 1
    assert secrets.refresh(NAME) == NEW
    assert [secrets.refresh(NAME) for _ in range(20)] == [NEW] * 20
    assert store.reads == [NAME, NAME]


def test_the_environment_wins_and_an_empty_variable_does_not(store: Vault, clock: Clock) -> None:
    store.set(NAME, OLD)
    store.set("admin-key", OLD)
    secrets = secrets_of(store, clock, {"WEBHOOK_SECRET": NEW, "ADMIN_KEY": ""})
    assert secrets.get(NAME) == secrets.refresh(NAME) == NEW
    assert secrets.get("admin-key") == OLD
    assert store.reads == ["admin-key"]


@pytest.mark.parametrize("how", ["never set", "deleted", "disabled", "empty"])
def test_a_secret_that_is_not_there_is_none_and_stays_so_in_the_cache(
    store: Vault, secrets: KeyVaultSecrets, how: str, clock: Clock
) -> None:
    if how != "never set":
        store.set(NAME, OLD)
        assert secrets.get(NAME) == OLD
        clock.now += TTL.total_seconds()
    if how == "deleted":
        store.delete(NAME)
    if how in ("disabled", "empty"):
        store.set(NAME, NEW if how == "disabled" else "", is_enabled=how != "disabled")
    before = len(store.reads)
    assert [secrets.get(NAME), secrets.get(NAME)] == [None, None]
    assert len(store.reads) == before + 1


TROUBLES = {
    "forbidden": vault.FORBIDDEN,
    "firewalled": vault.FIREWALLED,
    "throttled": vault.THROTTLED,
    "out of order": vault.OUT_OF_ORDER,
    "another 404": Answer(404, b"<html>no such site</html>", {"Content-Type": "text/html"}),
    "a sign-in page": Answer(200, f"<html>{OLD}</html>".encode(), {"Content-Type": "text/html"}),
    "cut-off JSON": Answer(200, f'{{"value": "{OLD}", "id": '.encode()),
    "a list": Answer(200, f'["{OLD}"]'.encode()),
    "no value": Answer(200, b"{}"),
    "a foreign id": Answer(200, f'{{"value": "{OLD}", "id": "{OLD}"}}'.encode()),
    "code that is a secret": vault.error(400, OLD, OLD),
}


def afflict(store: Vault, trouble: str) -> None:
    store.answer = TROUBLES.get(trouble)
    store.is_down = trouble == "down"


def heal(store: Vault) -> None:
    afflict(store, "nothing")


every_trouble = pytest.mark.parametrize("trouble", [*TROUBLES, "down"])


@every_trouble
def test_trouble_without_a_known_value_is_unavailable_and_over_soon_after_the_vault_is_back(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock, trouble: str
) -> None:
    store.set(NAME, OLD)
    afflict(store, trouble)
    with pytest.raises(SecretUnavailable, match=NAME) as caught:
        secrets.get(NAME)
    assert caught.value.hint
    asked = len(store.requests)
    heal(store)
    with pytest.raises(SecretUnavailable):
        secrets.get(NAME)
    assert len(store.requests) == asked
    clock.now += SecretUnavailable.retry_after.total_seconds()
    assert secrets.get(NAME) == OLD


@every_trouble
def test_trouble_with_a_known_value_keeps_it_and_warns_at_most_once_a_minute(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.set(NAME, OLD)
    assert secrets.get(NAME) == OLD
    store.set(NAME, NEW)
    afflict(store, trouble)
    clock.now += TTL.total_seconds()
    asked = len(store.reads)
    with caplog.at_level(logging.WARNING, "shared"):
        for _ in range(6):
            assert secrets.get(NAME) == secrets.refresh(NAME) == OLD
            clock.now += 10
        [record] = caplog.records
        assert secrets.get(NAME) == OLD
        assert len(caplog.records) == 2
    assert len(store.reads) - asked <= 3
    assert (vars(record)["secret"], vars(record)["age_seconds"]) == (NAME, 600)
    assert vars(record)["hint"]
    heal(store)
    clock.now += 30
    assert secrets.get(NAME) == NEW


@pytest.mark.parametrize(
    ("trouble", "hint"),
    [
        ("forbidden", "role Key Vault Secrets User on {url}"),
        ("firewalled", "firewall of {url}"),
        ("throttled", "network reaches {url}"),
        ("down", "network reaches {url}"),
        ("a list", "Check KEY_VAULT_URL"),
    ],
)
def test_trouble_says_who_can_do_what(store: Vault, secrets: KeyVaultSecrets, trouble: str, hint: str) -> None:
    afflict(store, trouble)
    with pytest.raises(SecretUnavailable) as caught:
        secrets.get(NAME)
    assert hint.format(url=store.url) in (caught.value.hint or "")
    assert store.url in caught.value.message


@every_trouble
def test_no_log_and_no_exception_holds_a_secret_or_a_token(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    afflict(store, trouble)
    with pytest.raises(SecretUnavailable) as caught:
        secrets.get(NAME)
    store.set(NAME, OLD)
    heal(store)
    clock.now += 5
    assert secrets.get(NAME) == OLD
    afflict(store, trouble)
    clock.now += TTL.total_seconds()
    assert secrets.get(NAME) == OLD
    raised = "".join(traceback.format_exception(caught.value)) + f"{caught.value!r} {caught.value.hint}"
    said = "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert said
    for sentinel in (OLD, OLD.lower(), store.token):
        assert sentinel not in raised + said


def test_a_right_that_one_secret_lacks_keeps_no_other_from_being_read(store: Vault, secrets: KeyVaultSecrets) -> None:
    store.set(NAME, OLD)
    store.answer = vault.FORBIDDEN
    with pytest.raises(SecretUnavailable):
        secrets.get("admin-key")
    store.answer = None
    assert secrets.get(NAME) == OLD


def test_a_vault_that_is_back_for_one_secret_is_back_for_all(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock
) -> None:
    store.set(NAME, OLD)
    secrets.get(NAME)
    store.set(NAME, NEW)
    clock.now += TTL.total_seconds()
    store.is_down = True
    with pytest.raises(SecretUnavailable):
        secrets.get("admin-key")
    assert secrets.get(NAME) == OLD
    store.is_down = False
    clock.now += 5
    assert secrets.get("admin-key") is None
    assert secrets.get(NAME) == NEW


def test_a_vault_that_hangs_is_waited_for_once_and_not_for_each_secret(
    store: Vault, secrets: KeyVaultSecrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_vault.NETWORK["connection_timeout"] == key_vault.NETWORK["read_timeout"] == 5
    monkeypatch.setitem(cast(dict[str, float], key_vault.NETWORK), "read_timeout", 0.2)
    store.open_gate.clear()
    for name in (NAME, "admin-key", "reader-keys", NAME):
        with pytest.raises(SecretUnavailable):
            secrets.get(name)
    assert len(store.requests) == 1


def test_a_throttling_vault_is_not_waited_for(store: Vault, secrets: KeyVaultSecrets) -> None:
    store.answer = vault.THROTTLED  # Retry-After: 30, which the SDK would sleep
    with pytest.raises(SecretUnavailable, match="Throttled"):
        secrets.get(NAME)
    assert store.reads == [NAME]


@pytest.mark.timeout(20)
def test_while_one_caller_asks_the_others_get_the_older_value(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock
) -> None:
    store.set(NAME, OLD)
    assert secrets.get(NAME) == OLD
    store.set(NAME, NEW)
    clock.now += TTL.total_seconds()
    store.open_gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(secrets.get, NAME)
        assert store.waiting.acquire(timeout=4)
        assert secrets.get(NAME) == OLD
        store.open_gate.set()
        assert asking.result() == NEW
    assert store.reads == [NAME, NAME]


@pytest.mark.timeout(20)
def test_those_who_were_refused_with_the_older_value_wait_for_the_one_who_asks(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_vault, "REFRESH_PATIENCE", timedelta(minutes=1))
    store.set(NAME, OLD)
    assert secrets.get(NAME) == OLD
    store.set(NAME, NEW)
    clock.now += 30
    store.open_gate.clear()
    with ThreadPoolExecutor(8) as pool:
        asking = pool.submit(secrets.refresh, NAME)
        assert store.waiting.acquire(timeout=4)
        others = [pool.submit(secrets.refresh, NAME) for _ in range(7)]
        assert not wait(others, 0.05).done
        store.open_gate.set()
        assert [one.result() for one in (asking, *others)] == [NEW] * 8
    assert store.reads == [NAME, NAME]


@pytest.mark.timeout(20)
def test_they_do_not_wait_for_a_vault_that_hangs(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_vault, "REFRESH_PATIENCE", timedelta(seconds=0.05))
    store.set(NAME, OLD)
    assert secrets.get(NAME) == OLD
    clock.now += 30
    store.open_gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(secrets.refresh, NAME)
        assert store.waiting.acquire(timeout=4)
        assert secrets.refresh(NAME) == OLD
        store.open_gate.set()
        assert asking.result() == OLD


@pytest.mark.timeout(20)
def test_a_vault_that_hangs_holds_one_caller_and_not_one_for_each_secret(
    store: Vault, secrets: KeyVaultSecrets, clock: Clock
) -> None:
    for name in (NAME, "admin-key"):
        store.set(name, OLD)
        assert secrets.get(name) == OLD
    clock.now += TTL.total_seconds()
    store.open_gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(secrets.refresh, NAME)
        assert store.waiting.acquire(timeout=4)
        clock.now += key_vault.REFRESH_PATIENCE.total_seconds()
        assert (secrets.refresh("admin-key"), secrets.get("admin-key"), secrets.refresh(NAME)) == (OLD, OLD, OLD)
        store.open_gate.set()
        assert asking.result() == OLD
    assert store.reads == [NAME, "admin-key", NAME]


def test_callers_that_come_first_together_share_one_fetch(store: Vault, secrets: KeyVaultSecrets) -> None:
    store.set(NAME, OLD)
    start = threading.Barrier(8)

    def get() -> str | None:
        start.wait()
        return secrets.get(NAME)

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(get) for _ in range(8)]
        assert [result.result() for result in results] == [OLD] * 8
    assert store.reads == [NAME]


def test_a_host_that_is_no_vault_gets_no_token(store: Vault, clock: Clock) -> None:
    secrets = secrets_of(store, clock, verify_challenge_resource=True)
    with pytest.raises(SecretUnavailable, match="not a Key Vault of that name"):
        secrets.get(NAME)
    assert store.requests
    assert store.reads == []


def test_a_certificate_that_nobody_vouches_for_is_refused(store: Vault, clock: Clock) -> None:
    secrets = secrets_of(store, clock, connection_verify=True)
    with pytest.raises(SecretUnavailable, match="ServiceRequestError"):
        secrets.get(NAME)
    assert store.requests == []


CLIENT_ID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def hosted(store: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[identity.Identity]:
    with identity.running(store.token, CLIENT_ID) as endpoint:
        # azure.identity reads the process's environment itself, when the credential is made.
        monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint.url)
        monkeypatch.setenv("IDENTITY_HEADER", endpoint.header)
        managed_identity.cache_clear()
        yield endpoint
        managed_identity.cache_clear()


def as_identity(store: Vault, client_id: str) -> KeyVaultSecrets:
    options = {"connection_verify": str(store.ca_file), "verify_challenge_resource": False}
    return KeyVaultSecrets(
        store.url,
        lambda: secret_client(store.url, managed_identity(client_id, is_hosted=True), **options),
        ttl=TTL,
        environment={},
    )


def test_the_managed_identity_signs_in_once_for_all_secrets(store: Vault, hosted: identity.Identity) -> None:
    store.set(NAME, OLD)
    assert as_identity(store, CLIENT_ID).get(NAME) == OLD
    assert as_identity(store, CLIENT_ID).get("admin-key") is None
    assert managed_identity(CLIENT_ID, is_hosted=True) is managed_identity(CLIENT_ID, is_hosted=True)
    assert hosted.asked == 1


def test_an_identity_that_the_app_does_not_have_is_said_to_be_that(store: Vault, hosted: identity.Identity) -> None:
    with pytest.raises(SecretUnavailable) as caught:
        as_identity(store, "99999999-2222-4333-8444-555555555555").get(NAME)
    assert "AZURE_CLIENT_ID" in (caught.value.hint or "")


def test_importing_the_module_loads_nothing_of_azure() -> None:
    code = "import sys, shared.key_vault; print([name for name in sys.modules if name.startswith('azure')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert found.stdout.strip() == "[]"


def test_an_expiry_that_no_date_can_hold_costs_its_measure_and_not_the_secret(store: Vault, clock: Clock) -> None:
    milliseconds = 1_795_254_926_855
    told = {"value": NEW, "id": f"{store.url}/secrets/{NAME}/1", "attributes": {"exp": milliseconds}}
    store.answer = Answer(200, json.dumps(told).encode())
    assert secrets_of(store, clock).get(NAME) == NEW
