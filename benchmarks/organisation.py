"""An organisation of Azure DevOps with many repositories, in a process of its own: `Hosted` starts and asks it.

`python -m benchmarks.organisation FOLDER COUNT` is that process. It tells where it is and what it has, and then answers
a line of JSON for each line that it reads: `calls` (by route, since the last time), `latency SECONDS`, `push COUNT`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
BRANCHES = ("dev", "acc", "main")
FILES = 10
TOKEN = "emulator-personal-access-token"


class Hosted:
    """The other process. `repositories` are the ids of what it hosts."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        told = self._answer()
        self.url: str = told["url"]
        self.repositories: list[str] = told["repositories"]

    def ask(self, words: str) -> Any:
        assert self._process.stdin is not None
        print(words, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def hosting(folder: Path, count: int) -> Iterator[Hosted]:
    paths = os.pathsep.join((str(_ROOT), str(_ROOT / "tests")))
    command = [sys.executable, "-m", "benchmarks.organisation", str(folder), str(count)]
    with subprocess.Popen(
        command,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Hosted(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _host(folder: Path, count: int) -> None:
    from emulators.azure_devops import Emulator
    from support.git import GitRepository

    from benchmarks import workflows

    folder.mkdir()
    template = GitRepository(folder / "template")
    commit = template.commit(workflows.files(FILES))
    for branch in BRANCHES:
        template.set_head(branch, commit)
    shutil.rmtree(template.path / "hooks")
    with Emulator(folder) as emulator:
        paths = [shutil.copytree(template.path, folder / f"{number}.git") for number in range(count)]
        hosted = [emulator.add("bench", path.stem, path) for path in paths]
        _tell({"url": emulator.url, "repositories": [one.id for one in hosted]})
        for number, line in enumerate(sys.stdin):
            match line.split():
                case ["calls"]:
                    _tell(Counter(call.route for call in emulator.calls))
                    emulator.forget_calls()
                case ["latency", seconds]:
                    emulator.latency = float(seconds)
                    _tell(None)
                case ["push", pushes]:
                    for one, path in zip(hosted[: int(pushes)], paths, strict=False):
                        GitRepository(path).commit({workflows.path(0): workflows.content(0, revision=number)})
                        emulator.pushed(one)
                    _tell(None)


def _tell(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _host(Path(sys.argv[1]), int(sys.argv[2]))
