"""Work that ends with SIGKILL at a chosen step: just before one of the calls that it makes of its ports.

What is fatal lives here: every port of a `World` is wrapped, so that the steps are whatever calls are made. One process
loads the app and forks for each piece of work, which is ten times quicker than starting Python.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from support.processes import ROOT
from support.world import MAIN, World, budget

from shared.model import BranchName, CommitId, Event, RefUpdate, RepoId, Trigger
from shared.postgres.pool import Pool
from shared.registration import Registrar
from shared.rules import Rules

DONE = "done"
"""The step after the last call: nothing but the answer is left."""


class Death(NamedTuple):
    steps: Sequence[str]
    """Those that were reached, the fatal one last."""
    was_killed: bool


class Killer:
    """Runs pieces of work over one database, in a process each."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server

    def run(
        self, conninfo: str, folder: Path, work: str, *arguments: str, kill_at: int | None = None, clock: float = 0
    ) -> Death:
        """Do the work of that name, up to the step of that number. What breaks by itself fails the test.

        At the first step the wall clock of that process jumps by `clock` seconds.
        """
        self.begin(conninfo, folder, work, *arguments, kill_at=kill_at, clock=clock)
        return self.end()

    def begin(
        self, conninfo: str, folder: Path, work: str, *arguments: str, kill_at: int | None = None, clock: float = 0
    ) -> int:
        """The process that does it from now on."""
        assert self._server.stdin is not None
        where = {"conninfo": conninfo, "folder": str(folder)}
        order = {**where, "work": work, "arguments": arguments, "kill_at": kill_at, "clock": clock}
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return int(self._answer())

    def end(self) -> Death:
        status, steps = self._answer()
        assert status in (0, -signal.SIGKILL), f"the work broke after {steps}"
        return Death(steps, status != 0)

    def _answer(self) -> Any:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the process that forks has ended"
        return json.loads(line)


@contextmanager
def killer() -> Iterator[Killer]:
    command = [sys.executable, str(Path(__file__))]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield Killer(server)
        finally:
            assert server.stdin is not None
            server.stdin.close()


# -- In the process that forks, and its children -------------------------------------------------------------------


class _Steps:
    def __init__(self, pipe: int, kill_at: int | None, clock: float) -> None:
        self._pipe = pipe
        self._left = kill_at
        self._clock = clock

    def __call__(self, name: str) -> None:
        _Clock.shift = self._clock
        os.write(self._pipe, f"{name}\n".encode())
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left = None if self._left is None else self._left - 1


class _Clock(datetime):
    """The wall clock of this process, as Python code sees it."""

    shift = 0.0
    _true = staticmethod(time.time)

    @classmethod
    def install(cls) -> None:
        time.time = lambda: cls._true() + cls.shift
        for name, module in list(sys.modules.items()):
            if name.startswith("shared.") and getattr(module, "datetime", None) is datetime:
                setattr(module, "datetime", cls)  # noqa: B010 - a module has no such attribute to mypy

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(time.time(), tz)


class Stepping:
    """The wrapped port: each call of it is a step, which is told, and so is each thing that it yields."""

    def __init__(self, wrapped: object, step: Callable[[str], object]) -> None:
        self._wrapped = wrapped
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, name, getattr(self._wrapped, name))

    def _call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._step(name)
        result = method(*args, **kwargs)
        return self._each(name, result) if isinstance(result, Iterator) else result

    def _each(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self._step(f"one of {name}")
            yield item


def _sync(world: World, repo_id: str, kind: str = "") -> None:
    world.sync.run(RepoId(repo_id), MAIN, budget(), Trigger.MANUAL, deep=kind == "deep")


def _webhook(world: World, repo_id: str, old: str, new: str) -> None:
    world.intake.receive(pushed(repo_id, old, new), budget())


def _sweep(world: World) -> None:
    world.sweep()


def pushed(repo_id: str, old: str, new: str) -> Event:
    update = RefUpdate(BranchName("main"), CommitId(old), CommitId(new))
    return Event("git.push", repo_id=RepoId(repo_id), updates=(update,))


WORK: Mapping[str, Callable[..., None]] = {"sync": _sync, "webhook": _webhook, "sweep": _sweep}


def stepping(world: Any, rules: Rules, step: Callable[[str], object]) -> None:
    """Every call that the world makes of its ports is told from now on, and a sweep makes one after the other."""
    for port in ("registry", "queue", "store", "git", "journal", "sweeps"):
        setattr(world, port, Stepping(getattr(world, port), step))
    world.registrar = Registrar(world.registry, branches=[MAIN])
    world.workers = 1
    world.use(rules)


def _child(order: Mapping[str, Any], rules: Rules, pipe: int) -> None:
    step = _Steps(pipe, order["kill_at"], order["clock"])
    _Clock.install()
    with closing(Pool(order["conninfo"])) as pool:
        world = World(pool, Path(order["folder"]), rules=rules)
        stepping(world, rules, step)
        WORK[order["work"]](world, *order["arguments"])
        step(DONE)


def _serve() -> None:
    rules = Rules.shipped()
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                _child(json.loads(line), rules, writing)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(json.dumps(child), flush=True)
        os.close(writing)
        with os.fdopen(reading) as steps:
            reached = steps.read().splitlines()
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), reached]), flush=True)


if __name__ == "__main__":
    _serve()
