"""The table of faults is complete, and true of the project as it is."""

import ast
from functools import cache
from pathlib import Path

import pytest
from faults.take_out import README, ROOT, TABLES, Row, TakenOut, readme, rows

IDS = {
    "peer_defects.toml": [str(number) for number in range(1, 26)],
    "sync_holes.toml": [
        f"{kind}{number}" for kind, count in (("C", 11), ("H", 16), ("M", 12)) for number in range(1, count + 1)
    ],
}
ROWS = [row for table in TABLES for row in rows(table)]
TAKEN_OUT = [pytest.param(one, id=f"{row.id}-{number}") for row in ROWS for number, one in enumerate(row.taken_out)]


@cache
def names_in(file: str) -> frozenset[str]:
    """The tests of a module as pytest names them, without their parameters."""
    path = ROOT / file
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
        names |= {node.name} if isinstance(node, ast.FunctionDef) else set()
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return frozenset(name for name in names if name.rpartition("::")[2].startswith("test_"))


@pytest.mark.parametrize("table", TABLES)
def test_every_fault_has_its_row(table: str) -> None:
    assert [row.id for row in rows(table)] == IDS[table]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_tests_of_a_fault_exist(row: Row) -> None:
    assert row.defect
    assert row.taken_out
    assert {one.test for one in row.taken_out} <= set(row.tests)
    for test in row.tests:
        file, _, name = test.partition("::")
        assert file.startswith("tests/faults/")
        assert name.partition("[")[0] in names_in(file)


@pytest.mark.parametrize("one", TAKEN_OUT)
def test_what_is_taken_out_is_there_once(one: TakenOut) -> None:
    text = (ROOT / one.file).read_text(encoding="utf-8")
    assert text.count(one.old) == 1
    assert one.new != one.old
    assert one.protection
    assert one.seen


@pytest.mark.parametrize(("text", "problem"), [("a a", "occurs 2 times"), ("b", "occurs 0 times"), ("a b", None)])
def test_only_an_exact_text_is_taken_out(tmp_path: Path, text: str, problem: str | None) -> None:
    (tmp_path / "code.py").write_text(text, encoding="utf-8")
    told = TakenOut("", "code.py", old="a", new="c", test="", seen="").apply(tmp_path)
    assert problem in told if problem and told else told is problem
    assert (tmp_path / "code.py").read_text(encoding="utf-8") == (text if problem else "c b")


def test_the_page_says_what_the_tables_say() -> None:
    assert README.read_text(encoding="utf-8") == readme(), "run `python tests/faults/take_out.py --write`"
