"""A Git repository of ready-made commits, and a plain model of what must be served of it.

The commits are made once, so that a push in a test only moves a branch, in the real Git. The model knows the files of
each commit, what was registered when a sync ended, and where each branch has been; how a sync works it does not know.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from fnmatch import fnmatchcase
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from support.git import File, GitRepository
from support.world import INVALID, NOT_YAML, Watched, World, workflow
from werkzeug.test import Client

from shared.errors import CommitMissing, RepositoryRefused, SourceFailed, SourceRefused, SourceThrottled
from shared.model import ABSENT, BranchName, BranchStatus, CommitId, Registration, RepoId, Validation
from shared.postgres.pool import Pool
from shared.postgres.queue import PostgresQueue
from shared.rules import Rules
from shared.web.services import Limits

MAX_BYTES = 400
"""Of one file, under the stricter of the two rules that the app is switched between."""
PATTERNS = ("*runtime*.yaml", "*_job.yaml")
ROOTS = ("", "etl")

ERRORS: Mapping[str, Callable[[], BaseException]] = {
    "fails": lambda: SourceFailed("The host broke."),
    "refuses": lambda: SourceRefused("The token has expired."),
    "throttles": lambda: SourceThrottled("Too often.", retry_after=timedelta(minutes=5)),
    "hides the repository": lambda: RepositoryRefused("There is no such repository."),
    "lacks the commit": lambda: CommitMissing("The repository has no such commit."),
}
"""How Git fails."""

Key: TypeAlias = tuple[RepoId, BranchName]


class Fit(Enum):
    """When a commit with this file is accepted, if the file is looked at."""

    GOOD = "always"
    NO_WORKFLOW = "where findings of the schema do not reject"
    LARGE = "where the limits are not the strict ones"
    BROKEN = "never"


class Content(NamedTuple):
    data: bytes
    fit: Fit = Fit.GOOD

    @property
    def text(self) -> str:
        """Its JSON, in which 1 is not 1.0."""
        return canonical(json.loads(self.data))

    @property
    def blob_id(self) -> str:
        return sha1(b"blob %d\0" % len(self.data) + self.data, usedforsecurity=False).hexdigest()


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _good(number: int) -> Content:
    return Content(workflow(number))


A, B, C, D = "a_runtime.yaml", "b_runtime.yaml", "etl/c_runtime.yaml", "etl/d_job.yaml"
_LARGE = Content(workflow(90, description="x" * MAX_BYTES), Fit.LARGE)
_INVALID = Content(INVALID, Fit.NO_WORKFLOW)
_BROKEN = Content(NOT_YAML, Fit.BROKEN)
_FULL = {A: _good(2), B: _good(3), C: _good(4), D: _good(5)}
_COMMITS: Sequence[Mapping[str, Content]] = (
    {A: _good(1), C: _good(1)},
    _FULL,
    {**_FULL, "README.md": Content(b"# Jobs\n")},
    {A: _good(1), C: _good(1)},
    {**_FULL, A: _good(6), "e_runtime.yaml": _good(1)},
    {"z_runtime.yaml": _good(1), C: _good(7), D: _good(7)},
    {"README.md": Content(b"# No jobs yet\n")},
    {**_FULL, A: _INVALID},
    {**_FULL, C: _BROKEN},
    {**_FULL, D: _BROKEN},
    {**_FULL, B: _LARGE},
    {A: Content(b'{"n": 1}', Fit.NO_WORKFLOW), C: _good(8)},
    {A: Content(b'{"n": 1.0}', Fit.NO_WORKFLOW), C: _good(8)},
)


class Library:
    """The commits in one real repository, each of them with its files."""

    def __init__(self, path: Path) -> None:
        self.git = GitRepository(path)
        self.files: dict[CommitId, Mapping[str, Content]] = {}
        for number, files in enumerate(_COMMITS):
            commit = self.git.commit({path: File(one.data) for path, one in files.items()}, branch="made", onto="")
            # What no branch has is still there: a test's pushes bring it back.
            self.git.tag(f"commit-{number}", commit)
            self.files[commit] = files
        self.git.delete("made")
        self.commits = tuple(self.files)

    def selected(self, commit: CommitId, registration: Registration) -> dict[str, Content]:
        root = f"{registration.root}/" if registration.root else ""
        return {
            path: content
            for path, content in self.files[commit].items()
            if path.startswith(root) and fnmatchcase(path.rpartition("/")[2], registration.pattern)
        }

    def is_accepted(self, commit: CommitId, registration: Registration, *, strict: bool) -> bool:
        refused = {Fit.BROKEN}
        if registration.validation is Validation.ENFORCE:
            refused.add(Fit.NO_WORKFLOW)
        if strict:
            refused.add(Fit.LARGE)
        return not any(content.fit in refused for content in self.selected(commit, registration).values())


class Accepted(NamedTuple):
    """The last commit that was accepted, and the registration that chose its files."""

    commit: CommitId
    registration: Registration


class Ended(NamedTuple):
    """A row of the journal."""

    outcome: str
    commit: CommitId | None
    message: str
    started_at: datetime
    ended_at: datetime


@dataclass
class Read:
    """What a reader was answered about a branch; `items` is None when it serves nothing."""

    commit: str | None = None
    generation: int = 0
    items: Sequence[Mapping[str, Any]] | None = None


@dataclass
class Model:
    """What is registered, served and asked for by rights, and what was seen of it until now."""

    library: Library
    strict: set[bool] = field(default_factory=lambda: {False})
    """The rules that were in use so far: of new rules alone a webhook makes no new verdict."""
    registered: dict[RepoId, Registration] = field(default_factory=dict)
    served: dict[Key, Accepted] = field(default_factory=dict)
    heads: dict[BranchName, list[CommitId]] = field(default_factory=lambda: defaultdict(lambda: [ABSENT]))
    asked: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Of each request: which of `heads` the branch was at when it was made."""
    latest: dict[Key, int] = field(default_factory=dict)
    bodies: dict[tuple[Key, int], str] = field(default_factory=dict)
    contents: dict[tuple[Key, str, int], str] = field(default_factory=dict)
    ended_at: dict[Key, datetime] = field(default_factory=dict)

    # -- What happens ------------------------------------------------------------------------------------------------

    def note_requests(self, statuses: Sequence[BranchStatus]) -> None:
        """Those that are new were made since the branch last moved."""
        for status in statuses:
            asked = self.asked[status.repo_id, status.branch]
            now = len(self.heads[status.branch]) - 1
            asked.extend([now] * (status.requested - len(asked)))

    def move(self, branch: BranchName, head: CommitId) -> None:
        self.heads[branch].append(head)

    def register(self, repo_id: RepoId, registration: Registration) -> None:
        self.registered[repo_id] = registration
        for key in [key for key in self.served if key[0] == repo_id and key[1] not in registration.branches]:
            del self.served[key]

    def remove(self, repo_id: RepoId) -> None:
        del self.registered[repo_id]
        for kept in (self.served, self.asked):
            for key in [key for key in kept if key[0] == repo_id]:
                del kept[key]

    def end_sync(self, key: Key, ended: Ended) -> None:
        """A sync ended under what is registered now, and nobody else claimed its branch since it began."""
        outcome, commit = ended.outcome, ended.commit
        assert "defect" not in ended.message, f"a sync of {key} broke: {ended}"
        assert ended.started_at >= self.ended_at.get(key, ended.started_at), f"{ended} of {key} had lost its claim"
        self.ended_at[key] = ended.ended_at
        if outcome not in ("replaced", "unchanged", "rejected"):
            return
        assert commit is not None
        registration = self.registered[key[0]]
        verdicts = {commit == ABSENT or self._is_accepted(commit, registration, strict) for strict in self.strict}
        assert (outcome != "rejected") in verdicts, f"{commit} of {key} was {outcome}"
        if outcome == "rejected":
            return
        self.served.pop(key, None)
        if commit != ABSENT:
            self.served[key] = Accepted(commit, registration)

    def _is_accepted(self, commit: CommitId, registration: Registration, strict: bool) -> bool:
        return self.library.is_accepted(commit, registration, strict=strict)

    # -- What must hold ----------------------------------------------------------------------------------------------

    def check_status(self, status: BranchStatus) -> None:
        """What was finished was judged at a head that the branch had when it was asked for, or later."""
        key = (status.repo_id, status.branch)
        assert 0 <= status.finished <= status.requested, status
        if status.judged_commit is not None and status.finished:
            since = self.asked[key][status.finished - 1]
            heads = self.heads[status.branch]
            assert status.judged_commit in heads[since:], f"{key} was judged at an older head than asked for: {status}"
        self._check_generation(key, status.generation)

    def check_read(self, key: Key, read: Read) -> None:
        """Exactly the set of the last accepted commit, and each generation one body for ever."""
        accepted = self.served.get(key)
        if read.items is None or accepted is None:
            assert (read.items, accepted) == (None, None), f"{key} serves {read}, and should {accepted}"
            return
        assert read.commit == accepted.commit, f"{key} says {read.commit}, and accepted was {accepted}"
        wanted = self.library.selected(accepted.commit, accepted.registration)
        found = {item["filepath"]: (item["blob_id"], canonical(item["config"])) for item in read.items}
        assert len(found) == len(read.items)
        assert found == {path: (one.blob_id, one.text) for path, one in wanted.items()}, f"{key} at {accepted}"
        self._check_generation(key, read.generation)
        body = self.bodies.setdefault((key, read.generation), canonical(read.items))
        assert body == canonical(read.items), f"generation {read.generation} of {key} has two bodies"
        for item in read.items:
            at = (key, item["filepath"], item["generation"])
            text = canonical(item["config"])
            assert self.contents.setdefault(at, text) == text, f"{at} changed"

    def check_quiet(self, status: BranchStatus, *, strict: bool) -> None:
        """After a sweep with nothing in its way: what is served is the head, or the last good commit before it."""
        key = (status.repo_id, status.branch)
        head = self.heads[status.branch][-1]
        accepted = self.served.get(key)
        assert not status.is_waiting, f"something is left to do: {status}"
        assert status.judged_commit == head, f"the head is {head}: {status}"
        if head == ABSENT:
            assert accepted is None
            assert (status.condition, status.reason) == ("Ready", "BranchGone"), status
        elif self.library.is_accepted(head, self.registered[status.repo_id], strict=strict):
            assert accepted == (head, self.registered[status.repo_id]), f"the head is {head}: {accepted}, {status}"
            assert status.condition == "Ready", status
        else:
            assert status.condition == "Invalid", status

    def _check_generation(self, key: Key, generation: int) -> None:
        assert generation >= self.latest.get(key, 0), f"the generation of {key} went back to {generation}"
        self.latest[key] = generation


