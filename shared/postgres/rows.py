"""Between rows and the model, where more than one adapter needs it."""

import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from psycopg.types.json import Jsonb

from shared.model import (
    BranchName,
    Finding,
    Registration,
    RepoId,
    Report,
    Repository,
    Severity,
    SourceName,
    SyncRecord,
    Trigger,
    Validation,
)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(value: Any) -> Any:
    """What people are told, as PostgreSQL takes it: NUL, and surrogates that stand for bytes which were not UTF-8,
    become U+FFFD, in a text and in all texts of a structure. Never used on what is served."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {key: storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    return value


def report_to_json(report: Report) -> Jsonb:
    return Jsonb(storable(asdict(report)))


def report_from_json(value: dict[str, Any] | None) -> Report:
    if not value:
        return Report()
    return Report(findings_from_json(value["findings"]), value["omitted"])


def findings_from_json(value: Sequence[dict[str, Any]]) -> tuple[Finding, ...]:
    return tuple(Finding(**{**finding, "severity": Severity(finding["severity"])}) for finding in value)


def repository(row: Sequence[Any]) -> Repository:
    """From the columns as `queries/registry.sql` lists them."""
    (repo_id, name, project, source, root, pattern, branches, validation, suspended, revision, checked, *times) = row
    return Repository(
        RepoId(repo_id),
        Registration(
            name=name,
            source=SourceName(source),
            branches=tuple(map(BranchName, branches)),
            project=project,
            root=root,
            pattern=pattern,
            validation=Validation(validation),
            suspended=suspended,
        ),
        revision=revision,
        created_at=times[0],
        updated_at=times[1],
        heads_checked_at=checked,
    )


def sync_record(row: Sequence[Any]) -> SyncRecord:
    """From the columns in the order of the record's fields."""
    values = dict(zip((field.name for field in fields(SyncRecord)), row, strict=True))
    return SyncRecord(**values | {"trigger": Trigger(values["trigger"]), "report": report_from_json(values["report"])})
