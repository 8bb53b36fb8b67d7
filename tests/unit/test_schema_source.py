"""A schema in the place of the shipped one: what is used is what was meant, and all else is told at the start."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext
from threading import Event, Thread
from typing import Any

import pytest
from support.schemas import EXPORTED
from support.tls import Authority

from shared.bootstrap import rules_from
from shared.errors import InvalidRequest, SettingsInvalid
from shared.model import BlobId, FilePath, Registration, SourceName, Validation
from shared.rules import Rules
from shared.settings import load as load_settings
from shared.validation import load
from shared.validation.source import MAX_BYTES

REGISTRATION = Registration("team", SourceName("source"), branches=())
EXPORT = json.dumps(EXPORTED, indent=2).encode()
DIGEST = sha256(EXPORT).hexdigest()


def refusal(source: str, **more: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        load(source, **more)
    assert caught.value.field == "schema"
    return f"{caught.value.message} {caught.value.hint or ''}".strip()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "samara.json"
    path.write_bytes(EXPORT)
    return path


class TestAFile:
    def test_is_read(self, export: Path) -> None:
        assert load(str(export))["properties"]

    def test_is_the_one_of_its_digest(self, export: Path) -> None:
        assert load(f"{export}#sha256={DIGEST}") == load(f"{export}#sha256={DIGEST.upper()}") == load(str(export))
        message = refusal(f"{export}#sha256={'0' * 64}")
        assert message.startswith(f"{export} has another digest than it must")
        assert message.endswith(f"write `#sha256={DIGEST}` behind it.")

    @pytest.mark.parametrize("digest", ["", "0" * 63, "x" * 64, "0" * 65])
    def test_has_a_digest_of_64_digits(self, export: Path, digest: str) -> None:
        assert "64 hexadecimal digits" in refusal(f"{export}#sha256={digest}")

    def test_may_have_a_hash_sign_in_its_name(self, tmp_path: Path) -> None:
        path = tmp_path / "a#b.json"
        path.write_bytes(EXPORT)
        assert load(f"{path}#sha256={DIGEST}") == load(str(path))

    @pytest.mark.parametrize("name", ["nothing.json", "", "a\0b"])
    def test_that_cannot_be_read_is_told(self, tmp_path: Path, name: str) -> None:
        assert "cannot be read: " in refusal(str(tmp_path / name))

    def test_that_is_too_large_is_not_read(self, export: Path) -> None:
        export.write_bytes(EXPORT + b" " * MAX_BYTES)
        assert refusal(str(export)) == f"{export} is too large: at most 4,194,304 bytes are read."


class TestWhatItMustBe:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is not JSON: "),
            (b"{", "is not JSON: "),
            (b"\xff\xfe", "is not JSON: "),
            (b"[" * 100_000, "is not JSON: "),
            (b"<html>", "is not JSON: "),
            (b"[]", "is not a JSON Schema: an object is expected."),
            ({"type": "text"}, "is not a valid JSON Schema: "),
            ({"required": "id"}, "is not a valid JSON Schema: "),
            ({"properties": {"a": {"minimum": "1"}}}, "is not a valid JSON Schema: "),
            ({"$schema": "http://json-schema.org/draft-07/schema#"}, "is a schema of http://json-schema.org/draft-07"),
            ({"properties": {"a": {"$ref": "#/$defs/A"}}}, "refers to #/$defs/A: a $ref can only lead to #/$defs/ and"),
            ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "refers to https://example.com/a.json"),
            ({"properties": {"a": {"$ref": "#/properties/b"}, "b": {}}}, "refers to #/properties/b"),
            ({"properties": {"a": {"$ref": "#"}}}, "refers to #"),
            ({"properties": {"a": {"$id": "https://example.com/a.json"}}}, "has $id, which is not supported."),
            ({"properties": {"a": {"$anchor": "a"}}}, "has $anchor, which is not supported."),
            ({"properties": {"a": {"pattern": "(?P<a>b)(?P<a>c)"}}}, "has a pattern that cannot be used"),
            ({"patternProperties": {"\\pL": {}}}, "has a pattern that cannot be used"),
            ({"$defs": {"A": {"$ref": "#/$defs/A"}}}, "has a $ref that leads back to itself: #/$defs/A."),
            (
                {"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}]}, "B": {"not": {"$ref": "#/$defs/A"}}}},
                "has a $ref that leads back to itself",
            ),
        ],
    )
    def test_is_told(self, tmp_path: Path, content: Any, message: str) -> None:
        path = tmp_path / "schema.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        assert refusal(str(path)).startswith(f"{path} {message}")

    def test_may_be_as_deep_as_its_documents(self, tmp_path: Path) -> None:
        """A reference to itself is fine where it is about what is inside."""
        path = tmp_path / "schema.json"
        tree = {"properties": {"below": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}, "required": ["name"]}
        path.write_text(json.dumps({"$defs": {"Tree": tree}, "$ref": "#/$defs/Tree"}), "utf-8")
        _, findings = Rules.of(str(path)).judge(
            FilePath("a"), BlobId("0" * 40), b"workflow: {name: a, below: [{name: b, below: [{}]}]}", Validation.ENFORCE
        )
        assert [(one.rule, one.pointer) for one in findings] == [("schema-required", "/workflow/below/0/below/0")]


def judged(source: str, text: str) -> list[tuple[str, str]]:
    _, findings = Rules.of(source).judge(FilePath("a"), BlobId("0" * 40), text.encode(), Validation.ENFORCE)
    return [(finding.rule, finding.message) for finding in findings]


VALID = """
{key}:
  id: a
  enabled: true
  jobs:
    - id: b
      engine_type: spark
      extracts: [{{id: c, method: batch, schema: "", options: {{}}}}]
      transforms:
        - id: d
          upstream_id: c
          functions:
            - {{function_type: drop, arguments: {{columns: [a]}}}}
            - {{function_type: join, arguments: {{other_upstream_id: c, "on": id}}}}
