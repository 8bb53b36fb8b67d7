"""Processes with an app of their own each, as the Functions host starts them: what one of them does at full speed.

Each commit of `prepared` has a number, which all of its files carry, and a number of files that follows from it: a set
that is not whole, or not of one commit, shows.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from support.git import GitRepository, environment
from support.web import ADMIN_KEY, HOOK_KEY, READER_KEY, bearer
from support.world import workflow
from werkzeug.test import Client, TestResponse

from shared import bootstrap
from shared.model import BranchName, CommitId, RepoId

_T = TypeVar("_T")

REPO = "278d5cd2-584d-4b63-824a-2ba458937249"
SHARED = "main"
COMMITS = 40
PAGE = 7


def count(number: int) -> int:
    """How many files the commit of this number has."""
    return 12 + 5 * (number % 4)


def files(number: int) -> dict[str, bytes]:
    # Paths come and go from commit to commit, and others stay.
    return {
        f"{'even' if number % 2 and index % 3 else 'all'}/job-{index:02}-runtime.yaml": workflow(number)
        for index in range(count(number))
    }


def prepared(path: Path) -> dict[CommitId, int]:
    """The repository with its commits, each with its number."""
    git = GitRepository(path)
    # Who pushes to a branch that another pushes to waits for its turn, however long that takes.
    git.git("config", "core.filesRefLockTimeout", "-1")
    commits = {git.commit(files(number), branch="made", onto=""): number for number in range(COMMITS)}
    for commit, number in commits.items():
        git.tag(f"commit-{number}", commit)
    git.delete("made")
    return commits


@dataclass
class Seen:
    """What a reader saw: the commit of each generation, and how often what was answered."""

    commits: dict[tuple[str, int], str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Worker:
    """What one process does."""

    def __init__(self, conninfo: str, folder: Path, commits: Mapping[CommitId, int], stop: Event) -> None:
        self.commits = dict(commits)
        self.numbers = {str(commit): number for commit, number in commits.items()}
        self.stop = stop
        self.git = GitRepository(folder)
        self.app = bootstrap.build(
            {
                **environment(),
                "DATABASE_URL": conninfo,
                "BRANCHES": SHARED,
                "WEBHOOK_SECRET": HOOK_KEY,
                "ADMIN_KEY": ADMIN_KEY,
                "READER_KEYS": f"etl={READER_KEY}",
                "LOG_LEVEL": "ERROR",
                "RECONCILE_WORKERS": "2",
                # Far above what it takes: other tests run meanwhile.
                "WEBHOOK_BUDGET_SECONDS": "60",
            }
        )
        self.client = Client(self.app.wsgi)

    # -- Syncing -----------------------------------------------------------------------------------------------------

    def sync(self, who: int, pushes: int) -> Counter[str]:
        """Push, and have it synced, again and again: by delivery, by hand, by the timer. Returns what was answered."""
        random, own = Random(who), f"own-{who}"
        answers: Counter[str] = Counter()
        for _ in range(pushes):
            names = self._push(random, random.choice([(SHARED,), (SHARED,), (SHARED, own), (own, SHARED), (own,)]))
            how = random.randrange(6)
            if how == 0:
                self.app.queue.ask(RepoId(REPO), [BranchName(name) for name in names])
                answers += self.sweep()
                continue
            if how == 1:
                answers += self._told(self._post(f"/repositories/{REPO}/sync?branch={names[0]}", ADMIN_KEY, {}))
            answers += self._told(self._deliver(names))
        return answers

    def push_once(self, who: int, turn: int) -> Counter[str]:
        """Push and deliver, with nothing that comes after it."""
        own = f"own-{who}"
        names = (SHARED, own) if (who + turn) % 2 else (own, SHARED)
        return self._told(self._deliver(self._push(Random(100 * turn + who), names)))

    def sweep(self) -> Counter[str]:
        return Counter(self.app.sweep().outcomes)

    def _push(self, random: Random, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            self.git.set_head(name, random.choice(list(self.commits)))
        return names

    def _deliver(self, names: tuple[str, ...]) -> TestResponse:
        push = {"refUpdates": [{"name": f"refs/heads/{name}"} for name in names], "repository": {"id": REPO}}
        return self._post("/webhooks/azure-devops", HOOK_KEY, {"eventType": "git.push", "resource": push})

    def _post(self, path: str, key: str, body: object) -> TestResponse:
        return self.client.post(path, headers=bearer(key), json=body)

    def _told(self, answer: TestResponse) -> Counter[str]:
        """Outcomes by name, and why one is none; the whole answer where it is no list of them."""
        if answer.status_code not in (200, 202):
            return Counter([answer.text])
        assert answer.json is not None
        return Counter(f"{one['outcome']} {one.get('reason', '')}".strip() for one in answer.json["branches"])

    # -- Reading -----------------------------------------------------------------------------------------------------

    def read(self, branch: str) -> Seen:
        """The whole list, again and again."""
        seen = Seen()
        for _ in self._until_the_end():
            self._judge(seen, branch, *self._get(f"/runtimes/{REPO}/{branch}"))
            seen.answers["lists"] += 1
        return seen

    def walk(self, branch: str) -> Seen:
        """From the first page to the last, again and again."""
        seen = Seen()
        for _ in self._until_the_end():
            seen.answers[self._walked(seen, branch)] += 1
        return seen

    def _until_the_end(self) -> Iterator[None]:
        """And once more, when nothing moves any more."""
        while not self.stop.is_set():
            yield
        yield

    def _walked(self, seen: Seen, branch: str) -> str:
        path, found = f"/runtimes/{REPO}/{branch}?limit={PAGE}", []
        while True:
            answer, items = self._get(path)
            if answer.status_code == 410:
                return "broken off"
            found += items
            onward = re.fullmatch('<(.+)>; rel="next"', answer.headers.get("Link", ""))
            if onward is None:
                self._judge(seen, branch, answer, found)
                return "walks"
            path = onward[1]

    def _get(self, path: str) -> tuple[TestResponse, list[Any]]:
        answer = self.client.get(path, headers=bearer(READER_KEY))
        return answer, json.loads(answer.data) if answer.status_code == 200 else []

    def _judge(self, seen: Seen, branch: str, answer: TestResponse, items: list[Any]) -> None:
        """Is it all of one commit, the one that the answer names, and the same one whenever this generation is read?"""
        if answer.status_code != 200:
            seen.wrong.append(f"{answer.status_code}: {answer.text}")
            return
        commit, generation = answer.headers["X-Commit-Id"], int(answer.headers["X-Generation"])
        number = self.numbers[commit]
        wanted = dict.fromkeys(files(number), f"workflow-{number}")
        found = {item["filepath"]: item["config"]["workflow"]["id"] for item in items}
        if found != wanted or len(items) != len(wanted):
            seen.wrong.append(f"number {number}, generation {generation}: {sorted(found.items())}")
        if seen.commits.setdefault((branch, generation), commit) != commit:
            seen.wrong.append(f"generation {generation} is {commit}, and was {seen.commits[branch, generation]}")


_worker: Worker
"""Of this process."""


def _start(*arguments: Any) -> None:
    global _worker
    _worker = Worker(*arguments)


def _do(method: Callable[..., _T], *arguments: Any) -> _T:
    return method(_worker, *arguments)


class Team:
    """So many processes; what is started runs in the next one that is free."""

    def __init__(self, executor: ProcessPoolExecutor, stop: Event) -> None:
        self._executor = executor
        self._stop = stop

    def start(self, method: Callable[..., _T], *arguments: Any) -> "Future[_T]":
        """A method of `Worker`."""
        return self._executor.submit(_do, method, *arguments)

    def at_once(self, method: Callable[..., _T], *arguments: tuple[Any, ...]) -> list[_T]:
        """What each returned, started together with these arguments."""
        running = [self.start(method, *each) for each in arguments]
        return [one.result() for one in running]

    def stop_reading(self) -> None:
        self._stop.set()


@contextmanager
def team(size: int, conninfo: str, folder: Path, commits: Mapping[CommitId, int]) -> Iterator[Team]:
    """Ended, with its connections, at the end of the block."""
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(size, context, _start, (conninfo, folder, dict(commits), stop)) as executor:
        try:
            yield Team(executor, stop)
        finally:
            stop.set()
