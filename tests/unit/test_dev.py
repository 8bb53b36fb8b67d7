"""dev.py from the outside: a small project of its own, a real `.venv`, real processes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = """
import os, sys
print("demo", *sys.argv[1:])
print("prefix", sys.prefix)
print("cwd", os.getcwd())
sys.exit(7)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that needs no package."""
    shutil.copy(ROOT / "dev.py", tmp_path)
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\n")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "demo.py").write_text(DEMO)
    return tmp_path


def dev(project: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(project / "dev.py"), *arguments],
        cwd=project.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_first_start_makes_the_environment_and_the_next_ones_use_it(project: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": "/elsewhere", "PIP_USER": "1"}
    command = [sys.executable, str(project / "dev.py"), "demo", "--port", "1 2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(2)]
    told = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [7, 7], told
    assert sum("Making .venv" in output for output, _ in told) == 1, "the second waits for the first"
    demo = ["demo --port 1 2", f"prefix {project / '.venv'}", f"cwd {project}"]
    assert [output.splitlines()[-3:] for output, _ in told] == [demo, demo]
    assert dev(project, "demo", "--port", "1 2").stdout.splitlines() == demo


def load(project: Path) -> str:
    """The start of a script that has dev.py as a module."""
    return f"import sys; sys.path.insert(0, {str(project)!r}); import dev; "


def python(project: Path, script: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", load(project) + script]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


FAKES = """
def watch(title, command):
    print(title)
    dev.BIN.mkdir(parents=True, exist_ok=True)
    dev.PYTHON.touch()
dev.watch = watch
dev.demo = lambda arguments: 0
"""


@pytest.mark.parametrize(
    ("happens", "then"),
    [
        ("", []),
        ("(dev.ROOT / 'requirements.txt').write_text('# other')", ["Installing the pinned requirements"]),
        ("dev.STAMP.unlink()", ["Making .venv", "Installing the pinned requirements"]),
        ("dev.PYTHON.unlink()", ["Making .venv", "Installing the pinned requirements"]),
        ("dev.STAMP.write_text('torn')", ["Making .venv", "Installing the pinned requirements"]),
        ("sys.version = '3.12.99 (other)'", ["Making .venv", "Installing the pinned requirements"]),
        ("dev.VENV = dev.VENV.with_name('moved')", ["Making .venv", "Installing the pinned requirements"]),
    ],
)
def test_the_environment_is_made_again_when_it_is_not_whole(project: Path, happens: str, then: list[str]) -> None:
    again = f"exec({FAKES!r}); dev.main(['demo']); print('then'); {happens or 'pass'}; sys.exit(dev.main(['demo']))"
    done = python(project, again)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line and not line.startswith("Ready")]
    assert told[told.index("then") + 1 :] == then


def test_an_environment_that_was_not_finished_is_not_taken_for_whole(project: Path) -> None:
    fails = "dev.watch = lambda *_: (_ for _ in ()).throw(dev.Stop('no network'))"
    script = f"exec({FAKES!r}); dev.main(['demo']); (dev.ROOT / 'requirements.txt').write_text('# other'); {fails}; "
    done = python(project, script + "sys.exit(dev.main(['demo']) + 10 * (dev.stamp() is None))")
    assert (done.returncode, done.stderr) == (12, "no network\n")


def test_what_fails_during_set_up_is_told_with_its_last_lines(project: Path) -> None:
    command = [sys.executable, "-c", "print('one'); print('two'); raise SystemExit(1)"]
    done = python(project, f"dev.LOCAL.mkdir(); dev.watch('Installing', {command!r})")
    assert "Installing failed" in done.stderr
    assert "    one\n    two" in done.stderr
    assert (project / ".local" / "setup.log").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_other_pythons_are_refused_by_name(project: Path, version: tuple[int, int]) -> None:
    told = python(project, f"sys.version_info = {(*version, 0)}; sys.exit(dev.main(['demo']))")
    assert told.returncode == 2
    assert "runs on Python 3.11, 3.12 and 3.13" in told.stderr
    assert f"This is {version[0]}.{version[1]}" in told.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_names_the_package_to_install(project: Path, missing: str) -> None:
    told = python(project, f"sys.modules[{missing!r}] = None; sys.exit(dev.main(['demo']))")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert told.returncode == 2
    assert f"apt install python{version}-venv" in told.stderr


def test_help_is_the_answer_to_nothing_and_to_nonsense(project: Path) -> None:
    helped, nonsense = dev(project), dev(project, "dmeo")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert (nonsense.returncode, nonsense.stdout) == (2, "")
    for text in (helped.stdout, nonsense.stderr):
        assert all(f"  {command}  " in text for command in ("demo", "test", "fmt", "bench"))
    assert not (project / ".venv").exists()


TOOLS = """
import pathlib
dev.BIN = pathlib.Path('bin').resolve()
dev.BIN.mkdir()
dev.prepare = lambda: None
for tool in ('ruff', 'mypy', 'lint-imports', 'pytest'):
    path = dev.BIN / tool
    path.write_text(f'#!/bin/sh\\necho "{tool} $*"\\n[ "{tool} $1" != {FAILS!r} ]\\n')
    path.chmod(0o755)