"""


class TestASchemaAsSamaraExportsIt:
    @pytest.mark.parametrize("key", ["workflow", "runtime"])
    def test_is_about_what_stands_under_either_key(self, export: Path, key: str) -> None:
        assert judged(str(export), VALID.format(key=key)) == []
        assert judged(str(export), "alert: 1\n" + VALID.format(key=key)) == []
        assert judged(str(export), VALID.format(key="jobs")) == [
            ("schema-required", "The file lacks the key workflow or runtime.")
        ]

    @pytest.mark.parametrize(
        ("was", "now", "expected"),
        [
            (
                "function_type: drop",
                "function_type: dorp",
                [
                    (
                        "schema-enum",
                        'function_type must be drop, select or join, but is the text "dorp". Did you mean drop?',
                    )
                ],
            ),
            ("function_type: drop, ", "", [("schema-required", "Item 1 of functions lacks the key function_type.")]),
            (
                "function_type: drop",
                "function_typ: drop",
                [
                    (
                        "schema-required",
                        "Item 1 of functions lacks the key function_type: was function_typ meant to be function_type?",
                    )
                ],
            ),
            ("columns: [a]", "columns: []", [("schema-min-items", "columns must not be empty.")]),
            (
                "columns: [a]",
                "column: [a]",
                [("schema-required", "arguments lacks the key columns: was column meant to be columns?")],
            ),
            ("engine_type: spark", "engine_type: 1", [("schema-enum", "engine_type must be spark, but is 1.")]),
            (
                "method: batch",
                "method: bach",
                [
                    (
                        "schema-enum",
                        'method must be batch or streaming, but is the text "bach". Did you mean batch?',
                    )
                ],
            ),
            ('schema: ""', "schema: 1", [("schema-type", "schema must be text, but is 1.")]),
            ('"on": id', '"on": 1', [("schema-type", "on must be text or a list, but is 1.")]),
            ("id: b", "id: b\n      retry:", []),
            ("id: b", "id: b\n      retry: {}", [("schema-required", "retry lacks the key seconds.")]),
            (
                "id: b",
                "id: b\n      retry: {seconds: 0}",
                [("schema-minimum", "seconds must be from 1 to 30, but is 0.")],
            ),
            (
                "id: b",
                "id: b\n      rety: {seconds: 1}",
                [("unknown-key", "Item 1 of jobs has the key rety, which means nothing here. Did you mean retry?")],
            ),
            (
                "upstream_id: c",
                "upstream_id: d",
                [("upstream-itself", "upstream_id is d, which is this transform itself: name what it reads from.")],
            ),
        ],
    )
    def test_tells_one_mistake_once_in_the_same_words(
        self, export: Path, was: str, now: str, expected: list[tuple[str, str]]
    ) -> None:
        text = VALID.format(key="workflow")
        assert was in text
        assert judged(str(export), text.replace(was, now, 1)) == expected

    def test_may_be_one_of_a_whole_file(self, tmp_path: Path) -> None:
        path = tmp_path / "whole.json"
        path.write_text('{"$id": "https://example.com/x", "properties": {"workflow": {"type": "integer"}}}', "utf-8")
        assert judged(str(path), "workflow: 1") == judged(str(path), "other: 1") == []
        assert [rule for rule, _ in judged(str(path), "workflow: x")] == ["schema-type"]

    def test_may_define_a_name_that_is_used_here(self, tmp_path: Path) -> None:
        path = tmp_path / "schema.json"
        path.write_text('{"$defs": {"Workflow": {"type": "integer"}}, "$ref": "#/$defs/Workflow"}', "utf-8")
        assert judged(str(path), "workflow: 1") == []
        assert [rule for rule, _ in judged(str(path), "workflow: x")] == ["schema-type"]


class TestTheRuleset:
    def test_moves_with_the_schema_and_not_with_its_layout(self, export: Path) -> None:
        before = Rules.of(str(export)).ruleset(REGISTRATION)
        assert before != Rules.of(None).ruleset(REGISTRATION)
        export.write_text(json.dumps(EXPORTED, sort_keys=True), "utf-8")
        assert Rules.of(str(export)).ruleset(REGISTRATION) == before
        export.write_text(json.dumps({**EXPORTED, "minProperties": 1}), "utf-8")
        assert Rules.of(str(export)).ruleset(REGISTRATION) != before

    def test_without_a_source_is_the_shipped_one(self) -> None:
        assert Rules.of(None).ruleset(REGISTRATION) == Rules.shipped().ruleset(REGISTRATION)


class TestTheSetting:
    def test_is_used(self, export: Path) -> None:
        settings = load_settings({"DATABASE_URL": "postgresql://db/x", "SCHEMA": f"{export}#sha256={DIGEST}"})
        assert rules_from(settings).ruleset(REGISTRATION) == Rules.of(str(export)).ruleset(REGISTRATION)

    def test_that_cannot_be_used_is_a_problem_of_the_settings(self, export: Path) -> None:
        settings = load_settings({"DATABASE_URL": "postgresql://db/x", "SCHEMA": f"{export}#sha256={'0' * 64}"})
        with pytest.raises(SettingsInvalid) as caught:
            rules_from(settings)
        [problem] = caught.value.problems
        assert problem.startswith(f"SCHEMA cannot be used: {export} has another digest")
        assert problem.endswith(f"write `#sha256={DIGEST}` behind it")


# -- URLs --------------------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host: Host = self.server.host  # type: ignore[attr-defined]
        if host.hangs:
            host.released.wait(30)
            return
        host.released.wait(host.hesitates)
        self.send_response(host.status)
        for name, value in host.headers.items():
            self.send_header(name, value)
        with suppress(OSError):
            self.flush_headers()
            while host.drips_headers and not host.released.wait(0.01):
                self.wfile.write(b"X: y\r\n")
            self.end_headers()
            for piece in host.pieces():
                self.wfile.write(piece)

    def log_message(self, format: str, *arguments: object) -> None:
        """The test runner's output is no place for it."""


