"""An authentic delivery becomes recorded requests, and then syncs as far as the budget goes.

The content of a delivery is a hint: it decides which branches are looked at, never what they hold. A payload that does
not say which branch makes us look at all of them: that costs a look at each head, and loses nothing.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from uuid import uuid4

from shared import telemetry
from shared.errors import SourceError
from shared.model import (
    BranchName,
    Budget,
    Deadline,
    Decision,
    DeferReason,
    Deferred,
    Delivery,
    Event,
    Outcome,
    Receipt,
    Repository,
    Trigger,
)
from shared.ports import GitSource, Queue
from shared.registration import Registrar
from shared.sync import Sync
from shared.telemetry import metrics

_log = logging.getLogger(__name__)

_LOOK_UP = timedelta(seconds=2)
"""What finding out which branches a push moved may take."""
_ANNOUNCING = timedelta(seconds=3)
"""What telling commits may add to the answer, within the delivery's budget."""


class Intake:
    """After the syncs, `announce` tells commits what became of them until its deadline; then `take_along` is called
    with the time that is left, and may use it to help an overdue timer. Neither raises."""

    def __init__(
        self,
        registrar: Registrar,
        queue: Queue,
        git: GitSource,
        sync: Sync,
        take_along: Callable[[Deadline], object],
        announce: Callable[[Deadline], object],
    ) -> None:
        self._registrar = registrar
        self._queue = queue
        self._git = git
        self._sync = sync
        self._take_along = take_along
        self._announce = announce

    def receive(self, event: Event, budget: Budget) -> Receipt:
        """Record the delivery and what it asks for, then sync what fits the budget; the rest is the timer's.

        Raises `DatabaseUnavailable` only while nothing is recorded: then the sender must try again.
        """
        decision, repository, branches = self._decide(event)
        delivery = self._queue.request(
            Delivery(uuid4(), decision, event),
            repository.repo_id if repository else None,
            branches,
            all_heads=decision is Decision.HEADS_CHECKED or decision is Decision.MALFORMED,
        )
        about = {"delivery_id": str(delivery.delivery_id), "decision": decision, "repo_id": event.repo_id}
        _log.info("A delivery was recorded", extra=about)
        metrics.DELIVERIES.add(1, decision)
        telemetry.current().set({f"runtime_store.{name}": value for name, value in about.items()})
        if repository and decision is Decision.BRANCHES_CHECKED:
            branches = self._moved_first(repository, branches, event, budget)
        outcomes = self._synced(repository, branches, delivery, budget) if repository else {}
        if outcomes:
            self._announce(budget.deadline.within(_ANNOUNCING))
        self._take_along(budget.deadline)
        return Receipt(delivery, outcomes)

    def _decide(self, event: Event) -> tuple[Decision, Repository | None, Sequence[BranchName]]:
        if event.is_test:
            return Decision.TEST, None, ()
        if event.event_type not in (None, "git.push"):
            return Decision.IGNORED_EVENT, None, ()
        if event.repo_id is None:
            return Decision.MALFORMED if event.problem else Decision.HEADS_CHECKED, None, ()
        repository = self._registrar.announced(event)
        if repository is None:
            return Decision.UNKNOWN_REPOSITORY, None, ()
        named = repository.registration.branches
        if event.updates is None:
            return Decision.BRANCHES_CHECKED, repository, named
        pushed = {update.branch for update in event.updates}
        branches = [branch for branch in named if branch in pushed]
        return (Decision.REQUESTED if branches else Decision.IGNORED_BRANCH), repository, branches

    def _moved_first(
        self, repository: Repository, branches: Sequence[BranchName], event: Event, budget: Budget
    ) -> Sequence[BranchName]:
        """The branches that the push moved, if its record says so, and then the others: the budget may not do for all.
        By now all are requested, so that a look-up that fails costs nothing but the order."""
        if event.push_id is None or len(branches) < 2:
            return branches
        deadline = budget.deadline.within(_LOOK_UP)
        try:
            moved = {update.branch for update in self._git.push(repository, event.push_id, deadline)}
        except SourceError as error:
            _log.info("A push was not looked up", extra={"repo_id": repository.repo_id, "error": error.message})
            return branches
        return sorted(branches, key=lambda branch: branch not in moved)

    def _synced(
        self, repository: Repository, branches: Sequence[BranchName], delivery: Delivery, budget: Budget
    ) -> Mapping[BranchName, Outcome]:
        outcomes: dict[BranchName, Outcome] = {}
        for branch in branches:
            if budget.deadline.is_over:
                outcomes[branch] = Deferred(DeferReason.BUDGET, "The timer goes on with this branch.")
            else:
                request = delivery.requests.get(branch)
                outcomes[branch] = self._sync.run(repository.repo_id, branch, budget, Trigger.WEBHOOK, request=request)
        return outcomes
