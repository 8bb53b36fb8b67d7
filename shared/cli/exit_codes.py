"""How a command ends, in one table: a script decides by the number, docs/cli.md lists the same rows."""

from collections.abc import Iterable
from typing import NamedTuple

from shared.errors import Kind, RuntimeStoreError, SettingsInvalid
from shared.model import Deferred, Failed, Outcome, Rejected


class Ending(NamedTuple):
    code: int
    meaning: str
    kinds: tuple[Kind, ...] = ()


DONE = Ending(0, "done; for `sync` and `wait`: the push is served")
FINDINGS = Ending(
    1,
    "findings reject it; for `sync` and `wait`: the push is not served, what was served still is; for `hooks check`: "
    "something is not as it must be",
    (Kind.REJECTED,),
)
MISUSE = Ending(2, "the command line cannot be used as it is", (Kind.INVALID_REQUEST, Kind.TOO_LARGE))
NOT_FOUND = Ending(
    3,
    "no such project, repository, branch or config",
    (Kind.REPOSITORY_NOT_FOUND, Kind.BRANCH_NOT_FOUND, Kind.CONFIG_NOT_FOUND),
)
CONFLICT = Ending(
    4,
    "taken, or changed by somebody else meanwhile",
    (Kind.NAME_TAKEN, Kind.SET_CHANGED, Kind.REVISION_MOVED, Kind.REVISION_REQUIRED),
)
SOURCE_FAILED = Ending(5, "Git did not answer as it should: try again", (Kind.SOURCE_FAILED,))
REFUSED = Ending(
    6,
    "credentials or rights are missing: somebody must act",
    (Kind.SOURCE_REFUSED, Kind.UNAUTHENTICATED, Kind.FORBIDDEN),
)
THROTTLED = Ending(7, "Git is asked too often: try again later", (Kind.SOURCE_THROTTLED,))
UNAVAILABLE = Ending(8, "the database or the Key Vault is down, or the database wants `migrate`", (Kind.UNAVAILABLE,))
SETTINGS = Ending(9, "the settings cannot be used; every problem is named")
DEFERRED = Ending(10, "not finished now: it stays requested, and the timer goes on with it")
TIME_OVER = Ending(11, "for `wait`: the time is over, and nothing is decided; the push may still be served")
INTERNAL = Ending(70, "something is broken in Runtime Store itself", (Kind.INTERNAL,))
INTERRUPTED = Ending(130, "interrupted with Ctrl-C")
PIPE_CLOSED = Ending(141, "whoever read the output went away")

ENDINGS = (
    DONE,
    FINDINGS,
    MISUSE,
    NOT_FOUND,
    CONFLICT,
    SOURCE_FAILED,
    REFUSED,
    THROTTLED,
    UNAVAILABLE,
    SETTINGS,
    DEFERRED,
    TIME_OVER,
    INTERNAL,
    INTERRUPTED,
    PIPE_CLOSED,
)
_BY_KIND = {kind: ending.code for ending in ENDINGS for kind in ending.kinds}


def of_error(error: RuntimeStoreError) -> int:
    return SETTINGS.code if isinstance(error, SettingsInvalid) else _BY_KIND[error.kind]


def of_outcomes(outcomes: Iterable[Outcome]) -> int:
    """The code of the worst: a failure before a rejection before what was deferred."""
    return max((_of_outcome(outcome) for outcome in outcomes), key=_badness, default=DONE.code)


def _of_outcome(outcome: Outcome) -> int:
    match outcome:
        case Failed(error):
            return of_error(error)
        case Rejected():
            return FINDINGS.code
        case Deferred():
            return DEFERRED.code
        case _:
            return DONE.code


def _badness(code: int) -> int:
    order = (DONE.code, DEFERRED.code, FINDINGS.code)
    return order.index(code) if code in order else len(order) + code
