"""What happened, for people."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from shared.model import (
    BranchName,
    CommitId,
    Condition,
    Decision,
    Delivery,
    Event,
    Laggard,
    Overview,
    RefUpdate,
    RepoId,
    SyncRecord,
    Vitals,
)
from shared.postgres.pool import Pool
from shared.postgres.rows import sync_record
from shared.postgres.statements import Statements

_PRUNED_AT_ONCE = 1000


class PostgresJournal:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = Statements("journal.sql")

    def deliveries(self, repo_id: RepoId, limit: int) -> Sequence[Delivery]:
        rows = self._pool.rows(self._sql["deliveries"], {"repo_id": repo_id, "limit": limit})
        return [Delivery(key, Decision(decision), _event(event), asked, at) for key, decision, event, asked, at in rows]

    def syncs(self, repo_id: RepoId, branch: BranchName | None, limit: int) -> Sequence[SyncRecord]:
        rows = self._pool.rows(self._sql["syncs"], {"repo_id": repo_id, "branch": branch, "limit": limit})
        return [sync_record(row) for row in rows]

    def overview(self) -> Overview:
        conditions, waiting, missed, sweep_age = self._pool.rows(self._sql["overview"])[0]
        counted = {Condition(condition): count for condition, count in conditions.items()}
        return Overview(counted, waiting, missed, sweep_age)

    def vitals(self, laggards: int) -> Vitals:
        conditions, waiting, missed, lagging = self._pool.rows(self._sql["vitals"], {"laggards": laggards})[0]
        counted = {condition: conditions.get(condition, 0) for condition in Condition}
        return Vitals(counted, waiting, missed, tuple(map(_laggard, lagging)))

    def prune(self, retention: timedelta) -> int:
        rows = self._pool.write(self._sql["prune"], {"retention": retention, "limit": _PRUNED_AT_ONCE})
        return int(rows[0][0])


def _laggard(value: list[Any]) -> Laggard:
    name, branch, condition, age, served = value
    served_age = None if served is None else timedelta(seconds=served)
    return Laggard(name, BranchName(branch), Condition(condition), timedelta(seconds=age), served_age)


def _event(value: dict[str, Any]) -> Event:
    updates = value.pop("updates", None)
    if updates is not None:
        updates = tuple(RefUpdate(BranchName(u["branch"]), CommitId(u["old"]), CommitId(u["new"])) for u in updates)
    return Event(**{"event_type": None, **value, "updates": updates})
