"""Tell commits what became of them, from the journal.

After the fact and apart from it: whatever becomes of a status, no sync waits for it and no delivery fails by it. One
that could not be posted stays in the outbox, and is old news after a day.
"""

import logging
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from threading import Event, Semaphore
from urllib.parse import quote

from shared.errors import CommitMissing, SourceError, SourceThrottled
from shared.model import (
    ABSENT,
    CommitState,
    CommitStatus,
    Deadline,
    Finding,
    Report,
    Severity,
    SourceName,
    Unposted,
)
from shared.ports import Outbox, Queue, StatusBoard
from shared.telemetry import metrics

_log = logging.getLogger(__name__)

MOST_AT_ONCE = 500
"""Commits that one round tells; the next one goes on."""
_LONGEST_POST = timedelta(seconds=10)
"""Far below the lease of a branch's poster."""
_SHORTEST_POST = 0.5
"""Seconds that must be left to begin one: what is begun in vain keeps its branch from being tried again at once."""
_LENGTH = 200
"""Characters of a description. Azure DevOps documents no limit, and shows one line."""
_PLACE_LENGTH = 100


class Statuses:
    """For the repositories of one `source`. `public_url` is this app's own address, without a slash at its end."""

    def __init__(
        self, outbox: Outbox, board: StatusBoard, queue: Queue, *, source: SourceName, public_url: str | None
    ) -> None:
        self._outbox = outbox
        self._board = board
        self._queue = queue
        self._source = source
        self._public_url = public_url

    def announce(self, deadline: Deadline, *, workers: int = 1) -> None:
        """One round: tell what waits to be told. Never raises, and ends with the deadline.

        The first error ends the round: a source that refuses, throttles or hangs is not asked again and again.
        """
        turns, over = Semaphore(MOST_AT_ONCE), Event()
        try:
            with ThreadPoolExecutor(workers, thread_name_prefix="statuses") as pool:
                running = [pool.submit(copy_context().run, self._work, deadline, turns, over) for _ in range(workers)]
            errors = [error for done in running if (error := done.result())]
            if errors:
                self._give_up(next((error for error in errors if isinstance(error, SourceThrottled)), errors[0]))
        except Exception:
            # What was announced is recorded, and no business of who called: the next round tries again.
            _log.exception("A round of commit statuses broke")

    def _work(self, deadline: Deadline, turns: Semaphore, over: Event) -> SourceError | None:
        """Tell one commit after the other; the error that ended the round, if this worker met one."""
        while deadline.remaining > _SHORTEST_POST and not over.is_set() and turns.acquire(blocking=False):
            unposted = self._outbox.claim(self._source)
            if unposted is None:
                break
            try:
                self._tell(unposted, deadline)
            except SourceError as error:
                metrics.STATUSES.add(1, "failed", type(error).__name__)
                over.set()
                return error
        return None

    def _tell(self, unposted: Unposted, deadline: Deadline) -> None:
        status = self._status(unposted)
        if status is None or status.told == unposted.told:
            self._outbox.posted(unposted, unposted.told)
            return
        # A commit that is gone has nobody who looks at it.
        with suppress(CommitMissing):
            self._board.post(unposted.repository, status, deadline.within(_LONGEST_POST))
            metrics.STATUSES.add(1, "posted", None)
        self._outbox.posted(unposted, status.told)

    def _give_up(self, error: SourceError) -> None:
        extra = {"source": self._source, "error": error.message, "hint": error.hint}
        _log.warning("Commits were not told what became of them", extra=extra)
        # To be refused a status says nothing about reading; to be throttled is about every call.
        if isinstance(error, SourceThrottled):
            self._queue.pause_source(self._source, error, error.retry_after)

    def _status(self, unposted: Unposted) -> CommitStatus | None:
        """What to tell the commit; None when that is nothing new."""
        sync = unposted.sync
        if sync.commit_id is None or sync.commit_id == ABSENT:
            # The branch is gone: nobody to be told, but for those that were told to wait.
            return None
        match sync.outcome:
            case "replaced" | "unchanged":
                if unposted.configs is None and (unposted.told or "").startswith(CommitState.SUCCEEDED):
                    return None
                told = CommitState.SUCCEEDED, _served(unposted.configs, sync.report)
            case "rejected":
                told = CommitState.FAILED, _rejected(sync.report)
            case _ if unposted.is_judged:
                # It has its verdict; that a later look at it has to wait is for the status page.
                return None
            case _ if not unposted.is_passed_over:
                told = CommitState.PENDING, f"waiting: {sync.message}"
            case _ if (unposted.told or "").startswith(CommitState.PENDING):
                told = CommitState.NOT_APPLICABLE, f"{sync.branch} went on to another commit before this one was judged"
            case _:
                return None
        state, description = told
        return CommitStatus(sync.commit_id, state, _cut(_line(description), _LENGTH), self._link(unposted))

    def _link(self, unposted: Unposted) -> str | None:
        if self._public_url is None:
            return None
        return f"{self._public_url}/repositories/{quote(unposted.repository.repo_id, safe='')}"


def _served(configs: int | None, report: Report) -> str:
    """A finding that lets a commit be served is at least worth a look, except for notes."""
    if configs is None:
        return "was served, and is not any more"
    findings = sum(finding.severity is not Severity.NOTE for finding in report.findings) + report.omitted
    return _counted(configs, "config") + " served" + (f", {_counted(findings, 'finding')}" if findings else "")


def _rejected(report: Report) -> str:
    """The first finding and its place, as compilers say it, and how many errors more there are."""
    first = report.findings[0]
    errors = sum(finding.severity is Severity.ERROR for finding in report.findings) + report.omitted
    more = f" (+{errors - 1} more)" if errors > 1 else ""
    return _cut(_line(f"{_place(first)}{first.message}"), _LENGTH - len(more)) + more


def _place(finding: Finding) -> str:
    """The end of a long path is what tells its file."""
    path = _line(finding.path)
    if len(path) > _PLACE_LENGTH:
        path = "…" + path[1 - _PLACE_LENGTH :]
    if finding.line is not None:
        path += f":{finding.line}:{finding.column}"
    return f"{path}: " if path else ""


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else noun + 's'}"


def _line(text: str) -> str:
    """On one line, without what no terminal or page shows."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))


def _cut(text: str, length: int) -> str:
    """At most `length` characters, and no letter without its accents."""
    if len(text) <= length:
        return text
    end = length - 1
    while unicodedata.combining(text[end]):
        end -= 1
    return text[:end].rstrip() + "…"
