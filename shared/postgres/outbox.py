"""The journal as an outbox: which commits are to be told, and by whom."""

from dataclasses import fields
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from shared.model import SourceName, SyncRecord, Unposted
from shared.postgres.pool import Pool
from shared.postgres.rows import repository, sync_record
from shared.postgres.statements import Statements

LEASE = timedelta(seconds=60)
"""Above the longest call to the board; also how long a branch rests after one that failed."""
NEWS = timedelta(days=1)
"""What ended before is told to nobody any more."""
_RECORD = len(fields(SyncRecord))
"""Columns of a sync's record, which come first; then what is known of its commit, then the repository."""


class PostgresOutbox:
    def __init__(self, pool: Pool, *, lease: timedelta = LEASE) -> None:
        self._pool = pool
        self._sql = Statements("outbox.sql")
        self._times = {"lease": lease, "news": NEWS}

    def claim(self, source: SourceName) -> Unposted | None:
        lease_id = uuid4()
        while rows := self._pool.write(self._sql["claim"], {**self._times, "source": source, "lease_id": lease_id}):
            repo_id, branch = rows[0]
            held = {"repo_id": repo_id, "branch": branch, "lease_id": lease_id}
            if unposted := self._unposted(held):
                return unposted
            # Another told its commit after this claim's snapshot was taken, and before it was ours.
            self._pool.write(self._sql["release"], held)
        return None

    def _unposted(self, held: dict[str, Any]) -> Unposted | None:
        rows = self._pool.rows(self._sql["unposted"], {**self._times, **held})
        if not rows:
            return None
        sync, (told, configs, is_judged, is_passed_over, *registered) = rows[0][:_RECORD], rows[0][_RECORD:]
        lease_id: UUID = held["lease_id"]
        return Unposted(lease_id, repository(registered), sync_record(sync), told, configs, is_judged, is_passed_over)

    def posted(self, unposted: Unposted, told: str | None) -> None:
        sync = unposted.sync
        self._pool.write(
            self._sql["posted"],
            {
                **self._times,
                "lease_id": unposted.lease_id,
                "repo_id": sync.repo_id,
                "branch": sync.branch,
                "sync_id": sync.sync_id,
                "commit_id": sync.commit_id,
                "ended_at": sync.ended_at,
                "told": told,
            },
        )
