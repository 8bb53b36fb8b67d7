"""Between rows and the model, where more than one adapter needs it."""

from collections.abc import Sequence
from dataclasses import asdict
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
    Validation,
)


def report_to_json(report: Report) -> Jsonb:
    return Jsonb(asdict(report))


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
