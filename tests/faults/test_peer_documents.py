"""What other systems did with files and rules: a file is a config or a finding, whatever is in it."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.contoso import A, Contoso, whole_app
from support.processes import ROOT
from support.world import workflow

from shared import bootstrap

BOMB = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c, *%c]\n" % (n, n, *[n - 1] * 3) for n in range(98, 123))
HOSTILE = {
    "lone-surrogate": (b'a: "\\ud800"\n', "yaml-syntax", 1),
    "nul": (b'a: "\\0"\n', "nul-character", 1),
    "nul-byte": (b"a: x\0y\n", "yaml-syntax", 1),
    "nan": (b"a: .nan\n", "not-finite", 1),
    "infinity": (b"a: 1\nb: -.inf\n", "not-finite", 2),
    "overflow": (b"a: 1.0e+999\n", "number-too-large", 1),
    "many-digits": (b"a: " + b"9" * 10_000, "number-too-large", 1),
    "duplicate-keys": (b"a: 1\nb: 2\na: 3\n", "duplicate-key", 3),
    "alias-bomb": (BOMB, "aliases-too-large", 10),
    "alias-of-itself": (b"a: &a [*a]\n", "alias", 1),
    "deep": (b"a:\n  " + b"[" * 10_000 + b"]" * 10_000, "too-deep", 2),
    "deep-mapping": (b"".join(b" " * depth + b"a:\n" for depth in range(1000)), "too-deep", 65),
    "keys-no-text": (b"a: 1\n1: a\n", "key-not-text", 2),
    "not-utf-8": (b"a: \xff\xfe\n", "not-utf-8", 1),
    "tag": (b"a: !!python/object/apply:os.system [ls]\n", "tag", 1),
}
"""What is in a file, and its finding: rule and line."""


def test_every_hostile_file_is_a_finding_with_its_line_and_nothing_breaks(contoso: Contoso) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    contoso.subscribe()
    files = {f"{name}-runtime.yaml": data for name, (data, _, _) in HOSTILE.items()}
    assert contoso.push(hosted, {A: workflow(2), **files}) == 200
    findings = contoso.status()["report"]["findings"]
    found = {(one["path"].removesuffix("-runtime.yaml"), one["rule"], one["line"]) for one in findings}
    assert {(name, rule, line) for name, (_, rule, line) in HOSTILE.items()} - found == set()
    for path in ("/repositories/orders", "/repositories/orders/syncs", "/repositories", "/runtimes/orders/main"):
        assert contoso.api.get(path).status_code == 200
    assert contoso.api.post("/repositories/orders/sync").status_code == 422
    assert contoso.served() == {A: "workflow-1"}


def test_fifty_megabytes_of_one_scalar_are_a_finding_and_not_downloaded(contoso: Contoso) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    contoso.subscribe()
    contoso.emulator.forget_calls()
    assert contoso.push(hosted, {A: b"a: " + b"x" * 50_000_000}) == 200
    (finding,) = contoso.status()["report"]["findings"]
    assert (finding["path"], finding["rule"]) == (A, "file-too-large")
    assert "blobs" not in [call.route for call in contoso.emulator.calls]
    assert contoso.served() == {A: "workflow-1"}


def test_another_schema_alone_judges_every_branch_again(database: str, tmp_path: Path) -> None:
    schema = json.loads((ROOT / "shared/schemas/samara.schema.json").read_bytes())
    schema["$defs"]["Id"]["maxLength"] = 5
    stricter = tmp_path / "schema.json"
    stricter.write_text(json.dumps(schema), encoding="utf-8")
    with whole_app(database, tmp_path / "organisation", BRANCHES="main,dev") as contoso:
        for name in ("one", "two"):
            hosted = contoso.repository(name, branches=["main", "dev"])
            hosted.git.set_head("dev", hosted.git.head("main"))
        contoso.sweep()
        with closing(bootstrap.build({**contoso.environ, "SCHEMA": str(stricter)})) as app:
            upgraded = replace(contoso, app=app)
            upgraded.sweep()
            shown: Any = [upgraded.api.get(f"/repositories/{name}").json for name in ("one", "two")]
            assert [one["condition"] for repository in shown for one in repository["status"]] == ["Invalid"] * 4
            assert upgraded.served("one", "dev") == {A: "workflow-1"}
