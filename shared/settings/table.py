"""The table of settings: the one place that knows their names, defaults, forms and meanings."""

from dataclasses import dataclass
from enum import StrEnum

from shared.settings import forms
from shared.settings.forms import Form


class ReadAccess(StrEnum):
    """Who may read configs."""

    KEYS = "keys"
    ANONYMOUS = "anonymous"


class DatabasePooler(StrEnum):
    """What stands between this app and the database."""

    NONE = "none"
    TRANSACTION = "transaction"


class DatabaseLogin(StrEnum):
    """How this app proves to the database who it is."""

    PASSWORD = "password"  # noqa: S105
    ENTRA = "entra"


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Setting:
    """One environment variable. An empty default means that nothing is assumed (None)."""

    name: str
    default: str
    help: str
    form: Form
    attribute: str = ""
    """The field of `Settings`, where it is not the name in lower case."""
    is_secret: bool = False
    example: str | None = None
    """The value for a developer's machine, where it is not the default."""

    @property
    def secret_name(self) -> str:
        """What the secret is called in Key Vault, whose names have no underscores."""
        return self.name.lower().replace("_", "-")


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "ENVIRONMENT",
        "local",
        "Name of this environment, such as `dev`, `acc` or `prod`: shown in answers, logs and commit statuses.",
        forms.LABEL,
    ),
    Setting(
        "BRANCHES",
        "main",
        "Branches that a repository ingests here, unless its registration names others.",
        forms.BRANCHES,
    ),
    Setting(
        "DATABASE_URL",
        "",
        "The PostgreSQL database. Required, here or in Key Vault. A secret, since it may hold a password.",
        forms.DATABASE_URL,
        is_secret=True,
        example="postgresql://postgres@127.0.0.1:5432/runtime_store",
    ),
    Setting(
        "DATABASE_PASSWORD",
        "",
        "The password, when it is kept apart from DATABASE_URL.",
        forms.TEXT,
        is_secret=True,
    ),
    Setting(
        "DATABASE_LOGIN",
        "password",
        "`entra` logs in with a token of this app's identity instead of a password, over verified TLS; DATABASE_URL "
        "then names the role that was made for that identity.",
        forms.one_of(DatabaseLogin),
    ),
    Setting(
        "DATABASE_POOLER",
        "none",
        "`transaction` when PgBouncer in transaction mode is in front of the database: turns prepared statements off.",
        forms.one_of(DatabasePooler),
    ),
    Setting(
        "DATABASE_POOL_SIZE",
        "8",
        "Most connections of one process. All processes of all instances count against the server's limit.",
        forms.whole(1, 100, "connections"),
    ),
    Setting(
        "KEY_VAULT_URL",
        "",
        "The Key Vault that holds the secrets which the environment does not have. Empty: none is asked.",
        forms.VAULT_URL,
    ),
    Setting(
        "KEY_VAULT_CACHE_SECONDS",
        "600",
        "How long a secret from Key Vault is used before it is asked for again.",
        forms.duration("seconds", 30, 86400),
        attribute="key_vault_cache",
    ),
    Setting(
        "AZURE_CLIENT_ID",
        "",
        "Client id of the user-assigned managed identity. Empty: the system-assigned one.",
        forms.GUID,
    ),
    Setting(
        "WEBHOOK_SECRET",
        "",
        "Password of the service hook in Azure DevOps. Not set anywhere: deliveries are answered 503.",
        forms.KEY,
        is_secret=True,
        example="local-only-webhook-secret-0123456789",
    ),
    Setting(
        "WEBHOOK_SECRET_PREVIOUS",
        "",
        "The one before it, valid beside it while the service hooks are changed over.",
        forms.KEY,
        is_secret=True,
    ),
    Setting(
        "ADMIN_KEY",
        "",
        "Key of operators: registers repositories, starts syncs, and reads.",
        forms.KEY,
        is_secret=True,
        example="local-only-admin-key-0123456789abcdef",
    ),
    Setting("ADMIN_KEY_PREVIOUS", "", "The one before it, valid beside it.", forms.KEY, is_secret=True),
    Setting(
        "READER_KEYS",
        "",
        "Keys of the services that read configs, by the name that logs show.",
        forms.NAMED_KEYS,
        is_secret=True,
        example="local=local-only-reader-key-0123456789abcde",
    ),
    Setting("READER_KEYS_PREVIOUS", "", "The ones before them, valid beside them.", forms.NAMED_KEYS, is_secret=True),
    Setting(
        "READ_ACCESS",
        "keys",
        "Who may read configs. `anonymous` lets everybody who reaches this app.",
        forms.one_of(ReadAccess),
    ),
    Setting(
        "AUTO_REGISTER",
        "true",
        "Whether the first push of an unknown repository registers it.",
        forms.FLAG,
    ),
    Setting(
        "AZURE_DEVOPS_ORGANIZATION",
        "",
        "The organization whose repositories are read through its API, such as `https://dev.azure.com/contoso`. Only "
        "its pushes register a repository.",
        forms.ORGANIZATION,
    ),
    Setting(
        "AZURE_DEVOPS_PAT",
        "",
        "A personal access token of that organization, with Code (read), and Code (status) for COMMIT_STATUSES. Not "
        "set anywhere: this app's managed identity signs in.",
        forms.TOKEN,
        is_secret=True,
    ),
    Setting(
        "COMMIT_STATUSES",
        "true",
        "Whether commits in Azure DevOps are shown what became of them, as the status `runtime-store/ENVIRONMENT`.",
        forms.FLAG,
    ),
    Setting(
        "PUBLIC_URL",
        "",
        "Where this app is reached, such as `https://contoso-dev.azurewebsites.net`: what service hooks call and "
        "commit statuses link to.",
        forms.PUBLIC_URL,
    ),
    Setting(
        "GIT_URL_TEMPLATE",
        "",
        "Where a repository that registers itself is read from with Git; `{project}` and `{repository}` stand for the "
        "names in the delivery. Empty: it is read through the API of AZURE_DEVOPS_ORGANIZATION, where that is set.",
        forms.GIT_URL_TEMPLATE,
    ),
    Setting(
        "SCHEMA",
        "",
        "The JSON Schema that configs are judged by, as `samara export-schema` writes it; see "
        "[schema.md](schema.md). Another one judges every branch again. Empty: the one of this release.",
        forms.SCHEMA,
    ),
    Setting(
        "GIT_TIMEOUT_SECONDS",
        "60",
        "Longest single call to Git. Below a sync's lease of 90 seconds, so that no call outlives it.",
        forms.duration("seconds", 1, 89),
        attribute="git_timeout",
    ),
    Setting(
        "WEBHOOK_BUDGET_SECONDS",
        "8",
        "How long a delivery may sync before it is answered; the timer goes on with the rest.",
        forms.duration("seconds", 1, 60),
        attribute="webhook_budget",
    ),
    Setting(
        "WEBHOOK_BUDGET_FILES",
        "500",
        "Most files that a delivery fetches before it is answered; a push of more is left to the timer.",
        forms.whole(1, 100000, "files"),
    ),
    Setting(
        "WEBHOOK_MAX_BYTES",
        "4194304",
        "Largest body of a delivery. Azure DevOps sends at most 2 MB.",
        forms.whole(65536, 104857600, "bytes"),
    ),
    Setting(
        "MANUAL_BUDGET_SECONDS",
        "60",
        "How long a sync by hand may take before it is answered; the timer goes on with the rest.",
        forms.duration("seconds", 1, 200),
        attribute="manual_budget",
    ),
    Setting(
        "RECONCILE_SCHEDULE",
        "0 * * * * *",
        "When the timer runs, in UTC. The Functions host reads it itself, so it must be set there.",
        forms.SCHEDULE,
    ),
    Setting(
        "RECONCILE_BUDGET_SECONDS",
        "240",
        "How long one sweep may take. Below `functionTimeout` in host.json.",
        forms.duration("seconds", 10, 570),
        attribute="reconcile_budget",
    ),
    Setting("RECONCILE_WORKERS", "4", "Syncs that a sweep runs side by side.", forms.whole(1, 32, "syncs")),
    Setting(
        "HEAD_CHECK_MINUTES",
        "15",
        "How often the heads of a repository are compared, in case a delivery was lost.",
        forms.duration("minutes", 1, 1440),
        attribute="head_check_interval",
    ),
    Setting(
        "RETENTION_DAYS",
        "30",
        "How long deliveries and ended syncs are kept. They name people.",
        forms.duration("days", 1, 3650),
        attribute="retention",
    ),
    Setting(
        "LIST_CACHE_MB",
        "64",
        "Memory of one process for bodies of lists; 0 keeps none.",
        forms.whole(0, 4096, "MiB", scale=1024 * 1024),
        attribute="list_cache_bytes",
    ),
    Setting("LOG_LEVEL", "INFO", "Least level that is logged.", forms.one_of(LogLevel)),
    Setting(
        "APPLICATIONINSIGHTS_CONNECTION_STRING",
        "",
        "The Application Insights resource that telemetry is sent to ([telemetry.md](telemetry.md)). Empty: to none.",
        forms.INSIGHTS,
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "The collector that telemetry is sent to over OTLP (HTTP), such as `http://localhost:4318`. Empty: to none.",
        forms.COLLECTOR,
    ),
)

HOST_SETTINGS: tuple[Setting, ...] = (
    Setting(
        "FUNCTIONS_WORKER_RUNTIME",
        "",
        "The language of the app, for Core Tools on a developer's machine. Flex Consumption refuses it.",
        forms.TEXT,
        example="python",
    ),
    Setting(
        "PYTHON_ENABLE_OPENTELEMETRY",
        "",
        "`true` where telemetry is sent: the host then leaves the logs of this process to it.",
        forms.TEXT,
    ),
    Setting(
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
        "",
        "Who signs in to Application Insights, for the host and this app: `ClientId=...;Authorization=AAD`, with the "
        "role Monitoring Metrics Publisher. Empty: nobody, which works as long as it takes telemetry unauthenticated.",
        forms.TEXT,
    ),
    Setting(
        "AzureWebJobsStorage",
        "",
        "Storage account of the host, which keeps the timer's lease there. In Azure set it for an identity: "
        "`AzureWebJobsStorage__accountName` and its like.",
        forms.TEXT,
        example="UseDevelopmentStorage=true",
    ),
)
"""What the Functions host reads, and this app does not."""
