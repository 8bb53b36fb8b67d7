"""The table of spans, for `docs/telemetry.md`. tests/app/test_telemetry_whole.py holds what is sent to it."""

from typing import NamedTuple

ERROR = "runtime_store.error"
"""The class of the error, as `error.type` has it."""


class Kind(NamedTuple):
    """Spans of one sort."""

    name: str
    kind: str
    meaning: str
    attributes: tuple[str, ...]


INHERITED = ("runtime_store.repo_id", "runtime_store.repository", "runtime_store.branch", "runtime_store.trigger")
"""What a span is about; the repository by its id and, once that was read, its name. Everything below it, each Git call
and statement, is about the same."""

SPANS = (
    Kind(
        "{method} {route}",
        "internal below the host's span, else server",
        "A request. Of a delivery it also says what was decided; an answer of 500 and above is an error.",
        (
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "url.path",
            "runtime_store.caller",
            "runtime_store.correlation_id",
            "runtime_store.delivery_id",
            "runtime_store.decision",
            "runtime_store.repo_id",
            "error.type",
            ERROR,
        ),
    ),
    Kind(
        "sweep",
        "internal",
        "One sweep, with all that it synced below it.",
        ("runtime_store.trigger", "runtime_store.complete", "error.type", ERROR),
    ),
    Kind(
        "sync",
        "internal",
        "One sync, from its claim to its end. `runtime_store.served_after` is the seconds since the delivery that "
        "asked for it; Failed is an error.",
        (
            *INHERITED,
            "runtime_store.sync_id",
            "runtime_store.outcome",
            "runtime_store.reason",
            "runtime_store.commit",
            "runtime_store.served_after",
            "error.type",
            ERROR,
        ),
    ),
    Kind("sync.examine", "internal", "Listing, fetching, parsing and judging of what differs.", INHERITED),
    Kind("sync.heal", "internal", "A deep sync: comparing what is served with its commit.", INHERITED),
    Kind("sync.write", "internal", "Ending the sync with its verdict.", INHERITED),
    Kind(
        "{file}.{statement}",
        "client",
        "One SQL statement by the name it has in `shared/postgres/queries`, such as `configs.replace`; `sql` has none. "
        "Never its values.",
        ("db.system.name", "db.query.summary", *INHERITED, "error.type", ERROR),
    ),
    Kind(
        "{method}",
        "client",
        "One call to Azure DevOps, with its repetitions. The URL is told without its query.",
        (
            "http.request.method",
            "server.address",
            "server.port",
            "url.full",
            "http.response.status_code",
            *INHERITED,
            "error.type",
            ERROR,
        ),
    ),
    Kind(
        "git {command}",
        "client",
        "One run of the `git` executable, to the end of its answer.",
        ("process.executable.name", *INHERITED, "error.type", ERROR),
    ),
)
