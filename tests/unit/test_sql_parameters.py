"""No statement is put together from values. mypy takes LiteralString for any text, so the code itself is read here."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
ROOM = SHARED / "postgres"
MODULES = sorted(ROOM.glob("*.py"))
RUNNING = ("execute", "executemany", "stream", "copy")
"""What psycopg runs a statement with, first."""
QUOTING = ("Identifier", "Literal", "Placeholder")
"""What psycopg.sql turns a value into a part of a statement with, safely."""


def strays(source: str, takers: frozenset[str]) -> list[str]:
    """The statements in the source that are no text of the code; `takers` are the functions that want one."""
    found = []
    for function in _functions(ast.parse(source)):
        known = _texts(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _name(node.func) in takers:
                statement = node.args[1 if _name(node.func) == "_one" else 0]
                if not _is_text(statement, known):
                    found.append(ast.unparse(node))
    return found


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The outermost ones, which are read with all that is in them."""
    scopes = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef)]
    yield from (node for body in scopes for node in body if isinstance(node, ast.FunctionDef))


def _texts(function: ast.FunctionDef) -> frozenset[str]:
    """The names that stand for texts of the code: annotated so, or never assigned anything else."""
    annotated = {
        node.arg
        for node in ast.walk(function)
        if isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation) == "LiteralString"
    }
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.For) and (value := _value(node)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                    assigned.setdefault(ast.unparse(name), []).append(value)
    known = CONSTANTS | annotated
    for _ in assigned:  # One may stand for another.
        known |= {name for name, values in assigned.items() if all(_is_text(one, known) for one in values)}
    return known


def _value(node: ast.Assign | ast.AnnAssign | ast.For) -> ast.expr | None:
    return node.iter if isinstance(node, ast.For) else node.value


def _is_text(node: ast.expr, known: frozenset[str]) -> bool:
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Name(id=name):
            return name in known
        case ast.Subscript(value=ast.Attribute(attr="_sql")) | ast.Attribute(attr="sql", value=ast.Name("migration")):
            return True  # Of a file: `Statements` and `Migration` read nothing else.
        case ast.IfExp(body=one, orelse=other):
            return _is_text(one, known) and _is_text(other, known)
        case ast.Tuple(elts=elements):
            return all(_is_text(one, known) for one in elements)
        case ast.Call(func=ast.Attribute(attr="items", value=mapping)):
            return _is_text(mapping, known)
        case ast.Call(func=ast.Attribute(attr="SQL"), args=[text]):
            return _is_text(text, known)
        case ast.Call(func=ast.Attribute(attr="format", value=ast.Call() as template), args=args, keywords=[]):
            return all(_is_text(one, known) for one in (template, *args))
        case ast.Call(func=ast.Attribute(attr=quoting, value=ast.Name("sql"))):
            return quoting in QUOTING
    return False


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _takers() -> frozenset[str]:
    """The functions of the room that have a parameter for a statement."""
    functions = (node for module in MODULES for node in ast.walk(ast.parse(module.read_text("utf-8"))))
    return frozenset(RUNNING) | {
        function.name
        for function in functions
        if isinstance(function, ast.FunctionDef)
        for one in function.args.args
        if one.annotation and ast.unparse(one.annotation) == "LiteralString"
    }


CONSTANTS: frozenset[str] = frozenset(
    node.target.id
    for module in MODULES
    for node in ast.parse(module.read_text("utf-8")).body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    if "LiteralString" in ast.unparse(node.annotation)
)
TAKERS = _takers()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_statement_is_a_text_of_the_code(module: Path) -> None:
    assert strays(module.read_text("utf-8"), TAKERS) == []


def test_the_functions_that_run_statements_are_found() -> None:
    assert {"rows", "write", "_run", "_one", "execute"} <= TAKERS


@pytest.mark.parametrize(
    "statement",
    [
        "f\"SELECT * FROM repositories WHERE name = '{name}'\"",
        '"SELECT * FROM repositories WHERE name = " + name',
        '"SELECT * FROM repositories WHERE name = %s" % name',
        '"SELECT {}".format(name)',
        '" ".join(["SELECT", name])',
        "name",
        "str(name)",
        'sql.SQL(f"SELECT {name}")',
        'sql.SQL("SELECT {}").format(sql.SQL(name))',
        'sql.SQL("SELECT {}").format(name)',
        'self._sql["get"] + name',
        'self._sql["get"].replace("x", name)',
        '"SELECT 1" if name else name',
        "built",
    ],
)
def test_a_statement_that_is_put_together_is_found(statement: str) -> None:
    source = dedent(f"""
        def get(self, name: str) -> None:
            built = "SELECT 1"
            built = name
            self._pool.rows({statement}, {{}})
    """)
    assert len(strays(source, TAKERS)) >= 1


@pytest.mark.parametrize(
    "statement",
    ['"SELECT 1"', 'self._sql["get"]', 'sql.SQL("SELECT {}").format(sql.Identifier(name))', "chosen", "given"],
)
def test_a_text_of_the_code_is_none_of_them(statement: str) -> None:
    source = dedent(f"""
        def get(self, name: str, given: LiteralString) -> None:
            chosen = self._sql["a"] if name else self._sql["b"]
            self._pool.rows({statement}, {{}})
    """)
    assert strays(source, TAKERS) == []


def test_texts_become_statements_in_one_place() -> None:
    """Where files are read that lie beside the code."""
    assert [module.name for module in MODULES if "cast(LiteralString" in module.read_text("utf-8")] == ["statements.py"]


@pytest.mark.parametrize("file", sorted(ROOM.glob("*/*.sql")), ids=lambda file: file.name)
def test_no_statement_builds_another(file: Path) -> None:
    """In the database, from the values it was given."""
    text = re.sub(r"--.*", "", file.read_text("utf-8"))
    assert not re.search(
        r"\bEXECUTE\b(?!\s+FUNCTION)|\bformat\s*\(|quote_ident|query_to_xml|dblink|\bDO\b\s*\$", text, re.I
    )
