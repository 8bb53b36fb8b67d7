"""The gate before merge: `runtime-store validate` of a folder, each way a process of its own, as in a pipeline.

`python -m benchmarks.validating FOLDER` is the plain way: PyYAML's loader in C and `jsonschema`, which tell neither all
mistakes nor their places.
"""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import yaml

from benchmarks import plain, workflows
from benchmarks.comparison import Comparison, Table, in_turn, times_less
from benchmarks.stage import Stage

_ROOT = Path(__file__).parents[1]
_OURS = ("shared", "validate")
_PLAIN = ("benchmarks.validating",)


def run(stage: Stage) -> Iterator[Table]:
    count = 300 if stage.quick else 10_000
    folder = stage.folder / "working-tree"
    for path, data in workflows.files(count).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    ours, usual = (partial(_run, words, folder) for words in (_OURS, _PLAIN))
    seconds = in_turn(3, (1, ours), (1, usual))
    # Of few files, the start of a process is most of the time.
    target = None if stage.quick else times_less(5)
    yield Table(f"validate, {count:,} files, all valid", [Comparison("a whole process", *seconds, target)])


def _run(words: tuple[str, ...], folder: Path) -> None:
    subprocess.run([sys.executable, "-m", *words, str(folder)], cwd=_ROOT, check=True, capture_output=True)


if __name__ == "__main__":
    validate = plain.validator()
    for path in Path(sys.argv[1]).rglob("*runtime*.yaml"):
        validate(yaml.load(path.read_bytes(), yaml.CSafeLoader))
