"""One soak, from its options to its summary and exit code."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from uuid import NAMESPACE_URL, uuid5

import psycopg
from emulators.azure_devops import Emulator
from psycopg.conninfo import make_conninfo
from support.git import GitRepository

from benchmarks.soak import summary
from benchmarks.soak.faults import Faults, Surroundings
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.network import Chances, Network, connected, posted, sent
from benchmarks.soak.objects import Objects
from benchmarks.soak.people import HOOK_HEADERS, People, Team
from benchmarks.soak.services import ADMIN, Postgres, Timer, serving
from benchmarks.soak.watching import Watch, unsettled, wrongly_served
from benchmarks.soak.words import ADMIN_KEY, BRANCHES, HOOK_SECRET, READER_KEY, TOKEN
from examples import embedded_postgres
from shared.postgres.migrate import migrate

_ROOT = Path(__file__).parents[2]
_QUIET_SECONDS = 300.0
_TELL_SECONDS = 10.0
_TOLD = 20
_PACE, _HURRIED = 0.05, 0.01
"""How long a second of Azure DevOps' own waits takes: it repeats a delivery for 9 seconds instead of three minutes, or
for two in a hurry."""


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also where a shell has made the first one ignored, as it does in the background.
        signal.signal(number, signal.default_int_handler)
    with TemporaryDirectory(prefix="runtime-store-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            soak = Soak(options, folder)
            with soak.everything():
                soak.run()
            print(summary.told(soak), flush=True)
        except embedded_postgres.CannotRun as problem:
            print(problem, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
        finally:
            embedded_postgres.remove(folder / "postgres")
    return 1 if soak.violations else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    add = parser.add_argument
    add("--pushes", type=int, default=1_000, help="end after so many")
    add("--minutes", type=float, default=float("inf"), help="or after so long")
    add("--seed", type=int, default=None, help="decides who pushes what, and which faults come in which order")
    add("--repositories", type=int, default=36, help="a third of them is read with Git, the others by the API")
    add("--rate", type=float, default=12.0, help="pushes per second, at most")
    add("--readers", type=int, default=3, help="at full speed")
    add("--quiet-every", type=int, default=1_000, help="pushes between two quiet moments")
    add("--gap", type=float, default=3.0, help="seconds between two faults")
    add("--calm", type=float, default=20.0, help="seconds without faults, before one of each kind comes")
    add(
        "--hurry",
        action="store_true",
        help="leases last ten seconds, back-offs and pauses end at once, and all is tried again soon",
    )
    add("--only", default="", help="the kinds of faults that match this regular expression")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(1_000_000)
    return options


class Soak:
    """`violations` counts; `examples` are the first of them."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.violations = 0
        self.examples: list[str] = []
        self.reads: Counter[str] = Counter()
        self.quiet: list[float] = []
        self.returned = 0
        self.pushes = 0
        self.seconds = 0.0
        self._lock = Lock()

    def violation(self, what: str) -> None:
        with self._lock:
            self.violations += 1
            if len(self.examples) < _TOLD:
                self.examples.append(what)
                print(f"VIOLATION (seed {self.options.seed}): {what}", flush=True)

    # -- What it takes

    @contextmanager
    def everything(self) -> Iterator[None]:
        with ExitStack() as stack:
            enter, folder, seed = stack.enter_context, self.folder, self.options.seed
            server = enter(embedded_postgres.running(folder / "postgres", "made-up"))
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute("CREATE DATABASE soak")
            self.conninfo = make_conninfo(server, dbname="soak", connect_timeout=5)
            migrate(self.conninfo)
            self.emulator = enter(Emulator(folder / "organisation", pace=_HURRIED if self.options.hurry else _PACE))
            self.servers = enter(serving(self._environment(), folder))
            self.urls = [one.url for one in self.servers]
            self.network = Network(self.urls, f"{seed} network", self.violation)
            self.hook = enter(connected(self.network))
            self.ledger = Ledger(folder / "ledger.jsonl")
            stack.callback(self.ledger.close)
            self.people = People(self.emulator, self.network, self.ledger, f"{seed} people")
            stack.callback(self.people.close)
            self.watch = Watch(self.conninfo, self.network.disturbed.__contains__)
            self.people.pushing = self.watch.expect
            self.timer = Timer(self.urls, self.conninfo if self.options.hurry else None)
            postgres = Postgres(self.conninfo, folder / "postgres.log")
            teams = self.people.teams
            around = Surroundings(
                self.conninfo,
                self.emulator,
                self.servers,
                postgres,
                self.timer,
                self.ledger,
                self.watch,
                teams,
                self.violation,
            )
            how = self.options
            self.faults = Faults(around, f"{seed} faults", gap=how.gap, calm=how.calm, only=how.only)
            enter(self.watch.running())
            enter(self.timer.running())
            yield

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONUTF8": "1",
            "DATABASE_URL": self.conninfo,
            "WEBHOOK_SECRET": HOOK_SECRET,
            "ADMIN_KEY": ADMIN_KEY,
            "READER_KEYS": f"soak={READER_KEY}",
            "AZURE_DEVOPS_ORGANIZATION": self.emulator.url,
            "AZURE_DEVOPS_PAT": TOKEN,
            "BRANCHES": ",".join(BRANCHES),
            "HEAD_CHECK_MINUTES": "1",
            "GIT_TIMEOUT_SECONDS": "5",
            "LOG_LEVEL": "WARNING",
        }

    def _found(self) -> None:
        """The teams; those of the organisation are registered by their first push."""
        for number in range(self.options.repositories):
            name = f"team-{number:02}"
            if number % 3 == 2:
                path = self.folder / f"{name}.git"
                repo_id = str(uuid5(NAMESPACE_URL, name))
                team = Team(repo_id, name, Objects(GitRepository(path).path), None)
                self._register(team)
            else:
                hosted = self.emulator.repository("soak", name)
                details = "minimal" if number % 6 == 0 else "all"
                self.emulator.subscribe(
                    self.hook,
                    repository=hosted,
                    resourceDetailsToSend="all",
                    messagesToSend="none",
                    detailedMessagesToSend="none",
                    basicAuthUsername="azure-devops",
                    basicAuthPassword=HOOK_SECRET,
                )
                team = Team(hosted.id, name, Objects(hosted.path), hosted)
            self.people.found(team)
            if team.hosted and details == "minimal":
                # Its first push registers it, for which that has to say more.
                self.emulator.delivered(60)
                for one in self.emulator.subscriptions:
                    if one.data["publisherInputs"]["repository"] == hosted.id:
                        one.data["consumerInputs"]["resourceDetailsToSend"] = details

    def _register(self, team: Team) -> None:
        told = {"name": team.name, "source": str(team.objects.git_dir), "branches": list(BRANCHES)}
        status, said = sent("PUT", self.urls[0], f"/repositories/{team.repo_id}", ADMIN, json.dumps(told).encode())
        if status != 201:
            raise RuntimeError(f"{team.name} was not registered: {status} {said!r}")

    # -- What happens

    def run(self) -> None:
        self._found()
        self._be_quiet()
        for times in (self.quiet, self.watch.calm, self.watch.troubled):
            times.clear()
        with self._reading(), ExitStack() as stack:
            self.network.chances = Chances()
            stack.enter_context(self.faults.running())
            started = time.monotonic()
            self._push(started + self.options.minutes * 60)
            with self.faults.paused():
                self.seconds = time.monotonic() - started
        for server in self.servers:
            for line in server.defects():
                self.violation(f"the app logged a defect: {line}")

    def _push(self, until: float) -> None:
        next_at, told_at = time.monotonic(), time.monotonic()
        while self.pushes < self.options.pushes and time.monotonic() < until:
            self.people.push()
            self.pushes += 1
            if self.pushes % self.options.quiet_every == 0:
                self._be_quiet()
            # Late pushes are not made up for: then the machine is busy.
            next_at = max(next_at + 1 / self.options.rate, time.monotonic())
            time.sleep(max(0.0, next_at - time.monotonic()))
            if time.monotonic() - told_at > _TELL_SECONDS:
                told_at = time.monotonic()
                print(f"{self.pushes:,} pushes, {self.watch.waiting()} not served yet, {self._told()}", flush=True)
        if self.pushes % self.options.quiet_every:
            self._be_quiet()

    def _told(self) -> str:
        return f"{self.faults.counts.total()} faults, {self.violations} violations"

    def _be_quiet(self) -> None:
        """Nobody pushes and nothing fails: every branch comes to serve its head, and does so at each server."""
        started = time.monotonic()
        with self.faults.paused():
            self.people.settle()
            self.emulator.delivered(120)
            self.network.settle()
            # What says nothing of any repository has all heads looked at: those of lost deliveries too.
            self._ask_for_all_heads()
            wrong = self._unsettled(started + _QUIET_SECONDS)
            for one in wrong[:5]:
                self.violation(f"after {_QUIET_SECONDS:.0f} quiet seconds: {one}")
            for url in self.urls if not wrong else ():
                for one in wrongly_served(url, self.people.teams):
                    self.violation(f"when all was quiet: {one}")
            self.quiet.append(time.monotonic() - started)
            self.returned += self.watch.forget()
            self.emulator.forget_calls()
            self.emulator.forget_deliveries()
        print(f"{self.pushes:,} pushes: quiet after {self.quiet[-1]:.1f} s, {self._told()}", flush=True)

    def _ask_for_all_heads(self) -> None:
        status = None
        while status not in (200, 202):
            with suppress(OSError, HTTPException):
                status, _ = posted(self.urls[0], "/webhooks/azure-devops", HOOK_HEADERS, b'{"eventType": "git.push"}')

    def _unsettled(self, until: float) -> list[str]:
        wrong = ["nothing was looked at"]
        told_at = time.monotonic()
        while wrong and time.monotonic() < until:
            with suppress(psycopg.Error):
                wrong = unsettled(self.conninfo, self.people.teams)
            if wrong and time.monotonic() - told_at > _TELL_SECONDS:
                told_at = time.monotonic()
                print(f"  {len(wrong)} branches are not as they have to be yet; {wrong[0]}", flush=True)
            time.sleep(0.2)
        return wrong

    # -- The readers

    @contextmanager
    def _reading(self) -> Iterator[None]:
        words = [str(self.ledger.path), str(self.options.readers), f"{self.options.seed} readers", *self.urls]
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak.readers", *words],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            listener = Thread(target=self._listen, args=(process.stdout,))
            listener.start()
            try:
                yield
            finally:
                assert process.stdin is not None
                process.stdin.close()
                listener.join()
        if process.returncode or not self.reads:
            self.violation(f"the readers ended with {process.returncode}")

    def _listen(self, lines: Iterator[str]) -> None:
        for line in lines:
            told = json.loads(line)
            if "violation" in told:
                self.violation(f"read: {told['violation']}")
            else:
                self.reads.update(told["counts"])
