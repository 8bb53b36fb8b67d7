"""Teams and their pushes: what they do to their repositories, and that their Git host announces it."""

import base64
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import NamedTuple

from emulators.azure_devops import Emulator, HostedRepository

from benchmarks.soak.ledger import Ledger, Place
from benchmarks.soak.network import Network
from benchmarks.soak.objects import Objects
from benchmarks.soak.words import ABSENT, ALWAYS, BRANCHES, HOOK_SECRET, LASTING

_TEXT = """\
workflow:
  id: workflow-{number}
  description: {padding}
  enabled: true
  jobs: []
"""
_INVALID = (b"workflow:\n  id: x\n  enabled: true\n", b"workflow: [unclosed\n")
_KEPT = 20
"""Earlier commits of a branch that people go back to."""
_MOST_FILES = 12
_WEIGHTS = {
    "change": 50,
    "add": 9,
    "remove": 6,
    "rename": 6,
    "readme": 4,
    "invalid": 9,
    "revert": 6,
    "force": 5,
    "delete": 5,
}
HOOK_HEADERS = {
    "Authorization": "Basic " + base64.b64encode(f"azure-devops:{HOOK_SECRET}".encode()).decode(),
    "Content-Type": "application/json",
}


class Snapshot(NamedTuple):
    """One commit: `files` holds the number in each runtime config, `blobs` the id of every file."""

    commit: str
    files: Mapping[str, int]
    blobs: Mapping[str, str]
    is_valid: bool


@dataclass
class Team:
    """One repository. `hosted` is None when it is read with Git."""

    repo_id: str
    name: str
    objects: Objects
    hosted: HostedRepository | None
    heads: dict[str, Snapshot | None] = field(default_factory=lambda: dict.fromkeys(BRANCHES))
    history: dict[str, deque[Snapshot]] = field(default_factory=lambda: {one: deque(maxlen=_KEPT) for one in BRANCHES})
    accepted: dict[str, set[str]] = field(default_factory=lambda: {one: set() for one in BRANCHES})
    """The valid commits that were ever pushed, by branch."""
    moved: list[dict[str, str]] = field(default_factory=list)
    """What the next announcement tells: entries of `refUpdates`."""
    pushes: int = 0

    @property
    def next_push(self) -> int:
        return self.hosted.first_push + len(self.hosted.pushes) if self.hosted else self.pushes + 1


class Push(NamedTuple):
    """One branch of a push; `commit` is None when it was deleted. `push_id` is the Git host's, `number` ours."""

    number: int
    place: Place
    commit: str | None
    push_id: int


