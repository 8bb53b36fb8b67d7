"""One digest for all that decides a verdict; one judgement of one file; one report of them all."""

from dataclasses import replace
from pathlib import Path

import pytest

from shared import documents, validation
from shared.documents import Limits
from shared.listing import ListingLimits
from shared.model import (
    BlobId,
    FilePath,
    Finding,
    Registration,
    Severity,
    SourceName,
    Tree,
    TreeEntry,
    TreeId,
    Validation,
)
from shared.rules import Rules
from shared.validation import Validator

RULES = Rules.shipped()
REGISTRATION = Registration("team", SourceName("source"), branches=())
PATH = FilePath("a/runtime.yaml")
BLOB = BlobId("0" * 40)
EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = (EXAMPLES / "valid/minimal.yaml").read_bytes()
NO_JOBS = b"workflow:\n  id: x\n  description: Empty\n  enabled: true\n"


class TestRuleset:
    @pytest.mark.parametrize(
        "registration",
        [
            replace(REGISTRATION, pattern="*.yaml"),
            replace(REGISTRATION, root="etl"),
            replace(REGISTRATION, validation=Validation.REPORT),
        ],
    )
    def test_moves_with_what_the_registration_decides(self, registration: Registration) -> None:
        assert RULES.ruleset(registration) != RULES.ruleset(REGISTRATION)

    @pytest.mark.parametrize(
        "registration",
        [
            replace(REGISTRATION, name="other"),
            replace(REGISTRATION, source=SourceName("other")),
            replace(REGISTRATION, project="other"),
            replace(REGISTRATION, suspended="for a while"),
        ],
    )
    def test_stays_with_what_decides_nothing(self, registration: Registration) -> None:
        assert RULES.ruleset(registration) == RULES.ruleset(REGISTRATION)

    def test_moves_with_the_schema_and_with_every_limit(self) -> None:
        validator = Validator({})
        others = [
            Rules(Validator({"minProperties": 1})),
            *[Rules(validator, limits=replace(Limits(), **{name: 7})) for name in Limits.__slots__],
            *[
                Rules(validator, listing_limits=replace(ListingLimits(), **{name: 7}))
                for name in ListingLimits.__slots__
            ],
        ]
        rulesets = {rules.ruleset(REGISTRATION) for rules in [Rules(validator), *others]}
        assert len(rulesets) == len(others) + 1

    def test_moves_with_the_parser(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = RULES.ruleset(REGISTRATION)
        monkeypatch.setattr(documents, "PARSER_VERSION", "another")
        assert RULES.ruleset(REGISTRATION) != before

    def test_moves_with_what_is_checked_besides_the_schema(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = RULES.ruleset(REGISTRATION)
        monkeypatch.setattr(validation, "VALIDATION_VERSION", "another")
        assert RULES.ruleset(REGISTRATION) != before

    def test_is_the_same_in_every_process(self) -> None:
        assert Rules.shipped().ruleset(REGISTRATION) == RULES.ruleset(REGISTRATION)


class TestSelect:
    def test_uses_the_registration_and_the_limits(self) -> None:
        paths = ["etl/x.yml", "etl/y.yaml", "y.yml"]
        tree = Tree(TreeId("0" * 40), tuple(TreeEntry(FilePath(path), "100644", BLOB, 11) for path in paths))
        registration = replace(REGISTRATION, root="etl", pattern="*.yml")
        assert list(RULES.select(tree, registration).entries) == ["etl/x.yml"]
        selection = Rules(Validator({}), limits=Limits(max_bytes=10)).select(tree, registration)
        assert [finding.rule for finding in selection.findings] == ["file-too-large", "near-miss"]


class TestJudge:
    def test_a_valid_file_is_a_document_without_findings(self) -> None:
        document, findings = RULES.judge(PATH, BLOB, EXAMPLE, Validation.ENFORCE)
        assert document is not None
        assert (document.path, document.blob_id, findings) == (PATH, BLOB, ())

    @pytest.mark.parametrize("mode", Validation)
    def test_what_cannot_be_read_is_an_error_in_both_modes(self, mode: Validation) -> None:
        document, findings = RULES.judge(PATH, BLOB, b"a: yes\nb: [", mode)
        assert document is None
        assert [finding.severity for finding in findings] == [Severity.ERROR, Severity.ERROR]

    @pytest.mark.parametrize(
        ("mode", "severity"), [(Validation.ENFORCE, Severity.ERROR), (Validation.REPORT, Severity.WARNING)]
    )
    def test_what_the_schema_does_not_allow_is_an_error_or_a_warning(
        self, mode: Validation, severity: Severity
    ) -> None:
        document, findings = RULES.judge(PATH, BLOB, NO_JOBS, mode)
        assert document is not None
        assert document.value == {"workflow": {"id": "x", "description": "Empty", "enabled": True}}
        assert [(finding.rule, finding.severity, finding.line) for finding in findings] == [
            ("schema-required", severity, 2)
        ]

    @pytest.mark.parametrize(
        ("mode", "severity"), [(Validation.ENFORCE, Severity.ERROR), (Validation.REPORT, Severity.WARNING)]
    )
    def test_what_refers_to_nothing_is_an_error_or_a_warning(self, mode: Validation, severity: Severity) -> None:
        data = (EXAMPLES / "invalid/unknown_upstream.yaml").read_bytes()
        document, findings = RULES.judge(PATH, BLOB, data, mode)
        assert document is not None
        assert {(finding.rule, finding.severity) for finding in findings} == {("upstream-unknown", severity)}

    @pytest.mark.parametrize("mode", Validation)
    def test_a_key_that_looks_misspelled_is_a_warning_that_rejects_nothing(self, mode: Validation) -> None:
        data = (EXAMPLES / "valid/misspelled_optional_keys.yaml").read_bytes()
        document, findings = RULES.judge(PATH, BLOB, data, mode)
        assert document is not None
        assert {(finding.rule, finding.severity) for finding in findings} == {("unknown-key", Severity.WARNING)}
        assert not RULES.report(findings).rejects

    @pytest.mark.parametrize("mode", Validation)
    def test_a_pointer_of_git_lfs_is_called_by_its_name(self, mode: Validation) -> None:
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        document, findings = RULES.judge(PATH, BLOB, pointer, mode)
        assert document is None
        assert [(finding.rule, finding.severity) for finding in findings] == [("lfs-pointer", Severity.ERROR)]
        assert "Git LFS" in findings[0].message

    def test_places_count_a_byte_order_mark_as_nothing(self) -> None:
        _, findings = RULES.judge(PATH, BLOB, b"\xef\xbb\xbfworkflow: 1\n", Validation.ENFORCE)
        assert [(finding.line, finding.column) for finding in findings] == [(1, 11)]


def finding(path: str, line: int | None = None, severity: Severity = Severity.ERROR, **more: str) -> Finding:
    return Finding(FilePath(path), "rule", severity, more.get("message", "message"), line, 1, more.get("pointer", ""))


class TestReport:
    def test_has_errors_first_then_the_order_of_paths_and_lines(self) -> None:
        ordered = [
            finding("a", 2),
            finding("a", 10),
            finding("b", 1),
            finding("a", 1, Severity.WARNING),
            finding("a", None, Severity.NOTE),
            finding("b", None, Severity.NOTE),
        ]
        assert RULES.report(reversed(ordered)).findings == tuple(ordered)

    def test_keeps_200_findings_and_counts_the_others(self) -> None:
        report = RULES.report([finding("a", line, Severity.NOTE) for line in range(1, 251)] + [finding("z", 1)])
        assert (len(report.findings), report.omitted) == (200, 51)
        assert report.rejects

    def test_without_findings_is_empty(self) -> None:
        report = RULES.report([])
        assert (report.findings, report.omitted, report.rejects) == ((), 0, False)

    def test_warnings_and_notes_do_not_reject(self) -> None:
        assert not RULES.report([finding("a", 1, Severity.WARNING), finding("a", 1, Severity.NOTE)]).rejects

    def test_keeps_long_keys_and_messages_out(self) -> None:
        kept = RULES.report([finding("a", 1, message="m" * 5000, pointer="/workflow/" + "k" * 5000)]).findings[0]
        assert (len(kept.message), kept.pointer) == (1000, "/workflow")
