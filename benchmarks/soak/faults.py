"""What goes wrong: one fault after another, of every kind in turn, by chance in their order and length."""

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from threading import Lock
from typing import Any
from urllib.parse import quote

import psycopg
from emulators.azure_devops import Emulator, Fault

from benchmarks.soak.background import Background
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.network import posted
from benchmarks.soak.people import Team
from benchmarks.soak.services import ADMIN, Postgres, Server, Timer
from benchmarks.soak.watching import Watch

_HEAL_SECONDS = 120.0
_API = ("refs", "commit", "tree", "blobs", "repository", "push")
_EXPIRE = "UPDATE branches SET lease_until = clock_timestamp() - interval '1 second' WHERE lease_id IS NOT NULL"
_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> %s"
)
_DEEP = """
SELECT FROM branches WHERE repo_id = %(repo)s AND branch = %(branch)s
    AND NOT deep_requested AND deep_synced_at > to_timestamp(%(since)s)
"""
_EDITS = (
    """UPDATE runtime_configs SET config = jsonb_set(config, '{workflow,id}', '"workflow-999999999"')
    WHERE repo_id = %(repo)s AND branch = %(branch)s""",
    "DELETE FROM runtime_configs WHERE repo_id = %(repo)s AND branch = %(branch)s",
    """INSERT INTO runtime_configs (repo_id, branch, filepath, config, blob_id, ruleset, generation, digest)
    SELECT repo_id, branch, 'intruder_runtime.yaml', config, blob_id, ruleset, generation, digest FROM runtime_configs
    WHERE repo_id = %(repo)s AND branch = %(branch)s LIMIT 1 ON CONFLICT DO NOTHING""",
)


@dataclass
class Surroundings:
    """What faults can reach."""

    conninfo: str
    emulator: Emulator
    servers: tuple[Server, Server]
    postgres: Postgres
    timer: Timer
    ledger: Ledger
    watch: Watch
    teams: list[Team]
    violation: Callable[[str], object]


