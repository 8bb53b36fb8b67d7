"""What an import does: nothing, and quickly. Each in a process of its own, with an empty environment."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "shared").rglob("*.py"))
    if path.name != "__main__.py"
]


def imported(statement: str, say: str = "sorted(sys.modules)") -> list[str]:
    script = f"import json, sys; {statement}; print(json.dumps({say}))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    modules: list[str] = json.loads(done.stdout)
    return modules


def test_importing_the_functions_needs_no_setting_and_adds_nothing_to_the_sdk() -> None:
    added = set(imported("import function_app")) - set(imported("import azure.functions"))
    assert "function_app" in added
    assert {name for name in added if name.split(".")[0] not in sys.stdlib_module_names} == {"function_app"}


def test_importing_anything_starts_nothing_and_needs_no_setting() -> None:
    statement = f"import importlib, threading; [importlib.import_module(name) for name in {SHARED!r}]"
    assert imported(statement, "[thread.name for thread in threading.enumerate()]") == ["MainThread"]
