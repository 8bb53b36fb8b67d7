"""`pip install '.[cli]'`, which pipelines and pre-commit do, gives a command that judges."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "requirements-cli.txt")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pip makes of this project; what it needs is taken from this Python."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "shared", source / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--target", target, source], check=True)
    return target


def pins(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")}


@pytest.mark.timeout(600)
def test_the_extra_brings_what_the_command_needs(installed: Path) -> None:
    (folder,) = installed.glob("*.dist-info")
    required = PathDistribution(folder).requires or []
    brought = {one.partition(";")[0].strip() for one in required if "extra == 'cli'" in one.replace('"', "'")}
    assert brought == pins("requirements-cli.txt")
    assert {one.partition(";")[0].strip() for one in required} - brought == pins("requirements.txt")


@pytest.mark.timeout(600)
def test_the_command_judges_as_it_does_here(installed: Path) -> None:
    command = installed / ("Scripts/runtime-store.exe" if os.name == "nt" else "bin/runtime-store")
    done = {}
    for name in ("valid", "invalid"):
        words = [command, "validate", ROOT / "examples" / name, "--pattern", "*.yaml"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
        done[name] = subprocess.run(words, cwd=installed, env=environment, capture_output=True, text=True, check=False)
    assert done["valid"].returncode == 0, done["valid"].stderr
    assert done["invalid"].returncode == 1
    assert done["invalid"].stderr.endswith(": a push of this would be rejected.\n")
