"""How the nouns of `model` look as JSON. Secrets that a source's URL carries are left out wherever text is shown."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from shared.model import (
    BranchStatus,
    Deferred,
    Delivery,
    Failed,
    Finding,
    Outcome,
    Overview,
    Rejected,
    Replaced,
    Report,
    Repository,
    SweepSummary,
    SyncRecord,
    Unchanged,
)

Members: TypeAlias = dict[str, Any]

_CODE = re.compile(r"(?<=[?&]code=)[^&\s'\"]+")
"""The query parameter that a key may come in. In a path it is there when a caller encoded the question mark."""
_AUTHORITY = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/\s]+)@")
HIDDEN = "***"


def redacted(text: str) -> str:
    """The text without keys and the credentials of URLs in it. An SSH user name is none; any other may be a token."""

    def without_credentials(found: re.Match[str]) -> str:
        scheme, user = found["scheme"], found["user"]
        return f"{scheme}://{user.partition(':')[0] if scheme.endswith('ssh') else HIDDEN}@"

    return _CODE.sub(HIDDEN, _AUTHORITY.sub(without_credentials, text))


def instant(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def of_repository(repository: Repository, branches: Sequence[BranchStatus], *, findings: bool) -> Members:
    registration = repository.registration
    return {
        "repo_id": repository.repo_id,
        "name": registration.name,
        "project": registration.project,
        "source": redacted(registration.source),
        "root": registration.root,
        "pattern": registration.pattern,
        "branches": list(registration.branches),
        "validation": registration.validation,
        "suspended": registration.suspended,
        "revision": repository.revision,
        "created_at": instant(repository.created_at),
        "updated_at": instant(repository.updated_at),
        "heads_checked_at": instant(repository.heads_checked_at),
        "status": [of_branch(status, findings=findings) for status in branches],
    }


def of_branch(status: BranchStatus, *, findings: bool = True) -> Members:
    return {
        "branch": status.branch,
        **of_condition(status),
        "generation": status.generation,
        "commit_id": status.commit_id,
        "synced_at": instant(status.synced_at),
        "configs": status.configs,
        "judged_commit": status.judged_commit,
        "report": of_report(status.report, findings=findings),
        "waiting": status.is_waiting,
        "requested": status.requested,
        "finished": status.finished,
        "syncing": status.syncing,
        "attempts": status.attempts,
        "next_attempt_at": instant(status.next_attempt_at),
        "deep_synced_at": instant(status.deep_synced_at),
    }


def of_condition(status: BranchStatus) -> Members:
    return {
        "condition": status.condition,
        "reason": status.reason,
        "message": redacted(status.message),
        "since": instant(status.since),
    }


def of_report(report: Report, *, findings: bool = True) -> Members:
    """The report; without its findings it only counts them."""
    members: Members = {"rejects": report.rejects, "count": len(report.findings) + report.omitted}
    if findings:
        members["findings"] = [of_finding(finding) for finding in report.findings]
        members["omitted"] = report.omitted
    return members


def of_finding(finding: Finding) -> Members:
    return {
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
        "pointer": finding.pointer,
        "rule": finding.rule,
        "severity": finding.severity,
        "message": finding.message,
    }


def of_outcome(outcome: Outcome) -> Members:
    """The outcome under its name, with what belongs to it."""
    name: Members = {"outcome": type(outcome).__name__}
    match outcome:
        case Replaced(commit_id, generation, written, removed, report):
            counts = {"written": written, "removed": removed}
            return {**name, "commit_id": commit_id, "generation": generation, **counts, "report": of_report(report)}
        case Unchanged(commit_id, generation, report):
            return {**name, "commit_id": commit_id, "generation": generation, "report": of_report(report)}
        case Rejected(commit_id, report):
            return {**name, "commit_id": commit_id, "report": of_report(report)}
        case Deferred(reason, message):
            return {**name, "reason": reason, "message": redacted(message)}
        case Failed(error):
            told = {"reason": error.kind, "message": redacted(error.message)}
            return {**name, **told, **({"hint": error.hint} if error.hint else {})}


def of_sync(record: SyncRecord) -> Members:
    return {
        "sync_id": str(record.sync_id),
        "branch": record.branch,
        "trigger": record.trigger,
        "outcome": record.outcome.capitalize(),
        "reason": record.reason,
        "message": redacted(record.message),
        "commit_id": record.commit_id,
        "generation": record.generation,
        "written": record.written,
        "removed": record.removed,
        "from_request": record.from_request,
        "to_request": record.to_request,
        "started_at": instant(record.started_at),
        "ended_at": instant(record.ended_at),
        "report": of_report(record.report),
    }


def of_delivery(delivery: Delivery, *, people: bool) -> Members:
    """A delivery; who pushed is shown only with `people`."""
    event = delivery.event
    updates = [{"branch": update.branch, "old": update.old, "new": update.new} for update in event.updates or ()]
    return {
        "delivery_id": str(delivery.delivery_id),
        "received_at": instant(delivery.received_at),
        "decision": delivery.decision,
        "event_type": event.event_type,
        "push_id": event.push_id,
        "problem": event.problem,
        "updates": updates,
        "requests": dict(delivery.requests),
        **({"pushed_by": event.pushed_by} if people else {}),
    }


def of_sweep(summary: SweepSummary) -> Members:
    return {
        "started": summary.started,
        "is_complete": summary.is_complete,
        "heads_checked": summary.heads_checked,
        "heads_failed": summary.heads_failed,
        "moved": summary.moved,
        "outcomes": dict(summary.outcomes),
    }


def of_overview(overview: Overview) -> Members:
    age = overview.sweep_age
    return {
        "conditions": {str(condition): count for condition, count in overview.conditions.items()},
        "waiting": overview.waiting,
        "missed": overview.missed,
        "sweep_age_seconds": None if age is None else age.total_seconds(),
    }
