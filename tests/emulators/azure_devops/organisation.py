"""One organisation: what is in it, and which handler answers which route."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from emulators.azure_devops import commits, contents, locations, repositories, subscriptions
from emulators.azure_devops.answers import (
    Answer,
    bad_argument,
    json_answer,
    list_answer,
    project_not_found,
    repository_not_found,
)
from emulators.azure_devops.hosted import SERVICE, HostedRepository, Identity, Project, guid
from emulators.azure_devops.locations import Endpoint
from emulators.azure_devops.request import Request
from support.git import GitRepository

if TYPE_CHECKING:
    from emulators.azure_devops.delivery import Deliveries

_GUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

# What `Connection.clients` asks for before it makes a client, by id of the area.
_AREAS = {"4e080c62-fa21-4fbc-8fef-2a10a2b38049": "git", "79134c72-4a58-4b42-976c-04e7115f32bf": "core"}


class Organisation:
    """`url` has no slash at its end."""

    def __init__(self, url: str, deliveries: "Deliveries") -> None:
        self.url = url
        self.id = guid("organisation", "contoso")
        self.deliveries = deliveries
        self._lock = RLock()
        self._ids = itertools.count(1)
        self._projects: dict[str, Project] = {}
        self._repositories: dict[str, HostedRepository] = {}
        self._created: dict[tuple[str, str], int] = {}

    def next_id(self) -> int:
        return next(self._ids)

    def projects(self) -> list[Project]:
        with self._lock:
            return list(self._projects.values())

    def repositories(self) -> list[HostedRepository]:
        with self._lock:
            return list(self._repositories.values())

    def project(self, name_or_id: str) -> Project:
        with self._lock:
            for project in self._projects.values():
                if name_or_id.lower() in (project.id, project.name.lower()):
                    return project
        raise project_not_found(name_or_id)

    def find(self, request: Request) -> HostedRepository:
        """The repository that a route names: by id, or within a project by name. A disabled one is not there."""
        name = request.parameters.get("repositoryId") or request.parameters["repositoryNameOrId"]
        project = request.parameters.get("project")
        within = self.project(project) if project else None
        repository = self._repositories.get(name.lower())
        if repository is None and not _GUID.fullmatch(name):
            if within is None:
                message = "A project name is required in order to reference a Git repository by name."
                raise bad_argument(f"{message}\r\nParameter name: repositoryId")
            repository = self.named(within, name)
        if repository is None or repository.is_disabled or within not in (None, repository.owner):
            raise repository_not_found(name)
        return repository

    def named(self, project: Project, name: str) -> HostedRepository | None:
        with self._lock:
            found = (one for one in self._repositories.values() if one.owner is project)
            return next((one for one in found if one.name.lower() == name.lower()), None)

    def at(self, project: str, name: str) -> HostedRepository:
        repository = self.named(self.project(project), name)
        if repository is None or repository.is_disabled:
            raise repository_not_found(name)
        return repository

    def add(self, project_name: str, name: str, path: Path, made: GitRepository | None = None) -> HostedRepository:
        """Serve a bare repository. What is in it came with one push."""
        with self._lock:
            project_id = guid("project", project_name)
            project = self._projects.setdefault(project_id, Project(project_id, project_name))
            if self.named(project, name) is not None:
                raise ValueError(f"{project_name} has a repository {name} already")
            before = self._created.get((project_name, name), 0)
            self._created[project_name, name] = before + 1
            repository_id = guid("repository", project_name, name, before)
            repository = HostedRepository(self.url, repository_id, name, project, path, made)
            self._repositories[repository_id] = repository
        repository.note_push(SERVICE)
        return repository

    def remove(self, repository: HostedRepository) -> None:
        with self._lock:
            del self._repositories[repository.id]

    def pushed(self, repository: HostedRepository, by: str) -> int | None:
        """Record what moved, and tell the subscribers; None when nothing did."""
        push = repository.note_push(Identity.of(by))
        if push is None:
            return None
        self.deliveries.announce(repository, push)
        return push.push_id


def get_options(organisation: Organisation, request: Request) -> Answer:
    return list_answer([location.shape() for location in dict.fromkeys(one.location for one in ENDPOINTS)])


def get_areas(organisation: Organisation, request: Request) -> Answer:
    areas = {area: {"id": area, "name": name, "locationUrl": f"{organisation.url}/"} for area, name in _AREAS.items()}
    asked = request.parameters.get("areaId")
    if not asked:
        return list_answer(list(areas.values()))
    return json_answer(areas.get(asked.lower()))


def get_connection_data(organisation: Organisation, request: Request) -> Answer:
    user = {"id": SERVICE.id, "providerDisplayName": SERVICE.name, "isActive": True}
    data = {"authenticatedUser": user, "authorizedUser": user, "instanceId": organisation.id}
    return json_answer({**data, "deploymentId": organisation.id, "deploymentType": "hosted"})


def _endpoints() -> Iterator[Endpoint]:
    here = locations
    yield Endpoint("areas", "GET", here.RESOURCE_AREAS, get_areas)
    yield Endpoint("connection", "GET", here.CONNECTION_DATA, get_connection_data)
    yield Endpoint("projects", "GET", here.PROJECTS, repositories.get_projects, is_item=False)
    yield Endpoint("project", "GET", here.PROJECTS, repositories.get_project, is_item=True)
    yield Endpoint("repositories", "GET", here.REPOSITORIES, repositories.get_repositories, is_item=False)
    yield Endpoint("repository", "GET", here.REPOSITORIES, repositories.get_repository, is_item=True)
    yield Endpoint("refs", "GET", here.REFS, repositories.get_refs)
    yield Endpoint("pushes", "GET", here.PUSHES, repositories.get_pushes, is_item=False)
    yield Endpoint("push", "GET", here.PUSHES, repositories.get_push, is_item=True)
    yield Endpoint("commits", "GET", here.COMMITS, commits.get_commits, is_item=False)
    yield Endpoint("commit", "GET", here.COMMITS, commits.get_commit, is_item=True)
    yield Endpoint("commits_batch", "POST", here.COMMITS_BATCH, commits.post_commits_batch)
    yield Endpoint("diffs", "GET", here.COMMIT_DIFFS, commits.get_commit_diffs)
    yield Endpoint("merge_bases", "GET", here.MERGE_BASES, commits.get_merge_bases)
    yield Endpoint("statuses", "GET", here.STATUSES, commits.get_statuses)
    yield Endpoint("statuses", "POST", here.STATUSES, commits.post_status)
    yield Endpoint("tree", "GET", here.TREES, contents.get_tree, is_item=True)
    yield Endpoint("blobs", "POST", here.BLOBS, contents.post_blobs, is_item=False)
    yield Endpoint("blob", "GET", here.BLOBS, contents.get_blob, is_item=True)
    yield Endpoint("items", "GET", here.ITEMS, contents.get_items)
    yield Endpoint("subscriptions", "GET", here.SUBSCRIPTIONS, subscriptions.get_all, is_item=False)
    yield Endpoint("subscriptions", "POST", here.SUBSCRIPTIONS, subscriptions.post, is_item=False)
    yield Endpoint("subscription", "GET", here.SUBSCRIPTIONS, subscriptions.get_one, is_item=True)
    yield Endpoint("subscription", "PUT", here.SUBSCRIPTIONS, subscriptions.put, is_item=True)
    yield Endpoint("subscription", "DELETE", here.SUBSCRIPTIONS, subscriptions.delete, is_item=True)
    yield Endpoint("subscriptions", "POST", here.SUBSCRIPTIONS_QUERY, subscriptions.query)
    yield Endpoint("notifications", "GET", here.NOTIFICATIONS, subscriptions.notifications, is_item=False)
    yield Endpoint("test_notification", "POST", here.TEST_NOTIFICATIONS, subscriptions.test, is_item=False)


ENDPOINTS = tuple(_endpoints())
