"""What decides a file's verdict and its JSON: reading, schema, listing and their limits, put together once.

Nobody else parses, validates or selects. Whatever changes a verdict changes the ruleset, so that a stored verdict is
never kept under rules that would not give it again.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from shared import documents, listing, validation
from shared.model import (
    BlobId,
    Document,
    FilePath,
    Finding,
    JsonValue,
    Registration,
    Report,
    Ruleset,
    Severity,
    Tree,
    Validation,
)
from shared.validation import Validator

_SCHEMA: Final = Path(__file__).parent / "schemas" / "samara.schema.json"
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/v1"
_MAX_FINDINGS: Final = 200
_MAX_TEXT: Final = 1000
_SEVERITIES: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


class Rules:
    """One schema and its limits. May be shared between threads."""

    def __init__(
        self,
        validator: Validator,
        limits: documents.Limits | None = None,
        listing_limits: listing.ListingLimits | None = None,
    ) -> None:
        self._validator = validator
        self._limits = limits or documents.Limits()
        self._listing_limits = listing_limits or listing.ListingLimits()

    @classmethod
    def shipped(cls) -> "Rules":
        """The rules of this release: the schema that is shipped with it, and the default limits."""
        schema: dict[str, JsonValue] = json.loads(_SCHEMA.read_text("utf-8"))
        return cls(Validator(schema))

    @classmethod
    def of(cls, source: str | None) -> "Rules":
        """The rules with the schema of `source`, a path or https URL with its digest, in place of the shipped one.

        As `validation.load` has it; reads a file or the network, so it is for starts only. Raises `InvalidRequest`.
        """
        return cls.shipped() if source is None else cls(Validator(validation.load(source)))

    def ruleset(self, registration: Registration) -> Ruleset:
        """Digest of everything besides the file that decides its verdict and its JSON."""
        decides = {
            "schema": self._validator.digest,
            "pattern": registration.pattern,
            "root": registration.root,
            "validation_version": validation.VALIDATION_VERSION,
            "parser": documents.PARSER_VERSION,
            "limits": asdict(self._limits),
            "listing_limits": asdict(self._listing_limits),
            "validation": registration.validation.value,
        }
        return Ruleset(sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest())

    def select(self, tree: Tree, registration: Registration) -> listing.Selection:
        """The runtime configs of a proven tree, and what is to be said about files that are none."""
        limits = self._listing_limits
        return listing.select(tree, registration.root, registration.pattern, limits, self._limits.max_bytes)

    def too_many_bytes(self, total: int, registration: Registration) -> Finding | None:
        """The finding about `total` bytes, for sources that tell no sizes before the download."""
        return listing.too_many_bytes(total, registration.root, self._listing_limits)

    def too_large(self, path: FilePath, size: int) -> Finding:
        """The finding about a file that was not read, because it is larger than files may be."""
        return listing.too_large(path, size, self._limits.max_bytes)

    def judge(
        self, path: FilePath, blob_id: BlobId, data: bytes, mode: Validation
    ) -> tuple[Document | None, tuple[Finding, ...]]:
        """The document, None when the file cannot be read, and all that is wrong with it.

        What the schema does not allow is an error under `ENFORCE` and a warning under `REPORT`.
        """
        if data.startswith(_LFS_POINTER):
            message = "Git LFS keeps this file, and Git only has a pointer to it: take it out of LFS (git lfs untrack)."
            return None, (Finding(path, "lfs-pointer", Severity.ERROR, message, 1, 1),)
        document = documents.parse(path, blob_id, data, self._limits)
        if not isinstance(document, Document):
            return None, document
        findings = self._validator.findings(document, data, documents.places)
        if mode is Validation.REPORT:
            findings = tuple([replace(finding, severity=Severity.WARNING) for finding in findings])
        return document, findings

    @staticmethod
    def report(findings: Iterable[Finding]) -> Report:
        """Errors first, then by path and place. What is beyond 200 findings is only counted."""
        ordered = sorted(findings, key=_order)
        kept = tuple([_clipped(finding) for finding in ordered[:_MAX_FINDINGS]])
        return Report(kept, len(ordered) - len(kept))


def _order(finding: Finding) -> tuple[int, str, int, int, str]:
    return _SEVERITIES[finding.severity], finding.path, finding.line or 0, finding.column or 0, finding.pointer


def _clipped(finding: Finding) -> Finding:
    """A report is stored and sent to people: a key of a megabyte must not come along."""
    if len(finding.message) <= _MAX_TEXT and len(finding.pointer) <= _MAX_TEXT:
        return finding
    pointer = finding.pointer
    if len(pointer) > _MAX_TEXT:
        pointer = pointer[:_MAX_TEXT].rpartition("/")[0]  # The nearest place above it that can be named.
    return replace(finding, message=finding.message[:_MAX_TEXT], pointer=pointer)
