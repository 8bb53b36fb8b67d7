"""What the organisation holds: projects, repositories with their pushes and statuses, and the people in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import RLock
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from emulators.azure_devops import objects
from emulators.azure_devops.answers import Json, timestamp
from emulators.azure_devops.objects import ZEROS
from support.git import GitRepository


def guid(*names: object) -> str:
    """The same for the same names, so that a demo keeps its ids from one start to the next."""
    return str(uuid5(NAMESPACE_URL, "/".join(map(str, names))))


@dataclass(frozen=True)
class Identity:
    name: str
    id: str
    unique_name: str

    @classmethod
    def of(cls, name: str) -> "Identity":
        return cls(name, guid("identity", name), f"{name.lower().replace(' ', '.')}@example.com")

    def shape(self, organisation: str) -> Json:
        descriptor = f"aad.{self.id.replace('-', '')}"
        avatar = f"{organisation}/_apis/GraphProfile/MemberAvatars/{descriptor}"
        return {
            "displayName": self.name,
            "url": f"{organisation}/_apis/Identities/{self.id}",
            "_links": {"avatar": {"href": avatar}},
            "id": self.id,
            "uniqueName": self.unique_name,
            "imageUrl": f"{organisation}/_api/_common/identityImage?id={self.id}",
            "descriptor": descriptor,
        }


SERVICE = Identity.of("Runtime Store")
"""Whoever calls the API: the emulator does not tell callers apart."""


@dataclass(frozen=True)
class RefUpdate:
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Push:
    push_id: int
    by: Identity
    at: datetime
    updates: tuple[RefUpdate, ...]


@dataclass
class Project:
    id: str
    name: str

    def shape(self, organisation: str) -> Json:
        return {
            "id": self.id,
            "name": self.name,
            "url": f"{organisation}/_apis/projects/{self.id}",
            "state": "wellFormed",
            "revision": 11,
            "visibility": "private",
            "lastUpdateTime": "2026-01-01T00:00:00.000Z",
        }


@dataclass(eq=False)
class HostedRepository:
    """One repository of the organisation. `git` changes it as its owner can, behind the organisation's back."""

    organisation: str
    id: str
    name: str
    owner: Project
    path: Path
    made: GitRepository | None = None
    is_disabled: bool = False
    pushes: list[Push] = field(default_factory=list)
    first_push: int = 1
    """The number of the first of these; the real ones go on from before."""
    statuses: dict[str, list[Json]] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock, repr=False)
    known: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The refs when the last push was noticed, and `before` it."""
    before: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def git(self) -> GitRepository:
        return self.made or GitRepository(self.path)

    @property
    def project(self) -> str:
        return self.owner.name

    @property
    def project_id(self) -> str:
        return self.owner.id

    @property
    def url(self) -> str:
        """Of the API, without the project: renames do not matter."""
        return f"{self.organisation}/_apis/git/repositories/{self.id}"

    @property
    def web_url(self) -> str:
        """What a person opens, clones and registers."""
        return f"{self.organisation}/{quote(self.project)}/_git/{quote(self.name)}"

    def refs(self) -> dict[str, str]:
        return objects.refs(self.path)

    def stale_refs(self) -> Mapping[str, str]:
        """As they were before the latest push, whether it was noticed already or not."""
        return self.known if self.refs() != self.known else self.before

    def note_push(self, by: Identity) -> Push | None:
        """Record what moved since the last time as one push; None when nothing did."""
        with self.lock:
            now = self.refs()
            moved = sorted(name for name in now.keys() | self.known.keys() if now.get(name) != self.known.get(name))
            if not moved:
                return None
            updates = tuple(RefUpdate(name, self.known.get(name, ZEROS), now.get(name, ZEROS)) for name in moved)
            push = Push(self.first_push + len(self.pushes), by, datetime.now(UTC), updates)
            self.pushes.append(push)
            self.before, self.known = self.known, now
            return push

    def new_commits(self, push: Push, limit: int) -> list[str]:
        """The commits that came with a push, the newest first."""
        known = {update.new for one in self.pushes if one.push_id < push.push_id for update in one.updates}
        new = {update.new for update in push.updates} - {ZEROS}
        if not new:
            return []
        arguments = (f"--max-count={limit}", "--ignore-missing")
        return objects.history(self.path, *arguments, *sorted(new), "--not", *sorted(known - {ZEROS}))

    def shape(self) -> Json:
        branch = objects.default_branch(self.path, self.refs())
        return {
            "id": self.id,
            "name": self.name,
            "url": self.url,
            "project": self.owner.shape(self.organisation),
            **({"defaultBranch": branch} if branch else {}),
            "size": 0,
            "remoteUrl": self.web_url,
            "sshUrl": f"git@ssh.dev.azure.com:v3/contoso/{quote(self.project)}/{quote(self.name)}",
            "webUrl": self.web_url,
            "isDisabled": self.is_disabled,
            "isInMaintenance": False,
        }

    def links(self) -> Json:
        names = ("commits", "refs", "pullRequests", "items", "pushes")
        return {
            "self": {"href": self.url},
            "project": {"href": f"vstfs:///Classification/TeamProject/{self.project_id}"},
            "web": {"href": self.web_url},
            **{name: {"href": f"{self.url}/{name}"} for name in names},
        }

    def push_shape(self, push: Push, *, with_updates: bool) -> Json:
        updates = [
            {"repositoryId": self.id, "name": update.name, "oldObjectId": update.old, "newObjectId": update.new}
            for update in push.updates
        ]
        return {
            **({"refUpdates": updates} if with_updates else {}),
            "repository": self.shape(),
            "pushedBy": push.by.shape(self.organisation),
            "pushId": push.push_id,
            "date": timestamp(push.at),
            "url": f"{self.url}/pushes/{push.push_id}",
        }

    def push_links(self, push: Push) -> Json:
        here = f"{self.url}/pushes/{push.push_id}"
        return {
            "self": {"href": here},
            "repository": {"href": self.url},
            "commits": {"href": f"{here}/commits"},
            "pusher": {"href": f"{self.organisation}/_apis/Identities/{push.by.id}"},
            "refs": {"href": f"{self.url}/refs"},
        }
