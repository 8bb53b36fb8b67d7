"""The examples are what they say: drop a file in, and a test appears.

A file of examples/invalid says in its first line what must be found in it: `# expect: rule line:column, rule ...`. One
of examples/valid may say so too, of what is said about it and does not reject it.
"""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from shared.model import BlobId, FilePath, Finding, Registration, Severity, SourceName, Validation
from shared.rules import Rules

EXAMPLES = Path(__file__).parents[2] / "examples"
PATTERN = Registration("team", SourceName("source"), branches=()).pattern
RULES = Rules.shipped()
TEAM = [path for path in sorted((EXAMPLES / "team").rglob("*")) if fnmatchcase(path.name, PATTERN)]
VALID = [*sorted((EXAMPLES / "valid").iterdir()), *TEAM]
INVALID = sorted((EXAMPLES / "invalid").iterdir())
EXPECT = "# expect: "


def judged(path: Path) -> tuple[bool, tuple[Finding, ...]]:
    document, findings = RULES.judge(FilePath(path.name), BlobId("0" * 40), path.read_bytes(), Validation.ENFORCE)
    return document is not None, findings


def said(finding: Finding) -> str:
    return f"{finding.rule} {finding.line}:{finding.column}" if finding.line else finding.rule


def expected(path: Path) -> str:
    first = path.read_bytes().split(b"\n", 1)[0].decode()
    return first.removeprefix(EXPECT) if first.startswith(EXPECT) else ""


@pytest.mark.parametrize("path", VALID, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_a_valid_example_is_valid(path: Path) -> None:
    is_read, findings = judged(path)
    assert is_read
    assert ", ".join(said(finding) for finding in findings) == expected(path)
    assert Severity.ERROR not in {finding.severity for finding in findings}


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.name)
def test_an_invalid_example_has_the_findings_it_expects(path: Path) -> None:
    assert expected(path)
    _, findings = judged(path)
    assert ", ".join(said(finding) for finding in findings) == expected(path)
    assert Severity.ERROR in {finding.severity for finding in findings}


def test_the_team_has_several_configs_in_several_folders_and_a_file_that_is_none() -> None:
    assert len(TEAM) >= 6
    assert len({path.parent for path in TEAM}) >= 4
    others = {path.suffix for path in (EXAMPLES / "team").rglob("*") if path.is_file() and path not in TEAM}
    assert {".yaml", ".md"} <= others


def test_the_workflows_of_the_team_are_different() -> None:
    assert len({path.read_bytes() for path in TEAM}) == len(TEAM)


def test_every_kind_of_mistake_has_an_example() -> None:
    shown = {finding.rule for path in [*INVALID, *VALID] for finding in judged(path)[1]}
    rules = {
        "alias", "aliases-too-large", "ambiguous-line-break", "ambiguous-scalar", "directive", "duplicate-key",
        "key-not-text", "merge-key", "not-a-mapping", "not-finite", "not-utf-8", "nul-character", "number-too-large",
        "repeated-anchor", "several-documents", "tag", "too-deep", "yaml-syntax", "schema-const", "schema-enum",
        "schema-max-length", "schema-maximum", "schema-min-items", "schema-min-length", "schema-minimum",
        "schema-one-of", "schema-pattern", "schema-required", "schema-type", "duplicate-id", "unknown-key",
        "upstream-is-load", "upstream-itself", "upstream-later", "upstream-unknown",
    }  # fmt: skip
    assert rules == shown
