"""The table of metrics: the one place that knows their names, units, attributes and meanings.

No attribute names a repository, branch or commit, but for the branches that are not Ready, and of these the 20 that
have not been for longest: each combination of attributes is a time series, and costs.
"""

from datetime import timedelta

from shared.telemetry.instruments import Counter, Gauge, Histogram, Instrument

ERROR = "error.type"
LAGGARDS = 20
"""Branches that are told by name."""

DELIVERIES = Counter(
    "deliveries",
    "{delivery}",
    "Deliveries of service hooks from authentic callers, by what was decided (`requested`, `all-branches`, "
    "`all-heads`, `ignored-event`, `ignored-branch`, `unknown-repository`, `test`, `malformed`); "
    "`not-recorded` was answered 503.",
    "runtime_store.decision",
)
DELIVERIES_MISSED = Gauge(
    "deliveries.missed",
    "{head}",
    "Heads of the last day that had moved for an hour without any delivery that announced it: lost webhooks. Told by "
    "each sweep.",
)
HEADS_UNANNOUNCED = Counter(
    "heads.unannounced", "{head}", "Heads that a sweep found to have moved before any delivery asked for a sync."
)
HEAD_CHECKS = Counter(
    "head_checks",
    "{check}",
    "Repositories whose heads a sweep compared: `checked` or `failed`.",
    "runtime_store.outcome",
)
SYNCS = Counter(
    "syncs",
    "{sync}",
    "Ended syncs by outcome (`Replaced`, `Unchanged`, `Rejected`, `Deferred`, `Failed`) and trigger (`webhook`, "
    "`manual`, `sweep`). The reason is that of Deferred; the error type, that of Failed.",
    "runtime_store.outcome",
    "runtime_store.trigger",
    "runtime_store.reason",
    ERROR,
)
SYNC_DURATION = Histogram(
    "sync.duration",
    "s",
    "From the claim to the end of a sync.",
    "runtime_store.outcome",
    "runtime_store.trigger",
)
PUSH_SERVED = Histogram(
    "push.served.duration",
    "s",
    "From the arrival of the oldest delivery that a sync answers to its commit being served (Replaced or Unchanged), "
    "by the database's clock. A push whose delivery was lost is not in it, but in `runtime_store.heads.unannounced`.",
    "runtime_store.trigger",
)
BRANCHES = Gauge(
    "branches",
    "{branch}",
    "Branches by condition (`Ready`, `Syncing`, `Invalid`, `FetchFailed`, `AuthenticationFailed`, `Throttled`, "
    "`Suspended`). Told by each sweep.",
    "runtime_store.condition",
)
BRANCHES_WAITING = Gauge(
    "branches.waiting", "{branch}", "Branches with a request that no sync has answered yet. Told by each sweep."
)
BRANCH_NOT_READY = Gauge(
    "branch.not_ready.age",
    "s",
    f"How long a branch has not been Ready, of the {LAGGARDS} that have not been for longest; suspended ones are left "
    "out. The repository is its name. Told by each sweep.",
    "runtime_store.repository",
    "runtime_store.branch",
    "runtime_store.condition",
)
BRANCH_SERVED = Gauge(
    "branch.served.age",
    "s",
    "Age of what such a branch serves meanwhile: the time since its served commit was accepted. Not told of a branch "
    "that serves nothing.",
    "runtime_store.repository",
    "runtime_store.branch",
)
SWEEP_DURATION = Histogram(
    "sweep.duration",
    "s",
    "Sweeps that ended, by trigger (`timer`, `http`, `command`, `take-along`) and whether everything due was done in "
    "time. Its count is the alert that the timer stopped.",
    "runtime_store.trigger",
    "runtime_store.complete",
)
SWEEP_AGE = Gauge(
    "sweep.age",
    "s",
    "Time since a sweep last ended, as the next sweep and each delivery find it: grows while the timer stands still.",
)
STATUSES = Counter(
    "statuses",
    "{status}",
    "Commit statuses: `posted` or `failed`.",
    "runtime_store.outcome",
    ERROR,
)
SOURCE_PAUSES = Counter(
    "source.pauses",
    "{pause}",
    "Sources that were left alone as a whole: `SourceRefused` (our credentials or rights) or `SourceThrottled`.",
    ERROR,
)
RATE_LIMIT = Gauge(
    "source.rate_limit.remaining",
    "{unit}",
    "What Azure DevOps says is left of its rate limit (X-RateLimit-Remaining), by its own name of the resource. It "
    "says so only near the limit.",
    "runtime_store.resource",
)
SUBSCRIPTIONS = Gauge(
    "subscriptions",
    "{subscription}",
    "Service hooks that call this app, by Azure DevOps' status (`enabled`, `onProbation`, `disabledBySystem`, ...), "
    "where the identity may see them. Asked for about once an hour.",
    "runtime_store.status",
    fresh_for=timedelta(minutes=65),
)
REFUSALS = Counter(
    "auth.refusals",
    "{request}",
    "Requests without a valid key, by the role that the route needs (`hook`, `reader`, `admin`): `Unauthenticated` "
    "(401) or `Forbidden` (403).",
    "runtime_store.role",
    ERROR,
)
REQUESTS = Histogram(
    "request.duration",
    "s",
    "HTTP requests, from the route's match to the whole answer; those without a route are told without one.",
    "http.request.method",
    "http.route",
    "http.response.status_code",
)
POOL_CONNECTIONS = Gauge(
    "pool.connections",
    "{connection}",
    "Connections of this process to the database: `idle` or `used`.",
    "runtime_store.state",
)
POOL_LIMIT = Gauge("pool.limit", "{connection}", "Most connections of this process (DATABASE_POOL_SIZE).")
POOL_WAITING = Gauge("pool.waiting", "{request}", "Callers of this process that wait for a connection now.")
POOL_TIMEOUTS = Counter("pool.timeouts", "{timeout}", "Callers that got no connection in time: the pool is exhausted.")
SECRET_EXPIRY = Gauge(
    "secret.expires_in",
    "d",
    "Days until a secret in Key Vault expires, of those that carry such a date; below zero it has expired.",
    "runtime_store.secret",
    fresh_for=timedelta(days=1),
)

METRICS: tuple[Instrument, ...] = tuple(value for value in list(vars().values()) if isinstance(value, Instrument))
