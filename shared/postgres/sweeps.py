"""The sweep's claim, and what a sweep looks for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.model import BranchName, CommitId, RepoId, Repository, Ruleset, SweepSummary
from shared.postgres.pool import Pool
from shared.postgres.rows import repository
from shared.postgres.statements import Statements

HEAD_CHECK_INTERVAL = timedelta(minutes=15)
_GRACE = timedelta(seconds=30)
"""What a sweep may take beyond its budget before another may start: its last steps end on their own."""


class PostgresSweeps:
    def __init__(self, pool: Pool, *, head_check_interval: timedelta = HEAD_CHECK_INTERVAL) -> None:
        self._pool = pool
        self._sql = Statements("sweeps.sql")
        self._interval = head_check_interval

    def begin(self, sweep_id: UUID, trigger: str, budget: timedelta) -> bool:
        return bool(
            self._pool.write(self._sql["begin"], {"sweep_id": sweep_id, "trigger": trigger, "lease": budget + _GRACE})
        )

    def end(self, sweep_id: UUID, summary: SweepSummary | None) -> None:
        kept = None if summary is None else Jsonb(asdict(summary))
        self._pool.write(self._sql["end"], {"sweep_id": sweep_id, "summary": kept})

    def age(self) -> timedelta | None:
        rows = self._pool.rows(self._sql["age"])
        age: timedelta | None = rows[0][0]
        return age

    def claim_head_checks(self, limit: int, *, busy: Collection[RepoId] = ()) -> Sequence[Repository]:
        parameters = {"interval": self._interval, "limit": limit, "busy": list(busy)}
        rows = self._pool.write(self._sql["claim_head_checks"], parameters)
        if busy and not rows:
            return self.claim_head_checks(limit)
        return [repository(row) for row in rows]

    def judged(self, repo_id: RepoId) -> Mapping[BranchName, tuple[CommitId | None, Ruleset | None]]:
        rows = self._pool.rows(self._sql["judged"], {"repo_id": repo_id})
        return {BranchName(branch): (commit, ruleset) for branch, commit, ruleset, waits in rows if not waits}

    def moved(self, repo_id: RepoId, heads: Mapping[BranchName, CommitId]) -> None:
        self._pool.write(
            self._sql["moved"], {"repo_id": repo_id, "branches": list(heads), "commits": list(heads.values())}
        )

    def ask_due_deep_syncs(self) -> int:
        return len(self._pool.write(self._sql["ask_due_deep_syncs"], {}))
