"""The composition root: settings become an app. The only place that knows every adapter.

Factories are annotated with the port that they fill, so that the type checker proves the fit.
"""

import gc
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from time import monotonic

from shared import telemetry
from shared.azure_devops.client import Organisation
from shared.azure_devops.directory import AzureDevOpsDirectory
from shared.azure_devops.events import decode
from shared.azure_devops.source import AzureDevOpsSource
from shared.azure_devops.statuses import AzureDevOpsStatuses
from shared.by_hand import ByHand
from shared.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    RuntimeStoreError,
    SecretUnavailable,
    SettingsInvalid,
    SourceRefused,
    SourceThrottled,
)
from shared.examination import Examiner
from shared.git_sources import GitSources
from shared.identity import AZURE_DEVOPS, DATABASE, Authorization, managed_identity, tokens
from shared.intake import Intake
from shared.key_vault import WARNING_INTERVAL, EnvironmentSecrets, KeyVaultSecrets, secret_client
from shared.local_git.source import LocalGitSource
from shared.model import SourceName, SweepSummary
from shared.ports import (
    ConfigReader,
    ConfigStore,
    Directory,
    GitSource,
    Journal,
    Outbox,
    Queue,
    Registry,
    Secrets,
    StatusBoard,
    Sweeps,
)
from shared.postgres.configs import PostgresConfigReader, PostgresConfigStore
from shared.postgres.journal import PostgresJournal
from shared.postgres.outbox import PostgresOutbox
from shared.postgres.pool import Pool
from shared.postgres.queue import PostgresQueue
from shared.postgres.registry import PostgresRegistry
from shared.postgres.sweeps import PostgresSweeps
from shared.reconcile import Reconcile
from shared.registration import Registrar
from shared.rules import Rules
from shared.settings import DatabaseLogin, DatabasePooler, ReadAccess, Settings, load, parse
from shared.statuses import Statuses
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
    by_hand: ByHand
    reconcile: Reconcile
    pool: Pool
    watch_hooks: Callable[[], object]
    stop_telemetry: Callable[[], object]

    def sweep(self, host: object = None) -> SweepSummary:
        """What the timer does; `host` is the context of the function that it called, if it is one."""
        with telemetry.continued(host):
            summary = self.reconcile.sweep("timer", self.settings.reconcile_budget)
            self.watch_hooks()
        return summary

    def close(self) -> None:
        """Let go of the connections, and send what is left to tell."""
        self.stop_telemetry()
        self.pool.close()


def build(
    environ: Mapping[str, str] | None = None,
    *,
    secrets: Secrets | None = None,
    git: GitSource | None = None,
    rules: Rules | None = None,
) -> App:
    """The app as `environ` (by default the process's) says; a part that is given replaces the one made from settings.

    Opens no connection to the database. Raises `SettingsInvalid`, also when the schema cannot be read, and
    `SecretUnavailable` when the database's URL is in a vault that does not answer.
    """
    settings = load(environ)
    logging.getLogger("shared").setLevel(settings.log_level)
    # What is tried again is told when it fails for good, in words that are fit to print.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    secrets = secrets or secrets_from(settings)
    pool = pool_from(settings, secrets)
    registry: Registry = PostgresRegistry(pool)
    queue: Queue = PostgresQueue(pool)
    organisation = organisation_from(settings, secrets, queue)
    git = git or git_from(settings, organisation)
    sweeps: Sweeps = PostgresSweeps(pool, head_check_interval=settings.head_check_interval)
    store: ConfigStore = PostgresConfigStore(pool)
    reader: ConfigReader = PostgresConfigReader(pool)
    journal: Journal = PostgresJournal(pool)
    examiner = Examiner(git, rules or rules_from(settings))
    sync = Sync(registry, queue, store, git, examiner)
    directory: Directory | None = AzureDevOpsDirectory(organisation) if organisation else None
    registrar = Registrar(
        registry,
        branches=settings.branches,
        directory=directory,
        organisation=settings.azure_devops_organization,
        url_template=settings.git_url_template,
        auto_register=settings.auto_register,
    )
    announce = announcer_from(settings, organisation, PostgresOutbox(pool), queue)
    by_hand = ByHand(sync, registry, queue, store, git, examiner, announce)
    reconcile = Reconcile(
        sweeps,
        queue,
        journal,
        git,
        examiner,
        sync,
        partial(announce, workers=settings.reconcile_workers),
        workers=settings.reconcile_workers,
        retention=settings.retention,
    )
    services = Services(
        configs=reader,
        registry=registry,
        queue=queue,
        journal=journal,
        by_hand=by_hand,
        registrar=registrar,
        intake=Intake(registrar, queue, git, sync, reconcile.take_along, announce),
        reconcile=reconcile,
        decode=decode,
    )
    wsgi = create_app(services, access_from(settings, secrets), limits_from(settings))
    # All that was loaded until now stays. The collector need not walk it in the middle of every third sync again, which
    # was an eighth of what a push to a branch of 10,000 files cost this process.
    gc.freeze()
    stop_telemetry = telemetry_from(settings, pool)
    watch_hooks = hook_watch_from(settings, organisation)
    return App(settings, wsgi, registry, registrar, queue, sync, by_hand, reconcile, pool, watch_hooks, stop_telemetry)


