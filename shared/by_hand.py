"""What a person asks of a branch: sync it now, what a sync would make of it, and whether a commit is served."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from shared.errors import CommitMissing, DatabaseUnavailable, SourceError
from shared.examination import Examiner
from shared.model import (
    ABSENT,
    BranchName,
    BranchStatus,
    Budget,
    CommitId,
    Deadline,
    Failed,
    Generation,
    Outcome,
    Rejected,
    Replaced,
    RepoId,
    Trigger,
    Unchanged,
)
from shared.ports import ConfigStore, GitSource, Queue, Registry
from shared.sync import Sync

_ANNOUNCING = timedelta(seconds=3)
"""What telling commits may add to the answer."""


class ByHand:
    """`announce` tells commits what became of them until its deadline, and does not raise."""

    def __init__(
        self,
        sync: Sync,
        registry: Registry,
        queue: Queue,
        configs: ConfigStore,
        git: GitSource,
        examiner: Examiner,
        announce: Callable[[Deadline], object],
    ) -> None:
        self._sync = sync
        self._registry = registry
        self._queue = queue
        self._configs = configs
        self._git = git
        self._examiner = examiner
        self._announce = announce

    def sync(
        self,
        repo_id: RepoId,
        branches: Sequence[BranchName],
        budget: Budget,
        *,
        commit: CommitId | None = None,
        deep: bool = False,
    ) -> Iterator[tuple[BranchName, Outcome]]:
        """Sync for a person who waits, branch by branch. `commit` is of the only one, and may need no sync at all."""
        if commit and not deep and (known := self.covers(repo_id, branches[0], commit, budget.deadline)):
            yield branches[0], known
            return
        # Requested before the first is synced: whatever becomes of this process, the timer goes on with it.
        self._queue.ask(repo_id, branches, deep=deep)
        for branch in branches:
            outcome = self._sync.run(repo_id, branch, budget, Trigger.MANUAL, probe=True, deep=deep)
            yield branch, self._about_commit(repo_id, branch, commit, outcome, budget.deadline) if commit else outcome
        self._announce(Deadline.after(_ANNOUNCING))

    def _about_commit(
        self, repo_id: RepoId, branch: BranchName, commit: CommitId, outcome: Outcome, deadline: Deadline
    ) -> Outcome:
        """The outcome for somebody who waits for `commit`: good only when the branch has it."""
        if not isinstance(outcome, Replaced | Unchanged) or outcome.commit_id == commit:
            return outcome
        try:
            if self._git.is_ancestor(self._registry.get(repo_id), commit, outcome.commit_id, deadline):
                return outcome
        except SourceError as error:
            return Failed(error)
        message = f"The branch {branch!r} does not have the commit {commit}; {outcome.commit_id} is served."
        return Failed(CommitMissing(message, hint="It was pushed away by force, or belongs to another branch."))

    def judge(self, repo_id: RepoId, branch: BranchName, deadline: Deadline) -> Outcome:
        """What a sync would make of the head now. Claims nothing and changes nothing."""
        repository = self._registry.get(repo_id)
        try:
            head = self._git.head(repository, branch, deadline)
            stored = self._configs.stored(repo_id, branch)
            found = self._examiner.at_head(repository, head, stored, deadline, lambda: None)
        except (SourceError, DatabaseUnavailable) as error:
            return Failed(error)
        judgement, change = found.judgement, found.change
        if judgement.report.rejects:
            return Rejected(head, judgement.report)
        status = self._status(repo_id, branch)
        generation = status.generation if status else Generation(0)
        written = sum(stored.get(c.path) is None or stored[c.path].blob_id != c.blob_id for c in change.configs)
        if written or change.gone:
            return Replaced(head, generation, written, len(change.gone), judgement.report)
        return Unchanged(head, generation, judgement.report)

    def covers(self, repo_id: RepoId, branch: BranchName, commit: CommitId, deadline: Deadline) -> Outcome | None:
        """Whether what is stored already answers for `commit`; None when only a sync can tell.

        An ancestor counts only while the head is what is served: a force push may have gone back to it.
        """
        status = self._status(repo_id, branch)
        if status is None or status.judged_commit is None or status.is_waiting:
            return None
        standing = Unchanged(status.commit_id or ABSENT, status.generation, status.report)
        if commit == status.commit_id:
            return standing
        if commit == status.judged_commit and commit != ABSENT:
            return Rejected(commit, status.report)
        repository = self._registry.get(repo_id)
        try:
            head = self._git.head(repository, branch, deadline)
            is_served = head == status.commit_id and self._git.is_ancestor(repository, commit, head, deadline)
        except SourceError:
            return None
        return standing if is_served else None

    def _status(self, repo_id: RepoId, branch: BranchName) -> BranchStatus | None:
        return next((status for status in self._queue.status(repo_id) if status.branch == branch), None)
