"""Deliveries of service hooks. Azure DevOps takes a status code as a contract.

To an authentic caller the answer is 200, 202 or 503, whatever happens: any other puts the subscription on probation,
where pushes are lost (docs/service-hooks/troubleshoot.md of Azure DevOps). So nothing here uses the table of problems.
"""

import logging
from datetime import timedelta

from shared.errors import Forbidden, RuntimeStoreError, TooLarge, Unauthenticated, Unavailable
from shared.model import BranchName, Budget, Deadline, Decision, Deferred, Event, Failed, Receipt
from shared.telemetry import metrics
from shared.web.call import Call
from shared.web.problems import described, seconds
from shared.web.reply import Reply, respond
from shared.web.representations import Members, of_outcome
from shared.web.services import Limits, Services

_log = logging.getLogger(__name__)

_LEFT_TO_THE_TIMER = (Decision.HEADS_CHECKED, Decision.MALFORMED)
"""Nobody can say which branches: the next sweep looks at every head."""
TRY_AGAIN = timedelta(seconds=5)


class Webhook:
    def __init__(self, services: Services, limits: Limits) -> None:
        self._decode = services.decode
        self._intake = services.intake
        self._limits = limits

    def receive(self, call: Call) -> Reply:
        """Record a delivery and sync what fits: 200 when all of it is done, 202 when the timer has something to do."""
        try:
            event = self._decode(call.body(self._limits.webhook_body))
        except TooLarge as error:
            event = Event(event_type=None, problem=error.message)
        budget = Budget(Deadline.after(self._limits.webhook_duration), self._limits.webhook_files)
        receipt = self._intake.receive(event, budget)
        return respond(_of_receipt(receipt), 200 if _is_done(receipt) else 202)


def _is_done(receipt: Receipt) -> bool:
    delivery, outcomes = receipt.delivery, receipt.outcomes
    if delivery.decision in _LEFT_TO_THE_TIMER or delivery.requests.keys() - outcomes.keys():
        return False
    return not any(isinstance(outcome, Deferred | Failed) for outcome in outcomes.values())


def _of_receipt(receipt: Receipt) -> Members:
    """What was decided, and of each branch what came of it; a branch without an outcome is left to the timer."""
    delivery = receipt.delivery

    def of_branch(branch: BranchName) -> Members:
        outcome = receipt.outcomes.get(branch)
        told = {"outcome": None} if outcome is None else of_outcome(outcome)
        return {"branch": branch, "request": delivery.requests.get(branch), **told}

    return {
        "delivery_id": str(delivery.delivery_id),
        "decision": delivery.decision,
        "repo_id": delivery.event.repo_id,
        "problem": delivery.event.problem,
        "branches": [of_branch(branch) for branch in sorted({*delivery.requests, *receipt.outcomes})],
    }


def refuse(call: Call, error: Exception) -> Reply:
    """401 to who is not authentic; 503 to everybody else, which Azure DevOps repeats for about three minutes."""
    if isinstance(error, Unauthenticated | Forbidden):
        response = respond({"correlation_id": call.correlation_id, **described(error)}, 401)
        response.headers["WWW-Authenticate"] = 'Basic realm="runtime-store", charset="UTF-8"'
        return response
    members: Members = {"correlation_id": call.correlation_id}
    if isinstance(error, RuntimeStoreError):
        members |= described(error)
    metrics.DELIVERIES.add(1, "not-recorded")
    _log.error("A delivery was not recorded", extra=members, exc_info=error)
    response = respond(members, 503)
    response.headers["Retry-After"] = seconds(error.retry_after if isinstance(error, Unavailable) else TRY_AGAIN)
    return response