def telemetry_from(settings: Settings, pool: Pool) -> Callable[[], object]:
    """Starts what is set, if anything is; returns what ends it."""
    connection, endpoint = settings.applicationinsights_connection_string, settings.otel_exporter_otlp_endpoint
    if not (connection or endpoint):
        return lambda: None
    try:
        from shared import telemetry_export

        stop = telemetry_export.start(settings.environment, otlp_endpoint=endpoint, connection_string=connection)
    except Exception:
        # Nobody shall miss a config because nobody could be told of it.
        _log.exception("Telemetry cannot be sent")
        return lambda: None
    pool.watch()
    return stop


def hook_watch_from(settings: Settings, organisation: Organisation | None) -> Callable[[], object]:
    """`HookWatch.look`, or nothing where there are no hooks to see or nobody is told."""
    if organisation is None or settings.public_url is None or not telemetry.is_on():
        return lambda: None
    from shared.azure_devops.hooks import HookWatch, ServiceHooks
    from shared.azure_devops.subscriptions import PATH

    return HookWatch(ServiceHooks(organisation, settings.public_url + PATH)).look


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


def git_from(settings: Settings, organisation: Organisation | None) -> GitSource:
    local: GitSource = LocalGitSource(timeout=settings.git_timeout, environment=settings.process)
    if organisation is None:
        return local
    azure_devops: GitSource = AzureDevOpsSource(organisation)
    return GitSources({organisation.url: azure_devops}, otherwise=local)


def rules_from(settings: Settings) -> Rules:
    """Reads the schema, once, when another one than the shipped one is set."""
    try:
        return Rules.of(settings.schema)
    except InvalidRequest as error:
        problem = f"SCHEMA cannot be used: {error.message} {error.hint or ''}".rstrip(" .")
    raise SettingsInvalid([problem])


def announcer_from(
    settings: Settings, organisation: Organisation | None, outbox: Outbox, queue: Queue
) -> Callable[..., object]:
    """`Statuses.announce`, or nothing where commits are told nothing."""
    if organisation is None or not settings.commit_statuses:
        return lambda deadline, *, workers=1: None
    board: StatusBoard = AzureDevOpsStatuses(organisation, environment=settings.environment)
    return Statuses(outbox, board, queue, source=organisation.url, public_url=settings.public_url).announce


def organisation_from(settings: Settings, secrets: Secrets, queue: Queue | None = None) -> Organisation | None:
    """The configured organisation, if there is one. `queue` is told when it wants to be left alone for a while."""
    url = settings.azure_devops_organization
    if url is None:
        return None
    authorization = authorization_from(settings, secrets)

    def slow_down(pause: timedelta) -> None:
        if queue is None:
            return
        error = SourceThrottled(f"{url} asked to slow down.", retry_after=pause)
        try:
            queue.pause_source(SourceName(url), error, pause)
        except DatabaseUnavailable as unavailable:
            # It did answer: that answer is worth more than the pause, which this process keeps anyway.
            _log.warning("A pause was not recorded", extra={"source": url, "error": unavailable.message})

    return Organisation(
        url,
        authorization=authorization.current,
        renewed=authorization.renewed,
        timeout=settings.git_timeout,
        slow_down=slow_down,
    )


def authorization_from(settings: Settings, secrets: Secrets) -> Authorization:
    """What requests to Azure DevOps are signed with: the personal access token, else a token of this app's identity."""
    return Authorization(
        lambda: secrets.get("azure-devops-pat"),
        lambda: secrets.refresh("azure-devops-pat"),
        _tokens(settings, AZURE_DEVOPS, SourceRefused),
    )


def pool_from(settings: Settings, secrets: Secrets) -> Pool:
    """Raises `SettingsInvalid` when a token would not be safe on the way that DATABASE_URL says."""
    is_token_login = settings.database_login is DatabaseLogin.ENTRA
    return Pool(
        database_url(settings, secrets),
        size=settings.database_pool_size,
        transaction_pooler=settings.database_pooler is DatabasePooler.TRANSACTION,
        is_token_login=is_token_login,
        password=database_password(settings, secrets),
        refused=lambda: None if is_token_login else secrets.refresh("database-password"),
    )


def database_password(settings: Settings, secrets: Secrets) -> Callable[[], str | None]:
    """What a new connection logs in with: a token of this app's identity, or the password that is kept apart."""
    if settings.database_login is DatabaseLogin.ENTRA:
        return _tokens(settings, DATABASE, DatabaseUnavailable)
    return lambda: secrets.get("database-password")


def _tokens(settings: Settings, scope: str, failure: Callable[..., RuntimeStoreError]) -> Callable[[], str]:
    return tokens(lambda: managed_identity(settings.azure_client_id, is_hosted=settings.is_hosted), scope, failure)


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