_SYNCS = """
    SELECT sync_id, repo_id, branch, outcome, commit_id, message, started_at, ended_at FROM syncs ORDER BY ended_at
"""
_STORED = """
    SELECT repo_id, branch, generation, commit_id, array(
        SELECT concat_ws(' ', filepath, c.generation, blob_id, config) FROM runtime_configs AS c
        WHERE c.repo_id = b.repo_id AND c.branch = b.branch ORDER BY filepath
    ) FROM branches AS b
"""


class Place(World):
    """A world in which no time passes but what a test lets pass, and one thread does everything."""

    workers = 1

    def __init__(self, pool: Pool, folder: Path, rules: Rules) -> None:
        super().__init__(pool, folder, rules=rules)
        self.queue = Watched(PostgresQueue(pool, lease=timedelta(hours=1), back_off=timedelta(hours=1)))
        self.use(rules)

    def client(self) -> Client:
        return Client(self.wsgi(Limits(webhook_files=3)))

    def syncs(self) -> list[Any]:
        """Every row of the journal: its id, its branch, and what `Ended` has of it."""
        return self._rows(_SYNCS)

    def marks(self) -> Mapping[Key, object]:
        """Of each branch all that decides what a reader is answered."""
        return {(repo_id, branch): mark for repo_id, branch, *mark in self._rows(_STORED)}

    def _rows(self, statement: Any) -> list[Any]:
        with self.pool.connection() as connection:
            found: list[Any] = connection.execute(statement).fetchall()
            return found
