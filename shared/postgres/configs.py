"""The configs: one statement changes them, and one statement reads what is served."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from shared.errors import ClaimLost, DocumentRefused
from shared.model import (
    ABSENT,
    BranchName,
    Change,
    Claim,
    CommitId,
    Condition,
    FilePath,
    Generation,
    Item,
    Judgement,
    Listing,
    RepoId,
    RuntimeConfig,
    Served,
    Settled,
    StoredId,
    SyncId,
)
from shared.postgres.pool import Pool
from shared.postgres.queue import fence
from shared.postgres.rows import findings_from_json, report_to_json, storable
from shared.postgres.statements import Statements


class PostgresConfigStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = Statements("configs.sql")

    def stored(self, repo_id: RepoId, branch: BranchName, *, verify: bool = False) -> Mapping[FilePath, StoredId]:
        statement = self._sql["stored_verified" if verify else "stored"]
        rows = self._pool.rows(statement, {"repo_id": repo_id, "branch": branch})
        return {
            path: StoredId(blob_id, ruleset, findings_from_json(findings) if findings else (), *intact)
            for path, blob_id, ruleset, findings, *intact in rows
        }

    def replace(
        self, claim: Claim, judgement: Judgement, change: Change, *, serve: CommitId | None, accepted: bool = True
    ) -> Settled:
        try:
            rows = self._pool.write(
                self._sql["replace"],
                {
                    **fence(claim),
                    "deep": claim.deep,
                    "paths": [config.path for config in change.configs],
                    "blobs": [config.blob_id for config in change.configs],
                    "configs": [config.text for config in change.configs],
                    "findings": [_findings_text(config) for config in change.configs],
                    "gone": list(change.gone),
                    "serve": serve,
                    "accepted": accepted,
                    "judged_commit": judgement.commit_id,
                    "judged_tree": judgement.tree_id,
                    "judged_ruleset": judgement.ruleset,
                    "report": report_to_json(judgement.report),
                    **_told(claim, judgement, serve, accepted),
                },
                # Planned for the documents at hand: a plan for any number of them took ten times as long for 10,000.
                prepare=False,
            )
        except DocumentRefused as error:
            raise self._refused(change.configs, error) from error
        if not rows:
            raise ClaimLost("Another worker owns this sync now.")
        return Settled(*rows[0])

    def ended(self, sync_id: SyncId) -> Settled | None:
        rows = self._pool.rows(self._sql["ended"], {"sync_id": sync_id})
        return Settled(*rows[0]) if rows else None

    def _refused(self, configs: Sequence[RuntimeConfig], error: DocumentRefused) -> DocumentRefused:
        """Find the document by halves, after the server refused them together."""
        while configs:
            half = configs[: (len(configs) + 1) // 2]
            offered = {
                "paths": [config.path for config in half],
                "blobs": [config.blob_id for config in half],
                "configs": [config.text for config in half],
            }
            try:
                self._pool.rows(self._sql["would_take"], offered)
                configs = configs[len(half) :]
            except DocumentRefused as refusal:
                if len(half) == 1:
                    return DocumentRefused(refusal.message, path=half[0].path)
                configs = half
        return error


def _findings_text(config: RuntimeConfig) -> str | None:
    return json.dumps(storable([asdict(finding) for finding in config.findings])) if config.findings else None


def _told(claim: Claim, judgement: Judgement, serve: CommitId | None, accepted: bool) -> dict[str, str]:
    """Condition, reason and message that people are told about this verdict."""
    short = judgement.commit_id[:8]
    if not accepted:
        first = judgement.report.findings[0]
        place = f"{first.path}:{first.line}:{first.column}" if first.line else first.path
        verdict = (
            f"Commit {short} is not served ({f'commit {serve[:8]} stays served' if serve else 'nothing is served'})"
        )
        if serve == judgement.commit_id:
            verdict = f"Commit {short} stays served, and would be rejected by the present rules"
        message = f"{verdict}: {place}: {first.message}"
        return {"condition": Condition.INVALID, "reason": "Rejected", "message": storable(message)}
    if judgement.commit_id == ABSENT:
        message = f"The branch {claim.branch!r} does not exist in Git; nothing is served."
        return {"condition": Condition.READY, "reason": "BranchGone", "message": message}
    return {"condition": Condition.READY, "reason": "Served", "message": f"Commit {short} is served."}


class PostgresConfigReader:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = Statements("configs.sql")

    def item(
        self, repo_id: RepoId, branch: BranchName, path: FilePath, *, known: Collection[Generation] = ()
    ) -> tuple[Served, Item | None] | None:
        parameters = {"repo_id": repo_id, "branch": branch, "path": path, "known": list(known)}
        rows = self._pool.rows(self._sql["item"], parameters, binary=True)
        if not rows:
            return None
        row = rows[0]
        return Served(*row[:3]), None if row[3] is None else Item(path, row[6], row[3], row[4], row[5])

    def generation(self, repo_id: RepoId, branch: BranchName) -> Served | None:
        rows = self._pool.rows(self._sql["generation"], {"repo_id": repo_id, "branch": branch}, binary=True)
        return Served(*rows[0]) if rows else None

    def listing(self, repo_id: RepoId, branch: BranchName, prefix: str = "") -> Listing | None:
        return self._listing("listing", {"repo_id": repo_id, "branch": branch, "prefix": prefix})

    def page(
        self, repo_id: RepoId, branch: BranchName, prefix: str, after: FilePath | None, limit: int
    ) -> Listing | None:
        parameters = {"repo_id": repo_id, "branch": branch, "prefix": prefix, "after": after or "", "limit": limit}
        return self._listing("page", parameters)

    def _listing(self, statement: str, parameters: dict[str, Any]) -> Listing | None:
        rows = self._pool.rows(self._sql[statement], parameters, binary=True)
        if not rows:
            return None
        items = (Item(row[7], row[6], row[3], row[4], row[5]) for row in rows if row[7] is not None)
        return Listing(Served(*rows[0][:3]), tuple(items))
