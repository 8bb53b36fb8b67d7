"""Demos, started for real in a folder of their own, and the person in front of one."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
from support.git import environment
from support.processes import ROOT, Program

from examples import embedded_postgres

ITEM = "sales/customers/customers_runtime.yaml"
_SERVING = r"Serving at (http://\S+) after"


class Demo:
    """A running demo, and the person in front of it."""

    def __init__(self, folder: Path, program: Program) -> None:
        self.program = program
        self.url = program.says(_SERVING)
        self.repository = folder / "repositories" / "sample"

    def commands(self) -> list[str]:
        """What it says one can try."""
        self.program.says(r"Ctrl-C stops everything")
        return re.findall(r"^  \d\. .+\n     (.+)$", self.program.output, re.MULTILINE)

    def git(self, *words: str, cwd: Path | None = None, more: Mapping[str, str] | None = None) -> str:
        """Run git in the sample repository; returns what it and its hook said."""
        command = ["git", "-C", str(cwd or self.repository), *words]
        everything = {**environment(), **(more or {})}
        done = subprocess.run(command, capture_output=True, text=True, env=everything, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def write(self, old: str, new: str) -> None:
        file = self.repository / ITEM
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")

    def read(self, path: str) -> Any:
        with urlopen(f"{self.url}{path}", timeout=30) as response:  # noqa: S310
            return json.load(response)

    def described(self) -> str:
        return str(self.read(f"/runtimes/sample/main/{ITEM}")["workflow"]["description"])


def typed(command: str) -> str:
    """What a command says that is typed into a shell in the project, and succeeds."""
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def servers(folder: Path) -> list[int]:
    """The processes of PostgreSQL that run on the demo's data."""
    data = str(embedded_postgres.location(folder / "postgres") / "data")
    processes = psutil.process_iter(["pid", "cmdline"])
    return [process.info["pid"] for process in processes if data in (process.info["cmdline"] or ())]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.demo", "--folder", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
