"""The API's resources: their location ids, which the SDK asks for by `OPTIONS`, and the routes they stand for.

The ids are those that `azure.devops.v7_1` was generated with; the templates are the service's own.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from re import Pattern
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote

from emulators.azure_devops.answers import Answer, Json
from emulators.azure_devops.request import Request

if TYPE_CHECKING:
    from emulators.azure_devops.organisation import Organisation

Handler: TypeAlias = "Callable[[Organisation, Request], Answer]"

_OPTIONAL_PROJECT = "{project}/"


@dataclass(frozen=True)
class Location:
    id: str
    area: str
    resource: str
    template: str
    resource_version: int = 1
    released: str = "7.1"

    def shape(self) -> Json:
        return {
            "id": self.id,
            "area": self.area,
            "resourceName": self.resource,
            "routeTemplate": self.template,
            "resourceVersion": self.resource_version,
            "minVersion": "1.0",
            "maxVersion": "7.2",
            "releasedVersion": self.released,
        }


@dataclass(frozen=True)
class Endpoint:
    """One method of a location. With `is_item` the last parameter of the template has to be there, without it may not;
    None leaves that open."""

    name: str
    method: str
    location: Location
    handle: "Handler"
    is_item: bool | None = None

    @cached_property
    def pattern(self) -> Pattern[str]:
        """Of the path behind the organisation, still percent-encoded."""
        template = self.location.template.replace("{area}", self.location.area)
        template = template.replace("{resource}", self.location.resource)
        start = "(?:(?P<project>[^/]+)/)?" if template.startswith(_OPTIONAL_PROJECT) else ""
        segments = template.removeprefix(_OPTIONAL_PROJECT).split("/")
        parts = [_segment(segment) for segment in segments]
        last = segments[-1].startswith("{")
        if last and self.is_item is False:
            parts.pop()
        elif last and self.is_item is None:
            return re.compile(f"{start}{'/'.join(parts[:-1])}(?:/{parts[-1]})?/?", re.IGNORECASE)
        return re.compile(f"{start}{'/'.join(parts)}/?", re.IGNORECASE)

    def match(self, method: str, path: str) -> dict[str, str] | None:
        found = self.pattern.fullmatch(path) if method == self.method else None
        return None if found is None else {name: unquote(value) for name, value in found.groupdict("").items()}


def _segment(segment: str) -> str:
    if segment.startswith("{*"):
        return f"(?P<{segment[2:-1]}>.+)"
    return f"(?P<{segment[1:-1]}>[^/]+)" if segment.startswith("{") else re.escape(segment)


def find(endpoints: Sequence[Endpoint], method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
    for endpoint in endpoints:
        parameters = endpoint.match(method, path)
        if parameters is not None:
            return endpoint, parameters
    return None


_REPOSITORY = "{project}/_apis/{area}/repositories/{repositoryId}"

RESOURCE_AREAS = Location(
    "e81700f7-3be2-46de-8624-2eb35882fcaa", "Location", "ResourceAreas", "_apis/{resource}/{areaId}", released="0.0"
)
CONNECTION_DATA = Location(
    "00d9565f-ed9c-4a06-9a50-00e7896ccab4", "Location", "ConnectionData", "_apis/{resource}", released="0.0"
)
PROJECTS = Location(
    "603fe2ac-9723-48b9-88ad-09305aa6c6e1", "core", "projects", "_apis/{resource}/{*projectId}", resource_version=4
)
REPOSITORIES = Location(
    "225f7195-f9c7-4d14-ab28-a83f7ff77e1f", "git", "repositories", "{project}/_apis/{area}/{resource}/{repositoryId}"
)
REFS = Location("2d874a60-a811-4f62-9c9f-963a6ea0a55b", "git", "refs", f"{_REPOSITORY}/{{resource}}/{{*filter}}", 2)
COMMITS = Location("c2570c3b-5b3f-41b8-98bf-5407bfde8d58", "git", "commits", f"{_REPOSITORY}/{{resource}}/{{commitId}}")
COMMITS_BATCH = Location("6400dfb2-0bcb-462b-b992-5a57f8f1416c", "git", "commitsBatch", f"{_REPOSITORY}/{{resource}}")
COMMIT_DIFFS = Location("615588d5-c0c7-4b88-88f8-e625306446e8", "git", "commitDiffs", f"{_REPOSITORY}/diffs/commits")
MERGE_BASES = Location(
    "7cf2abb6-c964-4f7e-9872-f78c66e72e9c",
    "git",
    "mergeBases",
    "{project}/_apis/{area}/repositories/{repositoryNameOrId}/commits/{commitId}/{resource}",
    released="0.0",
)
STATUSES = Location(
    "428dd4fb-fda5-4722-af02-9313b80305da", "git", "statuses", f"{_REPOSITORY}/commits/{{commitId}}/{{resource}}"
)
TREES = Location("729f6437-6f92-44ec-8bee-273a7111063c", "git", "trees", f"{_REPOSITORY}/{{resource}}/{{sha1}}")
BLOBS = Location("7b28e929-2c99-405d-9c5c-6167a06e6816", "git", "blobs", f"{_REPOSITORY}/{{resource}}/{{sha1}}")
ITEMS = Location("fb93c0db-47ed-4a31-8c20-47552878fb44", "git", "items", f"{_REPOSITORY}/{{resource}}/{{*path}}")
PUSHES = Location("ea98d07b-3c87-4971-8ede-a613694ffb55", "git", "pushes", f"{_REPOSITORY}/{{resource}}/{{pushId}}", 2)
SUBSCRIPTIONS = Location(
    "fc50d02a-849f-41fb-8af1-0a5216103269", "hooks", "subscriptions", "_apis/{area}/{resource}/{subscriptionId}"
)
SUBSCRIPTIONS_QUERY = Location(
    "c7c3c1cf-9e05-4c0d-a425-a0f922c2c6ed", "hooks", "subscriptionsQuery", "_apis/{area}/{resource}"
)
NOTIFICATIONS = Location(
    "0c62d343-21b0-4732-997b-017fde84dc28",
    "hooks",
    "notifications",
    "_apis/{area}/subscriptions/{subscriptionId}/{resource}/{notificationId}",
)
TEST_NOTIFICATIONS = Location(
    "1139462c-7e27-4524-a997-31b9b73551fe", "hooks", "testNotifications", "_apis/{area}/{resource}/{notificationId}"
)
