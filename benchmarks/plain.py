"""The plain way of the same work: what one writes first, with the quicker of the usual libraries.

Every sync clones, parses and validates every file, holds the documents, and replaces the whole set in one transaction.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import jsonschema
import psycopg
import yaml

Row: TypeAlias = tuple[str, str]
"""A path and its JSON."""

TABLE = """
    CREATE TABLE plain_configs (
        id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        repo_id     text NOT NULL,
        branch      text NOT NULL,
        filepath    text NOT NULL,
        config      jsonb NOT NULL,
        created_at  timestamptz NOT NULL DEFAULT now(),
        updated_at  timestamptz NOT NULL DEFAULT now(),
        UNIQUE (repo_id, branch, filepath)
    )"""
_SCHEMA = Path(__file__).parents[1] / "shared" / "schemas" / "samara.schema.json"
_DELETE = "DELETE FROM plain_configs WHERE repo_id = 'plain' AND branch = 'main'"
_INSERT = "INSERT INTO plain_configs (repo_id, branch, filepath, config) VALUES ('plain', 'main', %s, %s)"
_COPY = "COPY plain_configs (repo_id, branch, filepath, config) FROM STDIN"

Connection: TypeAlias = psycopg.Connection[Any]


def delete_insert(connection: Connection, rows: Iterable[Row]) -> None:
    """`executemany` pipelines and prepares: some three times quicker than a round trip per row."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_DELETE)
        cursor.executemany(_INSERT, list(rows))


def delete_copy(connection: Connection, rows: Iterable[Row]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_DELETE)
        with cursor.copy(_COPY) as copy:
            for path, config in rows:
                copy.write_row(("plain", "main", path, config))


Validate: TypeAlias = Callable[[object], object]
"""Raises when a document does not fit the schema."""


def validator() -> Validate:
    """Compiled once, as one does."""
    checked = jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text("utf-8")))
    return checked.validate


def sync(connection: Connection, source: Path, validate: Validate) -> None:
    with TemporaryDirectory() as folder:
        clone = ["git", "clone", "--quiet", "--depth=1", "--branch=main", source.as_uri(), folder]
        run(clone, check=True, capture_output=True)
        documents = dict(_documents(Path(folder)))
        for document in documents.values():
            validate(document)
        delete_insert(connection, [(path, json.dumps(document)) for path, document in documents.items()])


def _documents(folder: Path) -> Iterator[tuple[str, object]]:
    for path in folder.rglob("*runtime*.yaml"):
        # The loader in C: some eight times quicker than `yaml.safe_load`, and as safe.
        yield path.relative_to(folder).as_posix(), yaml.load(path.read_bytes(), yaml.CSafeLoader)