class Faults(Background):
    """Begins a fault every `gap` seconds or so, while it runs and is not paused; after one of each kind there is
    calm of `calm` seconds, so that pushes without faults are measured too. `counts` are by kind."""

    def __init__(self, around: Surroundings, seed: str, *, gap: float, calm: float, only: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._around = around
        self._random = random.Random(seed)
        self._gap = gap
        self._calm = calm
        self._at_it = Lock()
        self._kinds = {kind: happen for kind, happen in self._all().items() if re.search(only, kind)}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, nothing is made to go wrong; a fault that was under way has ended."""
        with self._at_it:
            yield

    def _run(self) -> None:
        while self._kinds and not self._ending.wait(self._calm):
            deck = list(self._kinds)
            self._random.shuffle(deck)
            for kind in deck:
                if self._ending.wait(self._random.uniform(0.5, 1.5) * self._gap):
                    return
                with self._at_it, self._around.watch.trouble():
                    self.counts[kind] += 1
                    try:
                        self._kinds[kind]()
                    except psycopg.Error as error:
                        # Of a fault, since nothing else makes the database fail meanwhile.
                        self._around.violation(f"the fault {kind!r} broke: {error}")
            while self._around.watch.is_troubled and not self._ending.wait(1):
                continue

    def _all(self) -> Mapping[str, Callable[[], None]]:
        source: Mapping[str, tuple[Fault, Mapping[str, Any]]] = {
            "source refuses (401)": (Fault.UNAUTHORIZED, {}),
            "source shows a sign-in page": (Fault.SIGN_IN, {}),
            "source throttles (429)": (Fault.THROTTLED, {"retry_after": 2}),
            "source wishes less (Retry-After)": (Fault.SLOW_DOWN, {"retry_after": 1}),
            "source fails (500)": (Fault.ERROR, {"status": 500}),
            "source fails (503)": (Fault.ERROR, {"status": 503}),
            "source answers a page": (Fault.HTML, {}),
            "source cuts answers": (Fault.CUT, {}),
            "source halves bodies": (Fault.CUT, {"framed": True}),
            "source resets connections": (Fault.RESET, {}),
            "source hangs": (Fault.HANG, {}),
            "source is slow": (Fault.SLOW, {"seconds": 2}),
        }
        faulty = {name: partial(self._misbehave, *how, _API) for name, how in source.items()}
        return {
            **faulty,
            "source is stale": self._stale,
            "source lists in part": partial(self._misbehave, Fault.PARTIAL, {}, ("tree", "blobs")),
            "source alters bytes": partial(self._misbehave, Fault.WRONG_BYTES, {}, ("blobs",)),
            "repository not found (404)": self._not_found,
            "repository disabled": self._disabled,
            "repository renamed": self._renamed,
            "local repository missing": self._missing,
            "server killed": self._killed,
            "server frozen, its leases expired": self._frozen,
            "leases expired": partial(self._execute, _EXPIRE),
            "PostgreSQL restarted": partial(self._restarted, signal.SIGINT),
            "PostgreSQL crashed": partial(self._restarted, getattr(signal, "SIGQUIT", signal.SIGTERM)),
            "connections terminated": self._terminated,
            "sweeps stopped": self._unswept,
            "rows edited by hand": self._edited,
        }

    # -- The source

    def _misbehave(self, fault: Fault, details: Mapping[str, Any], routes: tuple[str, ...]) -> None:
        self._around.emulator.misbehave(fault, route=routes, **details)
        self._last(1, 4)
        self._around.emulator.behave()

    def _stale(self) -> None:
        self._around.emulator.misbehave(Fault.STALE, route="refs")
        # What is answered late tells of the time before as well, so that it is noted at both ends.
        self._around.ledger.stale()
        self._last(1, 4)
        self._around.emulator.behave()
        self._around.ledger.stale()

    def _not_found(self) -> None:
        self._around.emulator.misbehave(Fault.NOT_FOUND, repository=self._team(is_hosted=True).hosted)
        self._last(2, 5)
        self._around.emulator.behave()

    def _disabled(self) -> None:
        hosted = self._team(is_hosted=True).hosted
        assert hosted is not None
        self._around.emulator.disable(hosted)
        self._last(2, 5)
        self._around.emulator.disable(hosted, is_disabled=False)

    def _renamed(self) -> None:
        hosted = self._team(is_hosted=True).hosted
        assert hosted is not None
        self._around.emulator.rename(hosted, f"{hosted.name.partition('-renamed')[0]}-renamed-{time.monotonic_ns()}")

    def _missing(self) -> None:
        team = self._team(is_hosted=False)
        # What people push meanwhile goes through the folder that stays.
        heads = team.objects.git_dir / "HEAD"
        away = heads.with_name("HEAD.away")
        heads.rename(away)
        self._last(2, 5)
        away.rename(heads)

    # -- The servers

    def _killed(self) -> None:
        server = self._random.choice(self._around.servers)
        server.kill()
        self._last(0, 2)
        server.start()

    def _frozen(self) -> None:
        """As a machine that stops for longer than a lease lasts: another takes over, and the first one goes on."""
        server = self._random.choice(self._around.servers)
        server.send(signal.SIGSTOP)
        try:
            self._execute(_EXPIRE)
            self._last(1, 3)
            self._execute(_EXPIRE)
        finally:
            server.send(signal.SIGCONT)

    def _unswept(self) -> None:
        self._around.timer.is_stopped = True
        self._last(5, 12)
        self._around.timer.is_stopped = False

    # -- The database

    def _restarted(self, number: signal.Signals) -> None:
        self._around.postgres.restart(number)

    def _terminated(self) -> None:
        for _ in range(self._random.randint(1, 5)):
            with psycopg.connect(self._around.conninfo, autocommit=True) as connection:
                connection.execute(_TERMINATE, (connection.info.backend_pid,))
            self._last(0, 0.3)

    def _edited(self) -> None:
        team = self._team(is_hosted=None)
        branch = self._random.choice([branch for branch, head in team.heads.items() if head])
        place = (team.repo_id, branch)
        self._around.ledger.edited(place)
        self._execute(self._random.choice(_EDITS), {"repo": team.repo_id, "branch": branch})
        healed_by = time.time() + _HEAL_SECONDS
        since = time.time()
        while not self._is_healed(team.repo_id, branch, since):
            if time.time() > healed_by:
                self._around.violation(f"rows of {team.name} {branch} that were edited by hand are not healed")
                return
            time.sleep(0.2)
        self._around.ledger.healed(place)

    def _is_healed(self, repo_id: str, branch: str, since: float) -> bool:
        """Ask for a deep sync, and see whether one has ended."""
        url = self._random.choice(self._around.servers).url
        with suppress(OSError, HTTPException):
            posted(url, f"/repositories/{repo_id}/sync?branch={quote(branch, safe='')}&deep=true", ADMIN)
        with psycopg.connect(self._around.conninfo, autocommit=True) as connection:
            found = connection.execute(_DEEP, {"repo": repo_id, "branch": branch, "since": since}).fetchone()
        return found is not None

    # -- What they share

    def _execute(self, statement: str, parameters: Mapping[str, object] | None = None) -> None:
        with psycopg.connect(self._around.conninfo, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters)

    def _team(self, *, is_hosted: bool | None) -> Team:
        return self._random.choice(
            [team for team in self._around.teams if is_hosted in (None, team.hosted is not None)]
        )

    def _last(self, least: float, most: float) -> None:
        self._ending.wait(self._random.uniform(least, most))
