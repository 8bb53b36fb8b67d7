"""Registered repositories: what is true of them, changing them, and syncs by hand."""

import re
from collections import defaultdict
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from shared.errors import (
    InvalidRequest,
    Kind,
    RepositoryNotFound,
    RevisionRequired,
)
from shared.model import (
    BranchName,
    BranchStatus,
    Budget,
    CommitId,
    Deadline,
    Deferred,
    Failed,
    Outcome,
    Rejected,
    RepoId,
    Repository,
)
from shared.registration import chosen_branches
from shared.web import problems, representations
from shared.web.access import Role
from shared.web.call import Call
from shared.web.names import canonical
from shared.web.registrations import registration_of
from shared.web.reply import Reply, respond
from shared.web.representations import Members
from shared.web.runtimes import no_repository
from shared.web.services import Limits, Services

MOST_RECORDS = 200
LONGEST_SLICE = 60
"""Seconds of one sweep over HTTP; the front end of Azure Functions ends a request after 230."""

COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r'"?([0-9]{1,18})"?')


class Repositories:
    def __init__(self, services: Services, limits: Limits) -> None:
        self._services = services
        self._limits = limits

    def list(self, call: Call) -> Reply:
        """All repositories with the conditions of their branches, without findings."""
        branches: dict[RepoId, list[BranchStatus]] = defaultdict(list)
        for status in self._services.queue.status():
            branches[status.repo_id].append(status)
        found = self._services.registry.list()
        return respond([representations.of_repository(one, branches[one.repo_id], findings=False) for one in found])

    def get(self, call: Call, alias: str) -> Reply:
        return self._shown(self._found(alias))

    def put(self, call: Call, alias: str) -> Reply:
        registration = registration_of(call.json_object(self._limits.request_body))
        existing = self._services.registry.find(canonical(alias))
        if existing is None and call.headers.get("If-Match"):
            raise RepositoryNotFound("There is nothing yet that If-Match could hold for.", hint="Leave If-Match out.")
        repo_id = existing.repo_id if existing else RepoId(canonical(alias))
        expected = _revision(call, existing) if existing else None
        repository = self._services.registrar.put(repo_id, registration, expected=expected)
        response = self._shown(repository, 200 if existing else 201)
        response.headers["Location"] = _address(repository)
        return response

    def remove(self, call: Call, alias: str) -> Reply:
        repository = self._found(alias)
        self._services.registrar.remove(repository.repo_id, expected=_revision(call, repository))
        return Reply(204)

    def syncs(self, call: Call, alias: str) -> Reply:
        repository = self._found(alias)
        branch = call.text("branch")
        limit = call.number("limit", default=20, largest=MOST_RECORDS)
        records = self._services.journal.syncs(repository.repo_id, BranchName(branch) if branch else None, limit)
        return respond([representations.of_sync(record) for record in records])

    def deliveries(self, call: Call, alias: str) -> Reply:
        repository = self._found(alias)
        limit = call.number("limit", default=20, largest=MOST_RECORDS)
        found = self._services.journal.deliveries(repository.repo_id, limit)
        is_admin = call.caller.role is Role.ADMIN
        return respond([representations.of_delivery(delivery, people=is_admin) for delivery in found])

    def sync(self, call: Call, alias: str) -> Reply:
        """Sync one branch or all, now; the worst outcome decides the status."""
        repository = self._found(alias)
        branches = chosen_branches(repository, call.text("branch"))
        deep, dry_run = call.flag("deep"), call.flag("dry_run")
        commit = _commit_of(call.json_object(self._limits.request_body))
        if commit and len(branches) != 1:
            raise InvalidRequest("With a commit goes the one branch it is on.", field="branch")
        budget = Budget(Deadline.after(self._limits.sync_duration))
        repo_id, by_hand = repository.repo_id, self._services.by_hand
        if dry_run:
            judged = {one: by_hand.judge(repo_id, one, budget.deadline) for one in branches}
            return _of_outcomes(call, repository, judged)
        outcomes = dict(by_hand.sync(repo_id, branches, budget, commit=commit, deep=deep))
        self._services.reconcile.take_along(budget.deadline)
        return _of_outcomes(call, repository, outcomes)

    def reconcile(self, call: Call) -> Reply:
        """Sync what is due, for some seconds; 202 when another sweep is at it already."""
        duration = call.number("seconds", default=LONGEST_SLICE, largest=LONGEST_SLICE)
        summary = self._services.reconcile.sweep("http", timedelta(seconds=duration))
        return respond(representations.of_sweep(summary), 200 if summary.started else 202)

    def _found(self, alias: str) -> Repository:
        repository = self._services.registry.find(canonical(alias))
        if repository is None:
            raise no_repository(alias)
        return repository

    def _shown(self, repository: Repository, status: int = 200) -> Reply:
        branches = self._services.queue.status(repository.repo_id)
        response = respond(representations.of_repository(repository, branches, findings=True), status)
        response.headers["ETag"] = f'"{repository.revision}"'
        return response


def _revision(call: Call, existing: Repository) -> int:
    """The revision that `If-Match` names."""
    if_match = call.headers.get("If-Match", "").strip()
    if not if_match:
        raise RevisionRequired(
            f"{existing.name} exists: a change names the revision it was made from.",
            hint=f'Read it, and send its ETag as If-Match (now "{existing.revision}").',
        )
    if if_match == "*":
        return existing.revision
    found = REVISION.fullmatch(if_match)
    if found is None:
        raise InvalidRequest("If-Match is the ETag of the repository, a number in quotes.", field="If-Match")
    return int(found[1])


def _commit_of(body: dict[str, Any]) -> CommitId | None:
    for unknown in sorted(body.keys() - {"commit"}):
        raise InvalidRequest(f"{unknown!r} is unknown here; the body may have commit.", field=unknown)
    commit = body.get("commit")
    if commit is None:
        return None
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit.lower()):
        raise InvalidRequest("commit is a commit id: 40 hex digits.", field="commit")
    return CommitId(commit.lower())


def _of_outcomes(call: Call, repository: Repository, outcomes: dict[BranchName, Outcome]) -> Reply:
    """Every branch with its outcome; what is worst is also told as a problem."""
    members: Members = {
        "repo_id": repository.repo_id,
        "branches": [{"branch": branch, **representations.of_outcome(one)} for branch, one in outcomes.items()],
    }
    worst = max(outcomes.values(), key=_status_of, default=None)
    match worst:
        case Failed(error):
            response = problems.of_error(call, error, members)
        case Rejected(commit_id, report):
            count = len(report.findings) + report.omitted
            told = {"detail": f"{commit_id} is not served: {count} findings, each with its place, are in branches."}
            rejected = problems.PROBLEMS[Kind.REJECTED]
            response = problems.document(call, Kind.REJECTED, rejected, {**told, **members})
        case _:
            response = respond(members, 202 if isinstance(worst, Deferred) else 200)
    if any(isinstance(outcome, Deferred) for outcome in outcomes.values()):
        response.headers["Location"] = _address(repository)
    return response


def _status_of(outcome: Outcome) -> int:
    match outcome:
        case Failed(error):
            return problems.PROBLEMS[error.kind].status
        case Rejected():
            return problems.PROBLEMS[Kind.REJECTED].status
        case Deferred():
            return 202
        case _:
            return 200


def _address(repository: Repository) -> str:
    return f"/repositories/{quote(repository.repo_id, safe='')}"
