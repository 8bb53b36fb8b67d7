"""Take each protection out in a copy of the project, and see the test of its fault fail.

    python tests/faults/take_out.py [id ...]    run them, two at a time; exit code 1 when one does not fail as told
    python tests/faults/take_out.py --write     write README.md anew

The tables are data: `peer_defects.toml` and `sync_holes.toml`, a `[[row]]` for each fault.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

FAULTS = Path(__file__).resolve().parent
ROOT = FAULTS.parents[1]
README = FAULTS / "README.md"
COPIED = ("shared", "tests", "examples", "function_app.py", "host.json", "pyproject.toml")
"""What the tests of the faults need of the project."""
SECONDS = 300.0
"""The longest run of one test."""

INTRODUCTION = """\
# Faults

What other systems of this kind got wrong, and what can make a sync wrong: each is a test here, named after what must
hold. So that none of them passes by itself, the protection behind it was taken out once; the last two columns say what
was taken out and how the test then failed. To see all of it again, or one row of it:

    python tests/faults/take_out.py
    python tests/faults/take_out.py 7 C1

Each runs in a copy; nothing in the project changes. This page is written by `python tests/faults/take_out.py --write`
from the two `.toml` files beside it.
"""
TABLES = {"peer_defects.toml": "Defects of other systems", "sync_holes.toml": "Holes in a sync"}


@dataclass(frozen=True)
class TakenOut:
    """One protection: `old` occurs once in `file`, and with `new` in its place `test` fails, and `seen` is in what
    pytest then says."""

    protection: str
    file: str
    old: str
    new: str
    test: str
    seen: str

    def apply(self, folder: Path) -> str | None:
        """Take it out below `folder`; returns why that cannot be done."""
        path = folder / self.file
        if not path.is_file():
            return f"there is no file {self.file}"
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            return f"`old` occurs {count} times in {self.file}, not once: make it exact again"
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return None


@dataclass(frozen=True)
class Row:
    id: str
    defect: str
    tests: tuple[str, ...]
    taken_out: tuple[TakenOut, ...]


def rows(table: str) -> tuple[Row, ...]:
    """The rows of one of TABLES; none when there is no such file."""
    path = FAULTS / table
    if not path.exists():
        return ()
    return tuple(
        Row(row["id"], row["defect"], tuple(row["tests"]), tuple(TakenOut(**one) for one in row.get("taken_out", ())))
        for row in tomllib.loads(path.read_text(encoding="utf-8")).get("row", ())
    )


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Take protections out in a copy, and see their tests fail.")
    parser.add_argument("ids", nargs="*", metavar="id", help="rows to run; all by default")
    parser.add_argument("--write", action="store_true", help="write README.md anew, and run nothing")
    asked = parser.parse_args(words)
    if asked.write:
        README.write_text(readme(), encoding="utf-8")
        return 0
    every = [row for table in TABLES for row in rows(table)]
    if unknown := set(asked.ids) - {row.id for row in every}:
        print(f"No row has the id {', '.join(sorted(unknown))}.")
        return 1
    due = [(row.id, one) for row in every if not asked.ids or row.id in asked.ids for one in row.taken_out]
    with ThreadPoolExecutor(2) as workers:
        problems = []
        for (row_id, one), problem in zip(due, workers.map(lambda pair: problem_of(pair[1]), due), strict=True):
            problems += [problem] if problem else []
            print(f"{row_id:>3}  {'NOT SHOWN' if problem else 'fails'}  {one.protection}", flush=True)
            print(f"     {problem}\n" * bool(problem), end="", flush=True)
    print(f"{len(due) - len(problems)} of {len(due)} tests fail as told without their protection.")
    return 1 if problems else 0


def problem_of(one: TakenOut) -> str | None:
    """Why the test was not seen to fail as told; None when it was."""
    with TemporaryDirectory(prefix="runtime-store-fault-") as name:
        folder = Path(name)
        for part in COPIED:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            copy(ROOT / part, folder / part)
        if refusal := one.apply(folder):
            return refusal
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", one.test]
        try:
            # What pytest says depends on the width of the terminal.
            environment = {**os.environ, "COLUMNS": "160", "PYTEST_ADDOPTS": ""}
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"the test did not end within {SECONDS:.0f} s"
    said = done.stdout + done.stderr
    if done.returncode == 0:
        return "the test passes all the same"
    if done.returncode != 1 or one.seen not in said:
        errors = "\n".join(line for line in said.splitlines() if line.startswith("E "))
        otherwise = f"it failed otherwise, with exit code {done.returncode}, and without {one.seen!r}"
        return f"{otherwise}:\n{errors or said[-3000:]}"
    return None


def readme() -> str:
    return "\n".join([INTRODUCTION, *(line for table, title in TABLES.items() for line in _table(title, rows(table)))])


def _table(title: str, rows: Sequence[Row]) -> Iterator[str]:
    yield from (
        f"## {title}",
        "",
        "| # | defect | test | protection taken out | failure seen |",
        "|---|---|---|---|---|",
    )
    for row in rows:
        shown = [(one.test, one.protection, f"`{one.seen}`") for one in row.taken_out]
        shown += [(test, "", "") for test in row.tests if test not in {one.test for one in row.taken_out}]
        for number, (test, protection, seen) in enumerate(shown):
            first = ("", "") if number else (row.id, row.defect)
            file, _, name = test.removeprefix("tests/faults/").partition("::")
            yield "| {} |".format(" | ".join(map(_cell, (*first, f"[{name}]({file})", protection, seen))))
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
