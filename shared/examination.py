"""What a branch's set would become at one commit. Reads Git and judges; changes nothing.

Cost follows the change: only files whose blob id or ruleset differs from what is stored are fetched, and they are read
in chunks, so that neither time nor memory grows with what is already there.
"""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from shared.errors import SourceFailed
from shared.listing import Selection, prove
from shared.model import (
    ABSENT,
    BlobId,
    Change,
    CommitId,
    Deadline,
    FilePath,
    Finding,
    Judgement,
    Repository,
    Ruleset,
    RuntimeConfig,
    StoredId,
    TreeEntry,
    TreeId,
    Validation,
)
from shared.ports import GitSource
from shared.rules import Rules

CHUNK = 200
"""Files that are fetched at once."""
SECONDS_BETWEEN = 5.0
"""How long files are judged without a checkpoint."""

Checkpoint = Callable[[], None]
"""Called before each step that takes time; raises to stop the examination."""


@dataclass(frozen=True, slots=True)
class Examination:
    """The verdict on one commit, and the change that makes the stored set equal to it."""

    judgement: Judgement
    change: Change


class TooManyFiles(Exception):
    """More files must be fetched than this trigger may."""


@dataclass(slots=True)
class _Readings:
    """What the fetched files turned out to be."""

    configs: list[RuntimeConfig] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class Examiner:
    def __init__(self, git: GitSource, rules: Rules) -> None:
        self._git = git
        self._rules = rules

    def ruleset(self, repository: Repository) -> Ruleset:
        return self._rules.ruleset(repository.registration)

    def at_head(
        self,
        repository: Repository,
        head: CommitId,
        stored: Mapping[FilePath, StoredId],
        deadline: Deadline,
        checkpoint: Checkpoint,
        most_files: int | None = None,
    ) -> Examination:
        """Judge `head`. Files that are stored with this blob id under this ruleset stand as they are.

        Raises `TooManyFiles` before any download, what `checkpoint` raises, and the errors of `GitSource`.
        """
        ruleset = self.ruleset(repository)
        if head == ABSENT:
            return Examination(Judgement(ABSENT, None, ruleset, self._rules.report(())), Change(gone=tuple(stored)))
        tree_id, selection = self._listing(repository, head, deadline, checkpoint)
        fetch: list[TreeEntry] = []
        standing: list[Finding] = []
        for path, entry in selection.entries.items():
            known = stored.get(path)
            if known is not None and known.blob_id == entry.object_id and known.ruleset == ruleset:
                standing.extend(known.findings)
            else:
                fetch.append(entry)
        if most_files is not None and len(fetch) > most_files:
            raise TooManyFiles
        read = self._read(repository, head, fetch, deadline, checkpoint)
        report = self._rules.report([*selection.findings, *standing, *read.findings])
        gone = tuple(path for path in stored if path not in selection.entries)
        return Examination(Judgement(head, tree_id, ruleset, report), Change(tuple(read.configs), gone))

    def damage(
        self,
        repository: Repository,
        commit: CommitId | None,
        stored: Mapping[FilePath, StoredId],
        deadline: Deadline,
        checkpoint: Checkpoint,
        *,
        whole: bool = True,
    ) -> Change:
        """What makes the stored set equal to the commit that is served again. Judges nothing: it was accepted.

        Without `whole` the present rules are not those that chose its files: only rows that were altered are read
        again, under the findings that they have, and no path comes or goes.
        """
        if commit is None:
            return Change(gone=tuple(stored))
        if not whole:
            return self._altered(repository, commit, stored, deadline, checkpoint)
        _, selection = self._listing(repository, commit, deadline, checkpoint)
        fetch: list[TreeEntry] = []
        for path, entry in selection.entries.items():
            known = stored.get(path)
            if known is None or known.blob_id != entry.object_id or not known.is_intact:
                fetch.append(entry)
        read = self._read(repository, commit, fetch, deadline, checkpoint)
        return Change(tuple(read.configs), tuple(path for path in stored if path not in selection.entries))

    def _altered(
        self,
        repository: Repository,
        commit: CommitId,
        stored: Mapping[FilePath, StoredId],
        deadline: Deadline,
        checkpoint: Checkpoint,
    ) -> Change:
        checkpoint()
        tree = self._git.tree(repository, commit, deadline)
        prove(tree)
        altered = {path for path, known in stored.items() if not known.is_intact}
        read = self._read(
            repository, commit, [one for one in tree.entries if one.path in altered], deadline, checkpoint
        )
        return Change(tuple(replace(config, findings=stored[config.path].findings) for config in read.configs))

    def _listing(
        self, repository: Repository, commit: CommitId, deadline: Deadline, checkpoint: Checkpoint
    ) -> tuple[TreeId, Selection]:
        checkpoint()
        tree = self._git.tree(repository, commit, deadline)
        prove(tree)
        return tree.tree_id, self._rules.select(tree, repository.registration)

    def _read(
        self,
        repository: Repository,
        commit: CommitId,
        fetch: list[TreeEntry],
        deadline: Deadline,
        checkpoint: Checkpoint,
    ) -> _Readings:
        readings = _Readings()
        pause = _Pause(checkpoint)
        paths: dict[BlobId, list[FilePath]] = defaultdict(list)
        for entry in fetch:
            paths[entry.object_id].append(entry.path)
        total = 0
        for chunk in _chunks(paths):
            checkpoint()
            # Judged after Git has ended: files that take long to judge are no reason to call Git slow.
            blobs = dict(self._git.blobs(repository, commit, chunk, deadline))
            if len(blobs) < len(chunk):
                raise SourceFailed(f"Git gave {len(blobs)} of {len(chunk)} files that it lists.")
            for blob_id, data in blobs.items():
                if isinstance(data, bytes):
                    _verify(blob_id, data)
                    total += len(data)
            if finding := self._rules.too_many_bytes(total, repository.registration):
                readings.findings.append(finding)
                break
            for blob_id, data in blobs.items():
                for path in paths[blob_id]:
                    self._judge(readings, path, blob_id, data, repository.registration.validation)
                pause.between_files()
        return readings

    def _judge(
        self, readings: _Readings, path: FilePath, blob_id: BlobId, data: bytes | int, validation: Validation
    ) -> None:
        if isinstance(data, int):
            readings.findings.append(self._rules.too_large(path, data))
            return
        document, findings = self._rules.judge(path, blob_id, data, validation)
        readings.findings.extend(findings)
        if document is not None:
            # Text from here on: ten thousand parsed documents would take ten times its memory.
            text = json.dumps(document.value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            readings.configs.append(RuntimeConfig(path, blob_id, text, tuple(findings)))


class _Pause:
    """A checkpoint now and then between files, since some take a second to judge, and a lease only ninety."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._at = time.monotonic()

    def between_files(self) -> None:
        if time.monotonic() - self._at > SECONDS_BETWEEN:
            self._checkpoint()
            self._at = time.monotonic()


def _chunks(blob_ids: Iterable[BlobId]) -> Iterator[list[BlobId]]:
    remaining = iter(blob_ids)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _verify(blob_id: BlobId, data: bytes) -> None:
    """A throttle page or a cut-off answer must not be judged: Git's own hash of the bytes tells."""
    digest = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    digest.update(data)
    if digest.hexdigest() != blob_id:
        raise SourceFailed(
            f"The bytes of blob {blob_id} do not have that SHA-1: the answer was cut off or altered.",
            hint="It is fetched again; if this stays, look at what stands between this app and Git.",
        )