sys.exit(dev.main(['test', *ARGUMENTS]))
"""


def steps(project: Path, fails: str = "none", *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `dev.py test` with tools that say how they were called; one of them fails."""
    return python(project, f"FAILS = {fails!r}; ARGUMENTS = {list(arguments)!r}; exec({TOOLS!r})")


def test_a_good_check_ends_with_the_line_of_the_tests(project: Path) -> None:
    done = steps(project)
    assert done.returncode == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["format", "ok"],
        ["lint", "ok"],
        ["types", "ok"],
        ["imports", "ok"],
        ["pytest", "-n"],
    ]


@pytest.mark.parametrize(
    ("fails", "step", "again"),
    [
        ("ruff format", "format", "bin/ruff format --check ."),
        ("mypy ", "types", "bin/mypy"),
        ("pytest -n", "tests", "bin/pytest -n logical"),
    ],
)
def test_a_failing_step_is_named_with_how_to_run_only_it(project: Path, fails: str, step: str, again: str) -> None:
    done = steps(project, fails)
    assert done.returncode == 1
    assert f"FAILED: {step}. Only this again: {again}" in done.stdout
    assert "pytest" in done.stdout, "the other steps run all the same"


def test_arguments_of_test_go_to_pytest_alone(project: Path) -> None:
    done = steps(project, "pytest -k", "-k", "one and two")
    assert done.stdout == "pytest -k one and two\n"
    assert done.returncode == 1


INTERRUPTED = """
import signal, sys, time
def stop(*_):
    print("stopped", flush=True)
    sys.exit(3)
signal.signal(signal.SIGINT, stop)
print("up", flush=True)
while True:
    time.sleep(0.01)
"""


@pytest.mark.parametrize("way", ["hand_over", "wait"])
def test_ctrl_c_reaches_the_command_and_its_exit_code_is_ours(project: Path, way: str) -> None:
    script = load(project) + f"sys.exit(dev.{way}([sys.executable, '-c', {INTERRUPTED!r}]))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        assert output.readline() == "up\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        assert output.read() == "stopped\n"
        assert process.wait() == 3


AUDITOR = """
import pathlib
dev.PYTHON = sys.executable
def watch(title, command):
    place = command[command.index("--target") + 1]
    pathlib.Path(place, "pip_audit.py").write_text("import sys; print(*sys.argv[1:]); sys.exit(1)")
dev.watch = watch
"""


def test_the_audit_asks_about_every_pin_and_leaves_nothing_behind(project: Path) -> None:
    done = python(project, f"exec({AUDITOR!r}); sys.exit(dev.audit(['--format', 'json']))")
    asked = "--strict --no-deps --disable-pip -r requirements-dev.txt -r requirements.txt --format json\n"
    assert (done.returncode, done.stdout) == (1, asked), done.stderr
    assert list((project / ".local").iterdir()) == []
