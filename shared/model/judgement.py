"""What is judged, and what was found."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shared.model.ids import BlobId, CommitId, FilePath, JsonValue, Ruleset, TreeId


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know about one file; `line` and `column` count from 1, `pointer` is a JSON pointer (RFC 6901)."""

    path: FilePath
    rule: str
    severity: Severity
    message: str
    line: int | None = None
    column: int | None = None
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of one judged commit, errors first; `omitted` counts those beyond the number that is kept."""

    findings: tuple[Finding, ...] = ()
    omitted: int = 0

    @property
    def rejects(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Document:
    """One file, read: `value` holds nothing that JSON cannot say."""

    path: FilePath
    blob_id: BlobId
    value: JsonValue


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """One runtime config, judged and ready to be stored. `text` is its JSON; `findings` are those it is stored with."""

    path: FilePath
    blob_id: BlobId
    text: str
    findings: tuple[Finding, ...] = ()


class StoredId(NamedTuple):
    """What decides whether a stored file must be fetched again, and what was found in it."""

    blob_id: BlobId
    ruleset: Ruleset
    findings: tuple[Finding, ...] = ()
    is_intact: bool = True
    """False when the row's digest does not hold any more: somebody edited it by hand."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one sync found out about one commit."""

    commit_id: CommitId
    tree_id: TreeId | None
    ruleset: Ruleset | None
    report: Report


@dataclass(frozen=True, slots=True)
class Change:
    """What to make of a stored set: `configs` are written, `gone` are removed, all else stays as it is."""

    configs: tuple[RuntimeConfig, ...] = ()
    gone: tuple[FilePath, ...] = ()
