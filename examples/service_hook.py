"""Stands in for a service hook of Azure DevOps: tells Runtime Store of a push, and prints what it says.

Git runs this after each change of a branch of the demo's sample repository, with lines of `old new ref` on stdin. The
standard library only, so that a commit is not kept waiting by imports. Nothing that happens here ever fails a commit.
"""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

REPO_ID = "5febef5a-833d-4e14-b9c0-14cb638f91e6"
PROJECT_ID = "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2d"
SUBSCRIPTION_ID = "2f4b1f2e-6a54-4d5c-9d39-8a6f0f3f6c11"
ORGANIZATION = "https://dev.azure.com/demo"
NAME = "sample"
HEADS = "refs/heads/"
ABSENT = "0" * 40
SECONDS = 30
MOST_COMMITS = 25


class _Server:
    """The running Runtime Store, over one connection."""

    def __init__(self, url: str, password: str) -> None:
        address = urlsplit(url)
        self._connection = HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=SECONDS)
        self._token = base64.b64encode(f"azure-devops:{password}".encode()).decode()

    def repository(self) -> tuple[int, dict[str, Any]]:
        self._connection.request("GET", f"/repositories/{REPO_ID}")
        return self._answer()

    def deliver(self, event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json; charset=utf-8", "Authorization": f"Basic {self._token}"}
        self._connection.request("POST", "/webhooks/azure-devops", json.dumps(event).encode(), headers)
        return self._answer()

    def _answer(self) -> tuple[int, dict[str, Any]]:
        with self._connection.getresponse() as response:
            return response.status, json.load(response)


def main(running: Path, lines: Iterable[str]) -> None:
    try:
        told = json.loads(running.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        _say("is not running. It will find this change when it starts: python3 dev.py demo")
        return
    try:
        _deliver(_Server(told["url"], told["settings"]["WEBHOOK_SECRET"]), _branches(lines))
    except ConnectionRefusedError:
        _say(f"is not running at {told['url']}. It will find this change when it starts: python3 dev.py demo")
    except (OSError, HTTPException, ValueError, LookupError) as error:
        _say(f"at {told['url']} gave no answer ({type(error).__name__}: {error}). Its timer will find this change.")


def _branches(lines: Iterable[str]) -> list[str]:
    refs = (line.strip().split(" ", 2)[2] for line in lines if line.strip())
    return sorted({ref.removeprefix(HEADS) for ref in refs if ref.startswith(HEADS)})


def _deliver(server: _Server, branches: Sequence[str]) -> None:
    status, repository = server.repository()
    if status != 200:
        _say(f"answered {status}: {repository.get('detail', repository)}")
        return
    updates = _updates(branches, repository)
    if not updates:
        return
    started = time.perf_counter()
    status, answer = server.deliver(push_event(updates, _commits(updates)))
    seconds = time.perf_counter() - started
    if status in (200, 202):
        _tell(answer, updates, server.repository()[1], seconds)
    else:
        _say(f"answered {status}: {answer.get('detail', answer)}")


def _updates(branches: Sequence[str], repository: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Old commit, new commit and name of each branch that really moved.

    Git also calls for what moves nothing: packing its refs looks like a creation and a deletion, and a deletion comes
    twice, the first time too early.
    """
    listed = _git("for-each-ref", "--format=%(objectname) %(refname)", HEADS).splitlines()
    heads = {ref.removeprefix(HEADS): commit for commit, ref in (line.split(" ", 1) for line in listed)}
    known = {one["branch"]: one["judged_commit"] or ABSENT for one in repository["status"]}
    updates = [(known.get(branch, ABSENT), heads.get(branch, ABSENT), branch) for branch in branches]
    return [(old, new, branch) for old, new, branch in updates if old != new]


# -- What is sent ----------------------------------------------------------------------------------------------------


def push_event(updates: Sequence[tuple[str, str, str]], commits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The `git.push` event, with every member of the documented sample and of recorded deliveries.

    https://learn.microsoft.com/azure/devops/service-hooks/events#git.push
    """
    now = datetime.now(UTC).isoformat().replace("+00:00", "0Z")  # seven digits, as Azure DevOps has it
    push_id = time.time_ns() // 1_000_000
    text = f"Somebody pushed to {', '.join(branch for _, _, branch in updates)} of {NAME}"
    message = {"text": text, "html": text, "markdown": text}
    collection = {"id": "c12d0eb8-e382-443b-9f9c-c52cba5014c2", "baseUrl": f"{ORGANIZATION}/"}
    project = {"id": PROJECT_ID, "baseUrl": f"{ORGANIZATION}/"}
    return {
        "subscriptionId": SUBSCRIPTION_ID,
        "notificationId": push_id % 100_000,
        "id": str(uuid4()),
        "eventType": "git.push",
        "publisherId": "tfs",
        "scope": "all",
        "message": message,
        "detailedMessage": message,
        "resource": {
            "commits": list(commits),
            "refUpdates": [
                {"name": f"{HEADS}{branch}", "oldObjectId": old, "newObjectId": new} for old, new, branch in updates
            ],
            "repository": _REPOSITORY,
            "pushedBy": _PUSHER,
            "pushId": push_id,
            "date": now,
            "url": f"{_API}/pushes/{push_id}",
            "_links": {"self": {"href": f"{_API}/pushes/{push_id}"}, "repository": {"href": _API}},
        },
        "resourceVersion": "1.0",
        "resourceContainers": {"collection": collection, "account": collection, "project": project},
        "createdDate": now,
    }


_API = f"{ORGANIZATION}/_apis/git/repositories/{REPO_ID}"
_REPOSITORY = {
    "id": REPO_ID,
    "name": NAME,
    "url": _API,
    "project": {
        "id": PROJECT_ID,
        "name": "demo",
        "url": f"{ORGANIZATION}/_apis/projects/{PROJECT_ID}",
        "state": "wellFormed",
        "visibility": "unchanged",
        "lastUpdateTime": "0001-01-01T00:00:00",
    },
    "defaultBranch": "refs/heads/main",
    "remoteUrl": f"{ORGANIZATION}/demo/_git/{NAME}",
}
_PUSHER = {
    "displayName": "You",
    "id": "00067ffe-d4b8-48e6-a5a1-6ea0cf9bd4a7",
    "uniqueName": "you@example.com",
    "url": f"{ORGANIZATION}/_apis/Identities/00067ffe-d4b8-48e6-a5a1-6ea0cf9bd4a7",
    "descriptor": "aad.WW91",
}


def _commits(updates: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """The newest commits of the first branch, as the event lists them."""
    old, new, _ = updates[0]
    if new == ABSENT:
        return []
    span = [new] if old == ABSENT else [new, f"^{old}"]
    rows = _git("log", f"--max-count={MOST_COMMITS}", f"--format={_COMMIT}", *span, "--").split("\x1e")
    return [_commit(row.strip().split("\x1f")) for row in rows if row.strip()]


_COMMIT = "%x1f".join(("%H", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%s")) + "%x1e"


def _commit(row: Sequence[str]) -> dict[str, Any]:
    commit, author, author_email, authored, committer, committer_email, committed, subject = row
    return {
        "commitId": commit,
        "author": {"name": author, "email": author_email, "date": authored},
        "committer": {"name": committer, "email": committer_email, "date": committed},
        "comment": subject,
        "url": f"{ORGANIZATION}/demo/_git/{NAME}/commit/{commit}",
    }


def _git(*arguments: str) -> str:
    """What git answers in the repository that this hook belongs to; nothing when it refuses."""
    return subprocess.run(["git", *arguments], capture_output=True, check=False).stdout.decode(errors="replace")


# -- What is answered ------------------------------------------------------------------------------------------------


def _tell(
    answer: dict[str, Any], updates: Sequence[tuple[str, str, str]], repository: dict[str, Any], seconds: float
) -> None:
    status = {one["branch"]: one for one in repository.get("status", ())}
    synced = {one["branch"]: one for one in answer["branches"]}
    for _, new, branch in updates:
        if branch not in synced:
            _say(f"{branch} is not served; these branches are: {', '.join(repository.get('branches', ()))}")
            continue
        for line in _lines(branch, new, synced[branch], status.get(branch, {}), seconds):
            _say(line)


def _lines(branch: str, new: str, told: dict[str, Any], status: dict[str, Any], seconds: float) -> Iterable[str]:
    commit = told.get("commit_id") or new
    here, after = f"{branch}@{commit[:8]}", f"in {seconds:.2f} s"
    match told["outcome"]:
        case "Replaced" | "Unchanged" if commit == ABSENT:
            yield f"{branch} is gone, and nothing of it is served any more, {after}"
        case "Replaced" | "Unchanged":
            counts = f"{told.get('written', 0)} written, {told.get('removed', 0)} removed"
            yield f"{here} is served: {status['configs']} configs ({counts}), generation {told['generation']}, {after}"
        case "Rejected":
            yield f"{here} is rejected, {after}:"
        case "Deferred" | "Failed":
            yield f"{here} is not decided yet: {told['message']} {told.get('hint', '')}".rstrip()
        case _:
            yield f"{here} is left to the timer, within a minute"
    for finding in told.get("report", {}).get("findings", ()):
        place = ":".join(str(finding[part]) for part in ("path", "line", "column") if finding[part] is not None)
        yield f"  {place}: {finding['severity']}: {finding['message']} [{finding['rule']}]"
    if told["outcome"] == "Rejected":
        served = status.get("commit_id")
        yield (
            f"  Still served: {branch}@{served[:8]}, {status['configs']} configs" if served else "  Nothing is served."
        )


def _say(text: str) -> None:
    print(f"runtime-store: {text}", file=sys.stderr)


if __name__ == "__main__":
    for stream in (sys.stdin, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    main(Path(sys.argv[1]), sys.stdin)
