"""Commits, what lies between two of them, and their statuses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emulators.azure_devops import objects
from emulators.azure_devops.answers import (
    Answer,
    Json,
    bad_argument,
    commit_not_found,
    json_answer,
    list_answer,
    timestamp,
)
from emulators.azure_devops.hosted import SERVICE, HostedRepository, Push
from emulators.azure_devops.objects import OBJECT_ID, Commit
from emulators.azure_devops.repositories import commit_shape
from emulators.azure_devops.request import Request
from emulators.azure_devops.versions import commit_of, resolve

if TYPE_CHECKING:
    from emulators.azure_devops.organisation import Organisation

_STATES = ("notSet", "pending", "succeeded", "failed", "error", "notApplicable")
_KINDS = {"A": "add", "M": "edit", "D": "delete", "T": "edit"}
_MOST_COMMITS_OF_A_PUSH = 10_000


def get_commit(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    commit = _commit(repository, request.parameters["commitId"])
    here = f"{repository.url}/commits/{commit.commit_id}"
    web = f"{repository.web_url}/commit/{commit.commit_id}"
    links = {
        "self": {"href": here},
        "repository": {"href": repository.url},
        "changes": {"href": f"{here}/changes"},
        "web": {"href": web},
        "tree": {"href": f"{repository.url}/trees/{commit.tree_id}"},
    }
    return json_answer(
        {
            "parents": list(commit.parents),
            "treeId": commit.tree_id,
            **_push(repository, commit.commit_id),
            **commit_shape(repository, commit),
            "comment": commit.message,
            **_changes(repository, commit, request.number("changeCount") or 0),
            "_links": links,
        }
    )


def _commit(repository: HostedRepository, commit_id: str) -> Commit:
    if not OBJECT_ID.fullmatch(commit_id.lower()):
        raise bad_argument(f"A Git object id has 40 hexadecimal digits, '{commit_id}' does not.")
    commit = objects.commits(repository.path, [commit_id.lower()])[0]
    if commit is None:
        raise commit_not_found(commit_id)
    return commit


def _push(repository: HostedRepository, commit_id: str) -> Json:
    push = _bringer(repository, commit_id)
    if push is None:
        return {}
    by = push.by.shape(repository.organisation)
    return {"push": {"pushedBy": by, "pushId": push.push_id, "date": timestamp(push.at)}}


def _bringer(repository: HostedRepository, commit_id: str) -> Push | None:
    for push in repository.pushes:
        if any(update.new == commit_id for update in push.updates):
            return push
    for push in repository.pushes:
        if commit_id in repository.new_commits(push, _MOST_COMMITS_OF_A_PUSH):
            return push
    return None


def _changes(repository: HostedRepository, commit: Commit, limit: int) -> Json:
    if not limit:
        return {}
    base = commit.parents[:1] or ["--root"]
    listed = objects.run(repository.path, "diff-tree", "-r", "-z", "--name-status", *base, commit.commit_id) or b""
    words = listed.decode("utf-8", "replace").split("\0")[:-1]
    rows = list(zip(words[-2::-2][::-1], words[-1::-2][::-1], strict=True))
    shapes = [
        {"item": {"gitObjectType": "blob", "path": f"/{path}"}, "changeType": _KINDS.get(kind, "edit")}
        for kind, path in rows
    ]
    counts: dict[str, int] = {}
    for kind, _ in rows:
        name = _KINDS.get(kind, "edit").capitalize()
        counts[name] = counts.get(name, 0) + 1
    return {"changeCounts": counts, "changes": shapes[:limit]}


def get_commits(organisation: "Organisation", request: Request) -> Answer:
    """With `compareVersion`, what it has in its history and `itemVersion` has not."""
    repository = organisation.find(request)
    name = "searchCriteria."
    ids = request.text(f"{name}ids")
    if ids:
        return _listing(repository, ids.split(","))
    start = resolve(repository, request, f"{name}itemVersion.")
    compared = f"{name}compareVersion."
    span = (
        [resolve(repository, request, compared), f"^{start}"] if f"{compared}version".lower() in request.query else []
    )
    top = request.number(f"{name}$top") or request.number("$top") or 100
    skip = request.number(f"{name}$skip") or request.number("$skip") or 0
    path = request.text(f"{name}itemPath").strip("/")
    return _listing(repository, _history(repository, span or [start], top, skip, path))


def post_commits_batch(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    criteria: dict[str, Any] = request.object()
    if criteria.get("ids"):
        return _listing(repository, criteria["ids"])
    start = _described(repository, criteria.get("itemVersion") or {})
    compared = criteria.get("compareVersion")
    span = [_described(repository, compared), f"^{start}"] if compared else [start]
    top = criteria.get("$top") or request.number("$top") or 100
    skip = criteria.get("$skip") or request.number("$skip") or 0
    return _listing(repository, _history(repository, span, top, skip, (criteria.get("itemPath") or "").strip("/")))


def _described(repository: HostedRepository, descriptor: Json) -> str:
    return commit_of(repository, str(descriptor.get("versionType", "branch")).lower(), descriptor.get("version", ""))


def _history(repository: HostedRepository, span: Sequence[str], top: int, skip: int, path: str) -> list[str]:
    arguments = [f"--max-count={top}", f"--skip={skip}", *span]
    within = ["--", path] if path else []
    return (objects.run(repository.path, "rev-list", *arguments, *within) or b"").decode().split()


def _listing(repository: HostedRepository, commit_ids: Sequence[str]) -> Answer:
    found = objects.commits(repository.path, commit_ids)
    return list_answer([commit_shape(repository, commit) for commit in found if commit is not None])


def get_merge_bases(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    one = _commit(repository, request.parameters["commitId"]).commit_id
    other = _commit(repository, request.text("otherCommitId")).commit_id
    return list_answer([{"commitId": base} for base in objects.merge_bases(repository.path, one, other)])


def get_commit_diffs(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    base, target = resolve(repository, request, "base"), resolve(repository, request, "target")
    common = next(iter(objects.merge_bases(repository.path, base, target)), None)
    ahead = objects.history(repository.path, target, f"^{base}")
    behind = objects.history(repository.path, base, f"^{target}")
    return json_answer(
        {
            "allChangesIncluded": True,
            "changeCounts": {},
            "changes": [],
            **({"commonCommit": common} if common else {}),
            "baseCommit": base,
            "targetCommit": target,
            "aheadCount": len(ahead),
            "behindCount": len(behind),
        }
    )


def get_statuses(organisation: "Organisation", request: Request) -> Answer:
    """The newest first; `latestOnly` leaves one of each context."""
    repository = organisation.find(request)
    commit = _commit(repository, request.parameters["commitId"])
    with repository.lock:
        found = repository.statuses.get(commit.commit_id, [])[::-1]
    if request.flag("latestOnly"):
        found = list({_context(status): status for status in found[::-1]}.values())[::-1]
    start = request.number("skip") or 0
    return list_answer(found[start : start + (request.number("top") or 1000)])


def _context(status: Json) -> tuple[str, str]:
    return status["context"].get("genre") or "", status["context"]["name"]


def post_status(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    commit = _commit(repository, request.parameters["commitId"])
    asked: dict[str, Any] = request.object()
    context = asked.get("context") or {}
    if not context.get("name"):
        raise bad_argument("Value cannot be null.\r\nParameter name: status.Context.Name", "ArgumentNullException")
    if asked.get("state") not in _STATES:
        raise bad_argument(f"The state '{asked.get('state')}' is not valid.", "InvalidArgumentValueException")
    now = timestamp()
    status = {
        "id": organisation.next_id(),
        "state": asked["state"],
        "description": asked.get("description"),
        "context": {"name": context["name"], "genre": context.get("genre")},
        "creationDate": now,
        "updatedDate": now,
        "createdBy": SERVICE.shape(organisation.url),
        **({"targetUrl": asked["targetUrl"]} if asked.get("targetUrl") else {}),
    }
    with repository.lock:
        repository.statuses.setdefault(commit.commit_id, []).append(status)
    return json_answer(status, status=201)
