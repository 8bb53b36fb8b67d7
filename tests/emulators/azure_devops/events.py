"""The `git.push` event: https://learn.microsoft.com/azure/devops/service-hooks/events#git.push

With what recorded deliveries have besides. Nothing in it is signed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import uuid4

from emulators.azure_devops import objects
from emulators.azure_devops.answers import Json, timestamp
from emulators.azure_devops.hosted import HostedRepository, Push
from emulators.azure_devops.repositories import commit_shape

if TYPE_CHECKING:
    from emulators.azure_devops.organisation import Organisation

TEST_EVENT_ID = "03c164c2-8912-4d5e-8009-3707d5f83734"
TEST_SUBSCRIPTION_ID = "00000000-0000-0000-0000-000000000000"

_HEADS = "refs/heads/"
_MOST_COMMITS = 25
_LONGEST_COMMENT = 100


def push_event(organisation: "Organisation", repository: HostedRepository, push: Push) -> Json:
    """With everything that a subscriber can get."""
    ids = repository.new_commits(push, _MOST_COMMITS)
    commits = [commit_shape(repository, one) for one in objects.commits(repository.path, ids) if one is not None]
    shape = repository.push_shape(push, with_updates=True)
    updates = [{name: value for name, value in one.items() if name != "repositoryId"} for one in shape["refUpdates"]]
    resource = {
        **({"commits": [_commit(commit) for commit in commits]} if commits else {}),
        **shape,
        "refUpdates": updates,
        "repository": _repository(repository),
        "_links": repository.push_links(push),
    }
    return _event(organisation, resource, str(uuid4()), repository.project_id, _message(repository, push))


def _commit(shape: Json) -> Json:
    named = {name: shape[name] for name in ("commitId", "author", "committer", "url")}
    return {**named, "comment": shape["comment"][:_LONGEST_COMMENT]}


def _repository(repository: HostedRepository) -> Json:
    shape = repository.shape()
    project = {**shape["project"], "visibility": "unchanged", "lastUpdateTime": "0001-01-01T00:00:00"}
    del project["revision"]
    named: Json = {name: shape[name] for name in ("id", "name", "url", "defaultBranch", "remoteUrl") if name in shape}
    return {**named, "project": project}


def _message(repository: HostedRepository, push: Push) -> Mapping[str, str]:
    who, where = push.by.name, ", ".join(update.name.removeprefix(_HEADS) for update in push.updates)
    link = f"{repository.web_url}/#version=GB{where}"
    return {
        "text": f"{who} pushed updates to {repository.name}:{where}.",
        "html": f'{who} pushed updates to <a href="{link}">{repository.name}:{where}</a>.',
        "markdown": f"{who} pushed updates to [{repository.name}]({link}):{where}.",
    }


def _event(
    organisation: "Organisation", resource: Json, event_id: str, project_id: str, said: Mapping[str, str]
) -> Json:
    collection = {"id": organisation.id, "baseUrl": f"{organisation.url}/"}
    return {
        "id": event_id,
        "eventType": "git.push",
        "publisherId": "tfs",
        "message": dict(said),
        "detailedMessage": dict(said),
        "resource": resource,
        "resourceVersion": "1.0",
        "resourceContainers": {
            "collection": collection,
            "account": collection,
            "project": {"id": project_id, "baseUrl": f"{organisation.url}/"},
        },
        "createdDate": timestamp(),
    }


def trimmed(event: Json, wanted: Mapping[str, str]) -> Json:
    """Only what a subscription asks for, in `resourceDetailsToSend`, `messagesToSend` and `detailedMessagesToSend`."""
    sent = dict(event)
    details = wanted.get("resourceDetailsToSend") or "all"
    if details == "minimal":
        sent["resource"] = {name: event["resource"][name] for name in ("pushId", "url")}
    elif details == "none":
        del sent["resource"]
    for member in ("message", "detailedMessage"):
        forms = wanted.get(f"{member}sToSend") or "all"
        if forms == "none":
            del sent[member]
        elif forms != "all":
            sent[member] = {forms: event[member][forms]}
    return sent


def concerns(event: Json, filters: Mapping[str, str]) -> bool:
    """Whether a subscription's publisher inputs let the event through; an empty one is any."""
    repository = event["resource"]["repository"]
    branch = filters.get("branch", "").removeprefix(_HEADS)
    names = [update["name"] for update in event["resource"]["refUpdates"]]
    return (
        filters.get("projectId", "") in ("", repository["project"]["id"])
        and filters.get("repository", "") in ("", repository["id"])
        and (not branch or f"{_HEADS}{branch}" in names)
    )


def test_event(organisation: "Organisation") -> Json:
    """What the "Test" button sends: always this repository of an organisation that nobody has."""
    base = "https://fabrikam-fiber-inc.visualstudio.com"
    project_id, repository_id = "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", "278d5cd2-584d-4b63-824a-2ba458937249"
    here = f"{base}/DefaultCollection/_apis/git/repositories/{repository_id}"
    name, commit = "Fabrikam-Fiber-Git", "33b55f7cb7e7e245323987634f960cf4a6e6bc74"
    person = {"name": "Jamal Hartnett", "email": "fabrikamfiber4@hotmail.com", "date": "2015-02-25T19:01:00Z"}
    url = f"{base}/DefaultCollection/_git/{name}/commit/{commit}"
    resource = {
        "commits": [
            {
                "commitId": commit,
                "author": person,
                "committer": person,
                "comment": "Fixed bug in web.config file",
                "url": url,
            }
        ],
        "refUpdates": [
            {
                "name": "refs/heads/master",
                "oldObjectId": "aad331d8d3b131fa9ae03cf5e53965b51942618a",
                "newObjectId": commit,
            }
        ],
        "repository": {
            "id": repository_id,
            "name": name,
            "url": here,
            "project": {
                "id": project_id,
                "name": name,
                "url": f"{base}/DefaultCollection/_apis/projects/{project_id}",
                "state": "wellFormed",
                "visibility": "unchanged",
                "lastUpdateTime": "0001-01-01T00:00:00",
            },
            "defaultBranch": "refs/heads/master",
            "remoteUrl": f"{base}/DefaultCollection/_git/{name}",
        },
        "pushedBy": {
            "displayName": "Jamal Hartnett",
            "id": "00067FFED5C7AF52@Live.com",
            "uniqueName": "fabrikamfiber4@hotmail.com",
        },
        "pushId": 14,
        "date": "2014-05-02T19:17:13.3309587Z",
        "url": f"{here}/pushes/14",
    }
    text = "Jamal Hartnett pushed updates to Fabrikam-Fiber-Git:master."
    event = _event(organisation, resource, TEST_EVENT_ID, project_id, {"text": text, "html": text, "markdown": text})
    return {**event, "subscriptionId": TEST_SUBSCRIPTION_ID, "notificationId": 1}