class Host:
    """Answers every request alike. The attributes change how."""

    def __init__(self, server: ThreadingHTTPServer, scheme: str) -> None:
        name = "localhost" if scheme == "https" else "127.0.0.1"
        self.url = f"{scheme}://{name}:{server.server_address[1]}/schema.json"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = EXPORT
        self.hangs = False
        self.drips = False
        """The body comes byte by byte, and never all of it."""
        self.drips_headers = False
        self.hesitates = 0.0
        """Seconds before it answers."""
        self.released = Event()

    def pieces(self) -> Iterator[bytes]:
        if not self.drips:
            yield self.body
        while self.drips and not self.released.wait(0.01):
            yield b" "


@contextmanager
def serving(tls: SSLContext | None = None) -> Iterator[Host]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        host = server.host = Host(server, "https" if tls else "http")  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield host
        finally:
            host.released.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as host:
        yield host


class TestAUrl:
    def test_is_fetched(self, host: Host, export: Path) -> None:
        assert load(f"{host.url}#sha256={DIGEST}") == load(str(export))

    def test_without_a_digest_is_refused_with_the_one_to_write(self, host: Host) -> None:
        message = refusal(host.url)
        assert message.startswith(f"{host.url} has no digest.")
        assert load(host.url + re.search(r"write `(\S+)` behind it\.$", message)[1])  # type: ignore[index]

    def test_with_another_content_is_refused(self, host: Host) -> None:
        host.body = EXPORT + b"\n"
        assert "another digest" in refusal(f"{host.url}#sha256={DIGEST}")

    def test_is_not_shown_with_its_signature(self, host: Host) -> None:
        host.status = 403
        assert "secret" not in refusal(f"{host.url}?sig=secret#sha256={DIGEST}")
        host.status = 200
        assert "secret" not in refusal(f"{host.url}?sig=secret")
        assert "secret" not in refusal(f"{host.url}?sig=secret#sha256={'0' * 64}")
        for url in (f"{host.url}?a b&sig=secret", f"{host.url}?\n&sig=secret", f"{host.url}?\xe4&sig=secret"):
            assert refusal(f"{url}#sha256={DIGEST}").startswith(f"{host.url} is no URL: ")

    def test_is_not_shown_with_its_signature_when_it_looks_like_a_path(self) -> None:
        message = refusal(f"https:/example.com/x.json?sig=secret#sha256={DIGEST}")
        assert message.startswith("https:/example.com/x.json cannot be read: ")

    def test_is_not_shown_with_its_password(self) -> None:
        message = refusal(f"https://user:secret@example.com/x.json#sha256={DIGEST}")
        assert message.startswith("https://***@example.com/x.json holds a user name or a password")

    @pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>"])
    @pytest.mark.parametrize("mark", ["", f"#sha256={DIGEST}"])
    def test_that_is_no_schema_gets_no_digest(self, host: Host, body: bytes, mark: str) -> None:
        host.body = body
        message = refusal(f"{host.url}{mark}")
        assert "is not JSON" in message
        assert "sha256" not in message

    def test_that_breaks_off_is_told(self, host: Host) -> None:
        host.headers = {"Content-Length": str(len(EXPORT) + 1)}
        message = refusal(f"{host.url}#sha256={DIGEST}")
        assert message == f"{host.url} cannot be fetched: the host broke its answer off."

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("http://example.com/x.json", "is not an https URL"),
            ("ftp://example.com/x.json", "is not an https URL"),
            ("file:///etc/passwd", "is not an https URL"),
            ("https:///x.json", "is not an https URL"),
            ("https://user:word@example.com/x.json", "holds a user name or a password"),
            ("https://[x/x.json", "is no URL"),
            ("https://example.com:port/x.json", "is no URL"),
            (f"https://{'a' * 64}.example.com/x.json", "is no URL"),
        ],
    )
    def test_is_https_and_nothing_is_fetched_otherwise(self, url: str, message: str) -> None:
        assert message in refusal(f"{url}#sha256={DIGEST}")

    @pytest.mark.parametrize("status", [404, 500])
    def test_that_is_not_there_is_told(self, host: Host, status: int) -> None:
        host.status = status
        assert f"{host.url} cannot be fetched: " in refusal(f"{host.url}#sha256={DIGEST}")

    def test_of_nobody_is_told(self) -> None:
        with serving() as host:
            url = host.url
        assert f"{url} cannot be fetched: " in refusal(f"{url}#sha256={DIGEST}")

    @pytest.mark.parametrize("elsewhere", ["http://example.com/x.json", "ftp://127.0.0.1/x"])
    def test_that_leads_to_one_that_is_not_https_is_refused(self, host: Host, elsewhere: str) -> None:
        host.status, host.headers = 302, {"Location": elsewhere}
        message = refusal(f"{host.url}#sha256={DIGEST}")
        assert message.startswith(f"{host.url} leads to {elsewhere}, which is not an https URL")

    def test_that_leads_to_a_file_is_refused(self, host: Host) -> None:
        host.status, host.headers = 302, {"Location": "file:///etc/passwd"}
        message = refusal(f"{host.url}#sha256={DIGEST}")
        assert message.startswith(f"{host.url} leads to file:///etc/passwd, which is not an https URL")

    def test_that_leads_nowhere_is_told(self, host: Host) -> None:
        host.status, host.headers = 302, {"Location": "https://[x/?sig=secret"}
        assert refusal(f"{host.url}#sha256={DIGEST}") == f"{host.url} leads to something that is no URL."

    def test_is_not_left_for_one_without_encryption(
        self, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = Authority(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
        with serving(authority.context("localhost")) as first:
            assert load(f"{first.url}#sha256={DIGEST}")
            first.status, first.headers = 302, {"Location": f"{host.url}?sig=secret"}
            message = refusal(f"{first.url}#sha256={DIGEST}")
        assert message.startswith(f"{first.url} leads to {host.url}, which is not an https URL")

    def test_may_lead_to_another_one(self, host: Host) -> None:
        with serving() as first:
            first.status, first.headers = 302, {"Location": host.url}
            assert load(f"{first.url}#sha256={DIGEST}")

    def test_that_leads_round_and_round_ends(self, host: Host) -> None:
        host.status, host.headers = 302, {"Location": host.url}
        assert "cannot be fetched: " in refusal(f"{host.url}#sha256={DIGEST}")

    def test_that_does_not_answer_is_given_up(self, host: Host) -> None:
        host.hangs = True
        assert refusal(f"{host.url}#sha256={DIGEST}", seconds=0.2) == f"{host.url} did not answer in time."

    def test_that_never_ends_its_answer_is_given_up(self, host: Host) -> None:
        host.drips = True
        assert refusal(f"{host.url}#sha256={DIGEST}", seconds=0.2) == f"{host.url} did not answer in time."

    def test_whose_headers_never_end_is_given_up(self, host: Host) -> None:
        host.drips_headers = True
        assert refusal(f"{host.url}#sha256={DIGEST}", seconds=0.2) == f"{host.url} did not answer in time."

    def test_has_one_time_for_all_that_it_leads_to(self, host: Host) -> None:
        host.status, host.headers, host.hesitates = 302, {"Location": host.url}, 0.1
        assert refusal(f"{host.url}#sha256={DIGEST}", seconds=0.35) == f"{host.url} did not answer in time."

    def test_that_is_too_large_is_given_up(self, host: Host) -> None:
        host.body = b" " * (MAX_BYTES + 1)
        assert "is too large" in refusal(f"{host.url}#sha256={DIGEST}")

    def test_that_is_a_sign_in_page_is_no_schema(self, host: Host) -> None:
        host.body = b"<html>Sign in</html>"
        digest = sha256(host.body).hexdigest()
        assert "is not JSON" in refusal(f"{host.url}#sha256={digest}")