class People:
    """`pushing` is told of each branch just before it moves. One thread pushes."""

    def __init__(self, emulator: Emulator, network: Network, ledger: Ledger, seed: str) -> None:
        self.teams: list[Team] = []
        self.kinds: Counter[str] = Counter()
        self.pushing: Callable[[Push], object] = lambda push: None
        self._emulator = emulator
        self._network = network
        self._ledger = ledger
        self._random = random.Random(seed)
        self._serial = 0
        self._senders = ThreadPoolExecutor(4, "local-hooks")
        self._sent: deque[Future[int]] = deque(maxlen=500)

    def close(self) -> None:
        self._senders.shutdown()

    def found(self, team: Team) -> None:
        """The first pushes of a repository: its lasting branches, and one more change of each."""
        self.teams.append(team)
        for branch in LASTING:
            self._move(team, branch, self._written(team, None, {ALWAYS: self._new(), "a/first_runtime.yaml": 0}))
        self._announce(team)
        for branch in LASTING:
            self._move(team, branch, self._changed(team, branch, "add"))
        self._announce(team)

    def push(self) -> None:
        """One push of somebody, of one branch or, now and then, of two."""
        team = self._random.choice(self.teams)
        count = 2 if self._random.random() < 0.03 else 1
        if sum([self._touch(team, branch) for branch in self._random.sample(BRANCHES, count)]):
            self._announce(team)

    def settle(self) -> None:
        """Wait until every delivery of a local repository was sent."""
        wait(self._sent)

    # -- One branch

    def _touch(self, team: Team, branch: str) -> bool:
        """Whether something moved."""
        head, main = team.heads[branch], team.heads["main"]
        kind = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if head is None:
            kind = "create"
            assert main is not None
            # The same commit may be the head of two branches.
            snapshot = main if self._random.random() < 0.5 else self._changed(team, "main", "change")
        elif kind == "delete":
            if branch in LASTING:
                return self._touch(team, branch)
            self._move(team, branch, None)
            self.kinds[kind] += 1
            return True
        elif kind == "force":
            snapshot = self._random.choice(team.history[branch])
            if self._random.random() < 0.5:
                # Another history from there on, instead of that very commit.
                snapshot = self._written(team, snapshot, {**snapshot.files, ALWAYS: self._new()})
            if snapshot.commit == head.commit:
                return False
        else:
            snapshot = self._changed(team, branch, kind)
        self._move(team, branch, snapshot)
        self.kinds[kind] += 1
        return True

    def _changed(self, team: Team, branch: str, kind: str) -> Snapshot:
        head = team.heads[branch]
        good = [one for one in team.history[branch] if one.is_valid]
        base = good[-1] if good else head
        assert base is not None
        files = dict(base.files)
        others = [path for path in files if path != ALWAYS]
        if kind == "add" and len(files) < _MOST_FILES:
            files[self._path()] = self._new()
        elif kind == "remove" and others:
            del files[self._random.choice(others)]
        elif kind == "rename" and others:
            files[self._path()] = files.pop(self._random.choice(others))
        elif kind == "revert":
            files = dict(self._random.choice(good or [base]).files)
        elif kind == "invalid":
            return self._written(team, head, files, broken=self._random.choice(list(files)))
        elif kind != "readme":
            for path in self._random.sample(list(files), min(len(files), self._random.randint(1, 3))):
                files[path] = self._new()
        return self._written(team, head, files)

    def _written(
        self, team: Team, parent: Snapshot | None, files: Mapping[str, int], *, broken: str | None = None
    ) -> Snapshot:
        """A commit of these files, one of which is `broken`."""
        number = self._new()
        blobs = {path: team.objects.blob(_content(which)) for path, which in files.items()}
        blobs["README.md"] = team.objects.blob(f"Push {number}\n".encode())
        if broken is not None:
            blobs[broken] = team.objects.blob(self._random.choice(_INVALID))
        commit = team.objects.commit(blobs, parent.commit if parent else None, number)
        return Snapshot(commit, files, blobs, broken is None)

    def _move(self, team: Team, branch: str, snapshot: Snapshot | None) -> None:
        place = (team.repo_id, branch)
        if snapshot is None:
            number = self._ledger.gone(place)
        else:
            number = self._ledger.pushed(place, snapshot.commit, snapshot.files, is_valid=snapshot.is_valid)
            team.history[branch].append(snapshot)
            if snapshot.is_valid:
                team.accepted[branch].add(snapshot.commit)
        self.pushing(Push(number, place, snapshot and snapshot.commit, team.next_push))
        old, new = (one.commit if one else ABSENT for one in (team.heads[branch], snapshot))
        team.moved.append({"name": f"refs/heads/{branch}", "oldObjectId": old, "newObjectId": new})
        team.objects.set_head(branch, snapshot and snapshot.commit)
        team.heads[branch] = snapshot

    def _new(self) -> int:
        self._serial += 1
        return self._serial

    def _path(self) -> str:
        return f"{self._random.choice('abcde')}/{self._random.choice('xyz')}/{self._new()}_runtime.yaml"

    # -- What the Git host tells

    def _announce(self, team: Team) -> None:
        updates, team.moved = team.moved, []
        if team.hosted:
            self._emulator.pushed(team.hosted)
            return
        team.pushes += 1
        # Git itself tells nobody: this is what a hook of a plain Git server may send.
        resource = {
            "repository": {"id": team.repo_id, "name": team.name},
            "refUpdates": updates,
            "pushId": team.pushes,
            "url": f"http://127.0.0.1/soak/_apis/git/repositories/{team.repo_id}/pushes/{team.pushes}",
        }
        body = json.dumps({"eventType": "git.push", "resource": resource}).encode()
        self._sent.append(self._senders.submit(self._network.deliver, HOOK_HEADERS, body))


def _content(number: int) -> bytes:
    return _TEXT.format(number=number, padding="x" * (40 + number % 300)).encode()
