"""What every answer to a reader must fulfil, whatever goes on meanwhile.

An answer names its commit and its generation. Its body must be exactly that commit's set, the generation never goes
back, an ETag never stands for two bodies, and a branch that is there is never empty.
"""

import json
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping
from hashlib import blake2b
from threading import Lock
from typing import Any, NamedTuple

from benchmarks.soak.ledger import Commit, Known, Place

_KEPT = 20_000
"""ETags whose bodies are remembered, the latest."""


class Answer(NamedTuple):
    """`body` is without its compression; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Held(NamedTuple):
    """What a client kept: the ETag, and what it stood for."""

    etag: str
    meaning: str


class Before(NamedTuple):
    """What was known of a place when a request began."""

    generation: int
    etag: int
    commit: int
    edits: int


class Violation(Exception):
    """An answer that must not be; the message says why."""


class Edited(Exception):
    """Rows were changed by hand meanwhile: the answer proves nothing."""


class Checker:
    """Shared by the threads of one process. `lasting` are the branches that are never deleted."""

    def __init__(self, known: Known, lasting: Collection[str]) -> None:
        self._known = known
        self._lasting = lasting
        self._lock = Lock()
        self._generations: dict[Place, int] = defaultdict(int)
        self._etags: dict[tuple[Place, str], int] = defaultdict(int)
        self._commits: dict[Place, int] = defaultdict(int)
        self._bodies: OrderedDict[tuple[Place, str, str], bytes] = OrderedDict()

    def before(self, place: Place, path: str = "") -> Before:
        self._known.catch_up()
        with self._lock:
            etag = self._etags[place, path]
            return Before(self._generations[place], etag, self._commits[place], self._known.edits[place])

    def list(self, place: Place, before: Before, answer: Answer, held: Held | None = None) -> Held | None:
        """Raises `Violation` and `Edited`. Returns what a client now holds; None of an answer without a set."""
        commit = self._commit(place, before, answer)
        if commit is None:
            return None
        if answer.status == 304:
            return self._still(held, answer, commit.files)
        _same(_numbers(json.loads(answer.body)), commit)
        return self._kept(place, "", before, answer, commit.files)

    def pages(self, place: Place, before: Before, pages: Collection[Answer]) -> None:
        """All pages of one set, which were answered one after another."""
        commits = {page.headers.get("x-commit-id"): self._commit(place, before, page) for page in pages}
        generations = {page.headers["x-generation"] for page in pages}
        items = [item for page in pages for item in json.loads(page.body)]
        if len(generations) > 1:
            raise Violation(f"pages of the generations {sorted(generations)}")
        # The commit may move while the content stays; then each of them has this very set.
        for commit in commits.values():
            assert commit is not None
            _same(_numbers(items), commit)

    def item(
        self, place: Place, path: str, before: Before, answer: Answer, held: Held | None = None, *, is_always: bool
    ) -> Held | None:
        """`is_always` says that every commit has this path."""
        if answer.status == 404 and b"config-not-found" in answer.body:
            self._unedited(place, before)
            if is_always:
                raise Violation("a config that every commit has is not found")
            return None
        commit = self._commit(place, before, answer)
        if commit is None:
            return None
        number = json.loads(commit.files).get(path)
        if answer.status == 304:
            return self._still(held, answer, str(number))
        told = _number(json.loads(answer.body))
        if told != number:
            raise Violation(f"{path} is of commit {told}, and in {_named(answer)} it is of {number}")
        return self._kept(place, path, before, answer, str(number))

    # -- Each answer

    def _commit(self, place: Place, before: Before, answer: Answer) -> Commit | None:
        """The commit that the answer names, which must be one of this branch; None when there is none to name."""
        self._unedited(place, before)
        if answer.status == 503:
            return None
        if answer.status == 404:
            self._may_be_gone(place, before)
            return None
        if answer.status not in (200, 304):
            raise Violation(f"answered {answer.status}: {answer.body[:300]!r}")
        commit_id, generation = answer.headers["x-commit-id"], int(answer.headers["x-generation"])
        commit = self._known.commits.get(commit_id)
        if commit is None or commit_id not in self._known.pushed[place]:
            raise Violation(f"{commit_id} was never pushed to this branch")
        if not commit.is_valid:
            raise Violation(f"{commit_id} is not valid, and served")
        if generation < before.generation:
            raise Violation(f"generation {generation} after {before.generation}")
        with self._lock:
            self._generations[place] = max(self._generations[place], generation)
            self._commits[place] = max(self._commits[place], commit.number)
        return commit

    def _unedited(self, place: Place, before: Before) -> None:
        self._known.catch_up()
        if before.edits % 2 or self._known.edits[place] != before.edits:
            raise Edited

    def _may_be_gone(self, place: Place, before: Before) -> None:
        """A branch is not found before anything of it was served, and after it was deleted. A source that answers what
        was true before may tell of a deletion late."""
        since = 0 if place[1] in self._lasting else max(self._known.gone[place], self._known.stale)
        if before.commit > since:
            raise Violation(f"not found, although it was served, as of push {before.commit}, and not deleted since")

    def _kept(self, place: Place, path: str, before: Before, answer: Answer, meaning: str) -> Held:
        """Remember the body that this ETag stands for, and that ETags only grow."""
        etag = answer.headers["etag"]
        number = int(etag.strip('"').removesuffix("-gzip"))
        digest = blake2b(answer.body, digest_size=12).digest()
        with self._lock:
            known = self._bodies.setdefault((place, path, etag), digest)
            if len(self._bodies) > _KEPT:
                self._bodies.popitem(last=False)
            self._etags[place, path] = max(self._etags[place, path], number)
        if known != digest:
            raise Violation(f"two bodies under the ETag {etag}")
        if number < before.etag:
            raise Violation(f"the ETag {etag} after {before.etag}")
        return Held(etag, meaning)

    def _still(self, held: Held | None, answer: Answer, meaning: str) -> Held:
        if held is None:
            raise Violation("304 to a request without a condition")
        if answer.headers.get("etag") != held.etag:
            raise Violation(f"304 with {answer.headers.get('etag')} to a client that holds {held.etag}")
        if held.meaning != meaning:
            raise Violation(f"304 for {held.meaning}, and {_named(answer)} has {meaning}")
        return held


def _named(answer: Answer) -> str:
    return f"{answer.headers['x-commit-id'][:8]} (generation {answer.headers['x-generation']})"


def _numbers(items: list[dict[str, Any]]) -> dict[str, int]:
    found = {item["filepath"]: _number(item["config"]) for item in items}
    if len(found) < len(items):
        raise Violation("a path is listed twice")
    return found


def _number(config: dict[str, Any]) -> int:
    return int(config["workflow"]["id"].removeprefix("workflow-"))


def _same(found: Mapping[str, int], commit: Commit) -> None:
    wanted = json.loads(commit.files)
    if found != wanted:
        differing = {path for path, _ in found.items() ^ wanted.items()}
        told = {path: (found.get(path), wanted.get(path)) for path in sorted(differing)[:4]}
        raise Violation(f"not the set of its commit (push {commit.number}); served and committed: {told}")
