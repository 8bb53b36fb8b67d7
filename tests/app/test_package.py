"""What is uploaded is the app, all of it and nothing else, and it runs with requirements.txt alone."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pathspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
IGNORE = (ROOT / ".funcignore").read_text(encoding="utf-8").splitlines()
SECRET = "hook-secret-of-the-tests-0123456789"
HIDDEN = [".git/config", ".venv/bin/python", ".local/data/a.json", ".coverage", ".ci/run", "shared/.DS_Store"]
UNTRACKED = [
    "local.settings.json",
    "__pycache__/dev.pyc",
    "shared/web/__pycache__/app.pyc",
    "build/lib/x.py",
    "dist/x.whl",
]

CALLS = """
import base64, json, sys
import azure.functions as func
import function_app

def call(name, method, path, headers, body=b""):
    request = func.HttpRequest(method, "https://store.example" + path, headers=headers, body=body)
    return functions[name].get_user_function()(request).status_code

functions = {function.get_function_name(): function for function in function_app.app.get_functions()}
test = json.dumps({"subscriptionId": "00000000-0000-0000-0000-000000000000", "eventType": "git.push"}).encode()
hook = {"authorization": sys.argv[1], "content-type": "application/json"}
print(json.dumps({
    "from": function_app.__file__,
    "functions": sorted(functions),
    "live": call("config_api", "GET", "/livez", {}),
    "stranger": call("webhook", "POST", "/webhooks/azure-devops", {}, test),
    "delivery": call("webhook", "POST", "/webhooks/azure-devops", hook, test),
}))
"""


def present() -> list[str]:
    """The project's files, and some that are there at one time or another; hidden folders are not walked."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in files]
    return [*found, *HIDDEN, *UNTRACKED]


def kept_by_git_rules(paths: list[str]) -> set[str]:
    ignored = pathspec.GitIgnoreSpec.from_lines(IGNORE)
    return {path for path in paths if not ignored.match_file(path)}


def kept_by_core_tools(paths: list[str]) -> set[str]:
    """Azure Functions Core Tools read the same file by simpler rules, told at the top of .funcignore.

    As in GitIgnoreParser.cs of Azure/azure-functions-core-tools; three files of its own are never uploaded.
    """
    patterns = [line.removeprefix("/") for line in IGNORE if line and not line.startswith("#")]
    expressions = [re.escape(line).replace(r"\*\*", ".+").replace(r"\*", "[^/]+") for line in patterns]
    ignored = re.compile(f"(?:{'|'.join(expressions)})\\b")
    return {path for path in paths if not ignored.match(path) and not path.endswith("local.settings.json")}


def is_app(path: str) -> bool:
    part_of_shared = path.startswith("shared/") and path.endswith((".py", ".sql", ".json"))
    return part_of_shared or path in ("function_app.py", "host.json", "requirements.txt")


def test_the_app_and_nothing_else_is_uploaded() -> None:
    paths = present()
    app = {path for path in paths if is_app(path)}
    assert {"function_app.py", "host.json", "requirements.txt", "shared/bootstrap.py"} <= app
    assert any(path.endswith(".sql") for path in app)
    assert any(path.startswith("shared/schemas/") for path in app)
    assert kept_by_git_rules(paths) == app
    assert kept_by_core_tools(paths) == app


@pytest.fixture(scope="module")
def python_of_the_app() -> Path:
    """A Python with what requirements.txt brings, kept in `.local` for as long as that file stays as it is."""
    version = "{}.{}".format(*sys.version_info)
    digest = hashlib.sha256((ROOT / "requirements.txt").read_bytes()).hexdigest()[:16]
    venvs = ROOT / ".local" / "package-test"
    venv = venvs / f"{version}-{digest}"
    python = Path("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not venv.exists():
        for outdated in venvs.glob(f"{version}-*"):
            shutil.rmtree(outdated)
        making = venvs / f"making-{version}-{os.getpid()}"
        subprocess.run([sys.executable, "-m", "venv", "--clear", making], check=True)
        pip = [making / python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
        subprocess.run([*pip, "--requirement", ROOT / "requirements.txt"], check=True)
        making.rename(venv)
    return venv / python


@pytest.mark.timeout(600)
def test_the_app_runs_from_what_is_uploaded_alone(python_of_the_app: Path, tmp_path: Path, database: str) -> None:
    for path in kept_by_git_rules(present()) - set(HIDDEN) - set(UNTRACKED):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    basic = "Basic " + base64.b64encode(f"hook:{SECRET}".encode()).decode()
    done = subprocess.run(
        [python_of_the_app, "-c", CALLS, basic],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database, "WEBHOOK_SECRET": SECRET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "from": str(tmp_path / "function_app.py"),
        "functions": ["config_api", "reconcile", "webhook"],
        "live": 200,
        "stranger": 401,
        "delivery": 200,
    }
