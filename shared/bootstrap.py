"""The composition root: settings become an app. The only place that knows every adapter.

Factories are annotated with the port that they fill, so that the type checker proves the fit.
"""

import gc
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic

from shared.azure_devops.events import decode
from shared.errors import SecretUnavailable, SettingsInvalid
from shared.examination import Examiner
from shared.intake import Intake
from shared.key_vault import WARNING_INTERVAL, EnvironmentSecrets, KeyVaultSecrets, managed_identity, secret_client
from shared.local_git.source import LocalGitSource
from shared.model import SweepSummary
from shared.ports import ConfigReader, ConfigStore, GitSource, Journal, Queue, Registry, Secrets, Sweeps
from shared.postgres.configs import PostgresConfigReader, PostgresConfigStore
from shared.postgres.journal import PostgresJournal
from shared.postgres.pool import Pool
from shared.postgres.queue import PostgresQueue
from shared.postgres.registry import PostgresRegistry
from shared.postgres.sweeps import PostgresSweeps
from shared.reconcile import Reconcile
from shared.registration import Registrar
from shared.rules import Rules
from shared.settings import DatabasePooler, ReadAccess, Settings, load, parse
from shared.sync import Sync
from shared.web.access import Access, Keys
from shared.web.app import App as WebApp
from shared.web.app import create_app
from shared.web.services import Limits, Services

_log = logging.getLogger(__name__)

_KEYS = ("webhook-secret", "admin-key", "reader-keys")


@dataclass(frozen=True, slots=True)
class App:
    """Everything, wired. `wsgi` answers every HTTP route."""

    settings: Settings
    wsgi: WebApp
    registry: Registry
    registrar: Registrar
    queue: Queue
    sync: Sync
    reconcile: Reconcile
    pool: Pool

    def sweep(self) -> SweepSummary:
        """What the timer does."""
        return self.reconcile.sweep("timer", self.settings.reconcile_budget)

    def close(self) -> None:
        """Let go of the connections."""
        self.pool.close()


def build(
    environ: Mapping[str, str] | None = None,
    *,
    secrets: Secrets | None = None,
    git: GitSource | None = None,
    rules: Rules | None = None,
) -> App:
    """The app as `environ` (by default the process's) says; a part that is given replaces the one made from settings.

    Opens no connection to the database. Raises `SettingsInvalid`, and `SecretUnavailable` when the database's URL is in
    a vault that does not answer.
    """
    settings = load(environ)
    logging.getLogger("shared").setLevel(settings.log_level)
    secrets = secrets or secrets_from(settings)
    git = git or git_from(settings)
    pool = pool_from(settings, secrets)
    registry: Registry = PostgresRegistry(pool)
    queue: Queue = PostgresQueue(pool)
    sweeps: Sweeps = PostgresSweeps(pool, head_check_interval=settings.head_check_interval)
    store: ConfigStore = PostgresConfigStore(pool)
    reader: ConfigReader = PostgresConfigReader(pool)
    journal: Journal = PostgresJournal(pool)
    examiner = Examiner(git, rules or Rules.shipped())
    sync = Sync(registry, queue, store, git, examiner)
    registrar = Registrar(
        registry,
        branches=settings.branches,
        organisation=settings.azure_devops_organization,
        url_template=settings.git_url_template,
        auto_register=settings.auto_register,
    )
    reconcile = Reconcile(
        sweeps,
        queue,
        journal,
        git,
        examiner,
        sync,
        workers=settings.reconcile_workers,
        retention=settings.retention,
    )
    services = Services(
        configs=reader,
        registry=registry,
        queue=queue,
        journal=journal,
        sync=sync,
        registrar=registrar,
        intake=Intake(registrar, queue, git, sync, reconcile.take_along),
        reconcile=reconcile,
        decode=decode,
    )
    wsgi = create_app(services, access_from(settings, secrets), limits_from(settings))
    # All that was loaded until now stays. The collector need not walk it in the middle of every third sync again, which
    # was an eighth of what a push to a branch of 10,000 files cost this process.
    gc.freeze()
    return App(settings, wsgi, registry, registrar, queue, sync, reconcile, pool)


def secrets_from(settings: Settings) -> Secrets:
    if settings.key_vault_url is None:
        return EnvironmentSecrets(settings.secrets)
    url = settings.key_vault_url
    return KeyVaultSecrets(
        url,
        lambda: secret_client(url, managed_identity(settings.azure_client_id, is_hosted=settings.is_hosted)),
        ttl=settings.key_vault_cache,
        environment=settings.secrets,
    )


def git_from(settings: Settings) -> GitSource:
    return LocalGitSource(timeout=settings.git_timeout, environment=settings.process)


def pool_from(settings: Settings, secrets: Secrets) -> Pool:
    return Pool(
        database_url(settings, secrets),
        size=settings.database_pool_size,
        transaction_pooler=settings.database_pooler is DatabasePooler.TRANSACTION,
        password=lambda: secrets.get("database-password"),
        refused=lambda: secrets.refresh("database-password"),
    )


def database_url(settings: Settings, secrets: Secrets) -> str:
    """Raises `SettingsInvalid` when neither the environment nor the vault has one."""
    url = secrets.get("database-url")
    if url is None:
        raise SettingsInvalid(["DATABASE_URL is not set, and the Key Vault has no secret `database-url`"])
    return str(parse("DATABASE_URL", url))


def access_from(settings: Settings, secrets: Secrets) -> Access:
    told: dict[str, float] = {}
    return Access(
        lambda: _keys(secrets.get, told),
        lambda: _keys(secrets.refresh, told),
        anonymous_reads=settings.read_access is ReadAccess.ANONYMOUS,
    )


def limits_from(settings: Settings) -> Limits:
    return Limits(
        webhook_duration=settings.webhook_budget,
        webhook_files=settings.webhook_budget_files,
        webhook_body=settings.webhook_max_bytes,
        sync_duration=settings.manual_budget,
        cached_lists=settings.list_cache_bytes,
    )


def _keys(read: Callable[[str], str | None], told: dict[str, float]) -> Keys:
    return _grouped(*(_valid(read, name, told) for key in _KEYS for name in (key, f"{key}-previous")))


def _valid(read: Callable[[str], str | None], name: str, told: dict[str, float]) -> str | None:
    """A key that cannot be read or used is none: its role is closed, and the others are not. `told` holds when the log
    last said so of each, in monotonic seconds: every request asks for all of them."""
    try:
        text = read(name)
        return text if text is None or _is_valid(name, text) else None
    except SecretUnavailable as error:
        now = monotonic()
        if name not in told or now - told[name] >= WARNING_INTERVAL.total_seconds():
            told[name] = now
            _log.error("A key cannot be read", extra={"secret": name, "reason": error.message, "hint": error.hint})
        return None


@lru_cache(maxsize=16)
def _is_valid(name: str, text: str) -> bool:
    try:
        parse(name.replace("-", "_").upper(), text)
    except SettingsInvalid as error:
        _log.error("A key cannot be used", extra={"secret": name, "problem": error.problems[0]})
        return False
    return True


@lru_cache(maxsize=4)
def _grouped(*texts: str | None) -> Keys:
    """One object for as long as no value changes: what is derived from it is kept by identity."""
    hook, hook_before, admin, admin_before, *readers = texts
    named: dict[str, tuple[str, ...]] = {}
    for text in filter(None, readers):
        for name, key in parse("READER_KEYS", text).items():
            named[name] = (*named.get(name, ()), key)
    return Keys(
        hook=tuple(filter(None, (hook, hook_before))), admin=tuple(filter(None, (admin, admin_before))), readers=named
    )
