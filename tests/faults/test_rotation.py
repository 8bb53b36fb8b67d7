"""Every secret can be replaced while the app works: no delivery, no read and no sync fails, as long as the steps come
in the order of these tests, with their waits: a value that was refused is looked up again every 30 seconds at most.

Callers go on all the while, over HTTP. Times that somebody waits pass on a clock that the tests set.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from emulators import identity
from emulators.azure_devops import Emulator, HostedRepository
from emulators.key_vault import vault
from emulators.key_vault.vault import StaticCredential, Vault
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb
from support.load import WEBHOOK, Traffic, ask, basic, delivery, traffic
from support.processes import Program, eventually, started
from support.stores import at_once
from support.web import bearer, over_http
from support.world import workflow

from shared import bootstrap
from shared.bootstrap import App
from shared.identity import basic as of_pat
from shared.identity import managed_identity
from shared.key_vault import REFRESH_INTERVAL, KeyVaultSecrets, secret_client
from shared.model import BranchName, Registration, RepoId, SourceName
from shared.postgres.migrate import migrate

CONFIG = "a-runtime.yaml"
CACHE = timedelta(minutes=10)
ROLE = f"app_of_{os.getpid()}"
CLIENT_ID = "11111111-2222-4333-8444-555555555555"
SHORT = 200
"""Life of a token in seconds that is too short to be used twice."""


def key(name: str, generation: int) -> str:
    return f"{name}-{generation}-0123456789-0123456789-0123456789"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, duration: timedelta) -> None:
        self.now += duration.total_seconds()


@dataclass
class Callers:
    """What callers know: where the app is, and their keys."""

    url: str = ""
    hook: str = key("hook", 1)
    reader: str = key("reader", 1)
    admin: str = key("admin", 1)
    under_way: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def renew(self, generation: int = 2) -> None:
        self.hook, self.reader, self.admin = (key(name, generation) for name in ("hook", "reader", "admin"))

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> int:
        url = self.url
        self._count(url, 1)
        try:
            return ask(url, method, path, dict(headers), body)[0]
        finally:
            self._count(url, -1)

    def _count(self, url: str, one: int) -> None:
        with self._lock:
            self.under_way[url] = self.under_way.get(url, 0) + one

    def delivering(self, hosted: HostedRepository) -> Callable[[], int]:
        return lambda: self.ask("POST", WEBHOOK, basic(self.hook), delivery(hosted))

    def reading(self, hosted: HostedRepository) -> Callable[[], int]:
        return lambda: self.ask("GET", f"/runtimes/{hosted.id}/main", bearer(self.reader))

    def administering(self) -> int:
        return self.ask("GET", "/repositories", bearer(self.admin))

    def stranger(self) -> int:
        """Brings a key that nobody has, so that the app looks again whether it was rotated."""
        status = self.ask("GET", "/repositories", bearer(key("stranger", 1)))
        assert status == 401, status
        return 200


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "organisation") as emulator:
        emulator.credentials = {of_pat("pat-1")}
        yield emulator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Vault]:
    with vault.running(tmp_path) as running:
        for name in ("hook", "reader", "admin"):
            running.set(IN_VAULT[name], in_vault(name, 1))
        running.set("azure-devops-pat", "pat-1")
        yield running


IN_VAULT = {"hook": "webhook-secret", "reader": "reader-keys", "admin": "admin-key"}


def in_vault(name: str, generation: int) -> str:
    return f"etl={key(name, generation)}" if name == "reader" else key(name, generation)


@dataclass
class Running:
    """The app in this process, over the vault and the organisation, at `callers.url`."""

    app: App
    callers: Callers
    hosted: list[HostedRepository]

    @contextmanager
    def load(self, *more: Callable[[], int]) -> Iterator[Traffic]:
        """Deliveries, reads and administration; at the end every one of them, and every sync, was right."""
        one = self.hosted[0]
        calls = [*map(self.callers.delivering, self.hosted), self.callers.reading(one), self.callers.reading(one)]
        with traffic(*calls, self.callers.administering, *more) as running:
            running.go_on()
            yield running
            running.go_on()
        assert set(running.told) <= {200, 202}
        self.all_syncs_were_right()

    def all_syncs_were_right(self) -> None:
        outcomes = {outcome for (outcome,) in self.app.pool.rows("SELECT DISTINCT outcome FROM syncs")}
        assert outcomes <= {"replaced", "unchanged", "deferred"}, outcomes
        assert self.app.pool.rows("SELECT source FROM sources") == []

    def serves(self, number: int) -> bool:
        counted = "SELECT count(*) FROM runtime_configs WHERE config @> %(config)s"
        found = self.app.pool.rows(counted, {"config": Jsonb({"workflow": {"id": f"workflow-{number}"}})})
        return found == [(len(self.hosted),)]

    def push(self, number: int) -> None:
        for one in self.hosted:
            one.git.commit({CONFIG: workflow(number)})


@contextmanager
def serving(app: App, emulator: Emulator, teams: int = 6) -> Iterator[Running]:
    """With so many repositories, each of which is served already."""
    try:
        with over_http(app.wsgi) as url:
            yield Running(app, Callers(url), registered(app, emulator, teams))
    finally:
        app.close()


def registered(app: App, emulator: Emulator, teams: int) -> list[HostedRepository]:
    hosted = [emulator.repository("data", f"team-{number}") for number in range(teams)]
    for one in hosted:
        one.git.commit({CONFIG: workflow(1)})
        registration = Registration(one.name, SourceName(emulator.url), (BranchName("main"),))
        app.registry.put(RepoId(one.id), registration, expected=None)
    assert app.sweep().outcomes == {"Replaced": teams}
    return hosted


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secrets(store: Vault, clock: Clock) -> KeyVaultSecrets:
    options = {"connection_verify": str(store.ca_file), "verify_challenge_resource": False}
    return KeyVaultSecrets(
        store.url,
        lambda: secret_client(store.url, StaticCredential(store.token), **options),
        ttl=CACHE,
        environment={},
        clock=clock,
    )


@pytest.fixture
def environ(database: str, emulator: Emulator) -> dict[str, str]:
    return {"DATABASE_URL": database, "AZURE_DEVOPS_ORGANIZATION": emulator.url, "COMMIT_STATUSES": "false"}


class TestInKeyVault:
    @pytest.fixture
    def running(
        self, environ: dict[str, str], emulator: Emulator, store: Vault, secrets: KeyVaultSecrets
    ) -> Iterator[Running]:
        store.set("database-url", environ.pop("DATABASE_URL"))
        with serving(bootstrap.build({**environ, "KEY_VAULT_URL": store.url}, secrets=secrets), emulator) as running:
            yield running

    def test_keys_of_hooks_readers_and_operators(self, running: Running, store: Vault, clock: Clock) -> None:
        with running.load(running.callers.stranger) as load:
            for name, secret in IN_VAULT.items():
                store.set(f"{secret}-previous", in_vault(name, 1))
            clock.passes(REFRESH_INTERVAL)
            load.go_on()
            # The stranger has just made the app look: it will not look again for a while.
            for name, secret in IN_VAULT.items():
                store.set(secret, in_vault(name, 2))
            load.go_on()
            clock.passes(REFRESH_INTERVAL)
            running.callers.renew()
            load.go_on()
            for secret in IN_VAULT.values():
                store.delete(f"{secret}-previous")
            clock.passes(CACHE)
        old = Callers(running.callers.url)
        assert [old.delivering(running.hosted[0])(), old.reading(running.hosted[0])(), old.administering()] == [401] * 3

    def test_callers_that_change_over_all_at_once(self, running: Running, store: Vault, clock: Clock) -> None:
        """None of them brings the old value after that, and the app has not looked again by itself."""
        for generation in range(2, 12):
            for name, secret in IN_VAULT.items():
                store.set(secret, in_vault(name, generation))
            clock.passes(REFRESH_INTERVAL)
            running.callers.renew(generation)
            told = at_once(*[running.callers.delivering(one) for one in running.hosted], running.callers.administering)
            assert set(told) <= {200, 202}

    def test_the_personal_access_token(self, running: Running, store: Vault, clock: Clock, emulator: Emulator) -> None:
        with running.load() as load:
            emulator.credentials = {of_pat("pat-1"), of_pat("pat-2")}
            store.set("azure-devops-pat", "pat-2")
            clock.passes(REFRESH_INTERVAL)
            load.go_on()
            emulator.credentials = {of_pat("pat-2")}
            load.go_on()
            running.push(2)
            eventually(lambda: running.serves(2), "the pushes that only the new token can read")


class TestTheDatabase:
    """Its password, and the token that is one."""

    @pytest.fixture
    def admin(self, own_database: str) -> Iterator[psycopg.Connection[Any]]:
        with closing(psycopg.connect(own_database, autocommit=True)) as admin:
            set_password(admin, "CREATE", "password-1")
            migrate(own_database, app_role=ROLE)
            yield admin
            admin.execute(f"DROP OWNED BY {ROLE}")
            admin.execute(f"DROP ROLE {ROLE}")

    @pytest.fixture
    def environ(self, environ: dict[str, str], own_database: str, admin: object) -> dict[str, str]:
        return {
            **environ,
            "DATABASE_URL": make_conninfo(own_database, user=ROLE, password=""),
            "DATABASE_POOL_SIZE": "4",
        }

    def test_its_password(
        self,
        environ: dict[str, str],
        emulator: Emulator,
        store: Vault,
        secrets: KeyVaultSecrets,
        clock: Clock,
        admin: psycopg.Connection[Any],
    ) -> None:
        store.set("database-url", environ.pop("DATABASE_URL"))
        store.set("database-password", "password-1")
        with (
            serving(bootstrap.build({**environ, "KEY_VAULT_URL": store.url}, secrets=secrets), emulator) as running,
            running.load() as load,
        ):
            clock.passes(REFRESH_INTERVAL)
            store.set("database-password", "password-2")
            set_password(admin, "ALTER", "password-2")
            load.go_on()
            connect_anew(running.app)
            load.go_on()
            running.push(2)
            eventually(lambda: running.serves(2), "the pushes")

    def test_tokens_of_the_identity_here_and_in_azure_devops(
        self,
        environ: dict[str, str],
        emulator: Emulator,
        admin: psycopg.Connection[Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        keys = {"WEBHOOK_SECRET": key("hook", 1), "ADMIN_KEY": key("admin", 1), "READER_KEYS": in_vault("reader", 1)}
        with identity.running("token-1", CLIENT_ID) as endpoint:
            hosted = {"IDENTITY_ENDPOINT": endpoint.url, "IDENTITY_HEADER": endpoint.header}
            for name, value in hosted.items():
                monkeypatch.setenv(name, value)
            managed_identity.cache_clear()
            endpoint.lifetime = SHORT
            set_password(admin, "ALTER", "token-1")
            emulator.credentials = {"Bearer token-1"}
            entra = {"DATABASE_LOGIN": "entra", "AZURE_CLIENT_ID": CLIENT_ID}
            app = bootstrap.build({**environ, **keys, **hosted, **entra})
            with serving(app, emulator) as running, running.load() as load:
                for number in (2, 3):
                    emulator.credentials.add(f"Bearer token-{number}")
                    endpoint.token = f"token-{number}"
                    set_password(admin, "ALTER", f"token-{number}")
                    load.go_on()
                    emulator.credentials = {f"Bearer token-{number}"}
                    connect_anew(running.app)
                    load.go_on()
                    running.push(number)
                    eventually(lambda number=number: running.serves(number), "the pushes")  # type: ignore[misc]
        managed_identity.cache_clear()


def set_password(admin: psycopg.Connection[Any], how: str, password: str) -> None:
    statement = sql.SQL(how + " ROLE {} LOGIN PASSWORD {}")
    admin.execute(statement.format(sql.Identifier(ROLE), sql.Literal(password)))


def connect_anew(app: App) -> None:
    """As every connection does within its hour: those in use end when they are given back."""
    app.pool._pool.drain()


def test_in_the_environment_by_starting_the_app_again(environ: dict[str, str], emulator: Emulator) -> None:
    """As platforms do: the new process answers, and nobody asks the old one any more, before that is told to end."""

    def settings(generation: int, *, previous: bool = False) -> dict[str, str]:
        names = {"WEBHOOK_SECRET": "hook", "ADMIN_KEY": "admin", "READER_KEYS": "reader"}
        current = {setting: in_vault(name, generation) for setting, name in names.items()}
        before = {f"{setting}_PREVIOUS": in_vault(name, generation - 1) for setting, name in names.items()}
        return {**environ, "AZURE_DEVOPS_PAT": f"pat-{generation}", **current, **(before if previous else {})}

    app = bootstrap.build(settings(1))
    with ExitStack() as stack:
        stack.callback(app.close)
        running = Running(app, Callers(), registered(app, emulator, 4))

        def started_with(given: dict[str, str]) -> Program:
            server = stack.enter_context(started("shared", "serve", "--port", "0", "--no-timer", environment=given))
            before, running.callers.url = running.callers.url, server.says(r"Runtime Store is at (http://\S+)")
            eventually(lambda: not running.callers.under_way.get(before), "the last answer of the process before")
            return server

        first = started_with(settings(1))
        with running.load() as load:
            emulator.credentials = {of_pat("pat-1"), of_pat("pat-2")}
            second = started_with(settings(2, previous=True))
            assert first.ends(signal.SIGTERM) == 0
            load.go_on()
            running.callers.renew()
            load.go_on()
            started_with(settings(2))
            assert second.ends(signal.SIGTERM) == 0
            emulator.credentials = {of_pat("pat-2")}
