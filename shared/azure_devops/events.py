"""A service hook's payload -> `model.Event`.

Invariant: `decode` never raises, whatever the bytes are. Azure DevOps puts a subscription on probation, where pushes
are lost, for every answer that is not a success; and nothing in a payload is believed, since nothing in it is signed.
The shape is that of the `git.push` event: https://learn.microsoft.com/azure/devops/service-hooks/events#git.push
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from shared.model import BranchName, CommitId, Event, RefUpdate, RepoId

# What the "Test" button sends: always this event, of a subscription that does not exist.
TEST_EVENT = "03c164c2-8912-4d5e-8009-3707d5f83734"
TEST_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"

Json: TypeAlias = "dict[str, Any]"

_HEADS = "refs/heads/"
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_OBJECT_ID = re.compile(r"[0-9a-f]{40}", re.IGNORECASE)
_PUSH_URL = re.compile(rf"/git/repositories/({_GUID.pattern})(?:/pushes/([0-9]{{1,18}}))?(?:[/?#]|$)", re.IGNORECASE)
# What git check-ref-format refuses: such a branch does not exist, and PostgreSQL could not store some of them.
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//|^/|/$|\.$|^$|(?:^|/)\.|\.lock(?:/|$)")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ORGANISATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
_ADDRESS = re.compile(r"[!-~]{1,400}")
_LONGEST_NAME = 400
_LONGEST_BRANCH = 1000
_LONGEST_INTEGER = 20
_LARGEST = 2**63 - 1


def decode(body: bytes) -> Event:
    """Read a payload; what it does not say, or says in an unknown way, is None. Takes time linear in the body."""
    try:
        # A letter that is not UTF-8, in somebody's name say, is no reason to lose a push.
        payload = json.loads(body.decode("utf-8-sig", "replace"), parse_int=_integer)
    except RecursionError:
        return Event(event_type=None, problem="The body is nested too deeply to be a service hook's")
    except ValueError as error:
        return Event(event_type=None, problem=f"The body is not JSON: {error}")
    if not isinstance(payload, dict):
        return Event(event_type=None, problem="The body is JSON, but not an object")
    return _event(payload)


def _event(payload: Json) -> Event:
    resource = _object(payload, "resource")
    repository = _object(resource, "repository")
    pusher = _object(resource, "pushedBy")
    event_type, event_id = _name(payload, "eventType"), _guid(payload, "id")
    subscription_id = _guid(payload, "subscriptionId")
    # Of a Minimal payload only ids and URLs are left.
    repo_id, push_id = _from_urls(resource, repository)
    said = _guid(repository, "id")
    return Event(
        event_type=event_type,
        event_id=event_id,
        subscription_id=subscription_id,
        is_test=subscription_id == TEST_SUBSCRIPTION or event_id == TEST_EVENT,
        repo_id=RepoId(said) if said else repo_id,
        repository=_name(repository, "name"),
        project=_name(_object(repository, "project"), "name"),
        organisation=next(_organisations(payload, resource, repository), None),
        push_id=_positive(resource, "pushId") or push_id,
        pushed_by=_name(pusher, "displayName") or _name(pusher, "uniqueName"),
        updates=_updates(resource.get("refUpdates")),
        problem=None if event_type else "The body names no eventType",
    )


def _updates(listed: object) -> tuple[RefUpdate, ...] | None:
    """The branches of the push; None unless every entry can be read, because the branch of the other is unknown.

    A push moves something, so that an empty list says as little as none. Of a branch that is listed more than once the
    oldest and the newest commit are kept.
    """
    if not isinstance(listed, list) or not listed:
        return None
    updates: dict[BranchName, RefUpdate] = {}
    for entry in listed:
        ref = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(ref, str) or "\ufffd" in ref:
            return None
        branch = BranchName(ref.removeprefix(_HEADS))
        if not ref.startswith(_HEADS) or len(branch) > _LONGEST_BRANCH or _NO_BRANCH.search(branch):
            continue
        old, new = _commit(entry, "oldObjectId"), _commit(entry, "newObjectId")
        updates[branch] = RefUpdate(branch, updates[branch].old if branch in updates else old, new)
    return tuple(updates.values())


def _from_urls(resource: Json, repository: Json) -> tuple[RepoId | None, int | None]:
    for url in (resource.get("url"), repository.get("url")):
        found = _PUSH_URL.search(url) if isinstance(url, str) else None
        if found:
            return RepoId(found[1].lower()), int(found[2]) if found[2] else None
    return None, None


def _organisations(payload: Json, resource: Json, repository: Json) -> Iterator[str]:
    """Where the payload says that it comes from, the surest first."""
    containers = _object(payload, "resourceContainers")
    for name in ("collection", "account", "project"):
        if base := _organisation(_object(containers, name).get("baseUrl"), is_base=True):
            yield base
    for url in (repository.get("url"), repository.get("remoteUrl"), resource.get("url")):
        if address := _organisation(url):
            yield address


def _organisation(url: object, *, is_base: bool = False) -> str | None:
    """The organisation that a URL belongs to, in today's form; on hosts of other names only a base URL tells it."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return None
    if parts is None or parts.scheme not in ("http", "https"):
        return None
    host = parts.netloc.rpartition("@")[2].lower()
    if host == "dev.azure.com":
        name = parts.path.removeprefix("/").partition("/")[0]
    elif host.endswith(".visualstudio.com"):
        name = host.removesuffix(".visualstudio.com")
    else:
        address = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        return address if is_base and host and _ADDRESS.fullmatch(address) else None
    return f"https://dev.azure.com/{name}" if _ORGANISATION.fullmatch(name) else None


def _object(parent: Json, name: str) -> Json:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _name(parent: Json, name: str) -> str | None:
    value = parent.get(name)
    if not isinstance(value, str) or not value.strip():
        return None
    return _UNSTORABLE.sub("\ufffd", value[:_LONGEST_NAME])


def _guid(parent: Json, name: str) -> str | None:
    value = parent.get(name)
    return value.lower() if isinstance(value, str) and _GUID.fullmatch(value) else None


def _commit(parent: Json, name: str) -> CommitId:
    """The id in lower case; empty when there is none to be read."""
    value = parent.get(name)
    return CommitId(value.lower() if isinstance(value, str) and _OBJECT_ID.fullmatch(value) else "")


def _positive(parent: Json, name: str) -> int | None:
    value = parent.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST else None


def _integer(digits: str) -> int | None:
    """Python refuses to read integers of thousands of digits, and with them the whole body."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else None
