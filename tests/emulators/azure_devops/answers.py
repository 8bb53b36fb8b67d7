"""What the organisation answers with: bodies, and errors in the one form that Azure DevOps gives them."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

Json: TypeAlias = "dict[str, Any]"

JSON = "application/json; charset=utf-8; api-version=7.1"
ZIP = "application/zip"
OCTETS = "application/octet-stream"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
_WORTH_GZIP = 1024
_NONE: Mapping[str, str] = {}

SIGN_IN_PAGE = (
    b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">\n'
    b'<html lang="en-US"><head><title>Azure DevOps Services | Sign In</title></head>'
    b"<body><h1>Sign in to your account</h1></body></html>"
)


@dataclass(frozen=True)
class Answer:
    """A status, a body and the headers that are not the same on every answer."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self, accepted: str) -> tuple[bytes, dict[str, str]]:
        """The body as it travels, and its Content-Encoding: JSON is compressed for whoever takes it, as the service
        does."""
        if self.content_type == JSON and len(self.body) > _WORTH_GZIP and "gzip" in accepted:
            return gzip.compress(self.body, 1, mtime=0), {"Content-Encoding": "gzip"}
        return self.body, {}


def json_answer(body: object, *, status: int = 200, headers: Mapping[str, str] = _NONE) -> Answer:
    return Answer(status, json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"), JSON, headers)


def list_answer(values: Sequence[object], *, headers: Mapping[str, str] = _NONE) -> Answer:
    return json_answer({"value": values, "count": len(values)}, headers=headers)


def timestamp(moment: datetime | None = None) -> str:
    """Seven digits of a second, as .NET writes them."""
    return f"{(moment or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}0Z"


class Refusal(Exception):
    """An error that the service answers. `type_key` is the name of its exception, `namespace` where that lives."""

    def __init__(
        self,
        status: int,
        type_key: str,
        message: str,
        *,
        namespace: str = "Microsoft.TeamFoundation.Git.Server",
        headers: Mapping[str, str] = _NONE,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type_key = type_key
        self.message = message
        self.namespace = namespace
        self.headers = headers

    def answer(self) -> Answer:
        body = {
            "$id": "1",
            "innerException": None,
            "message": self.message,
            "typeName": f"{self.namespace}.{self.type_key}, {self.namespace}",
            "typeKey": self.type_key,
            "errorCode": 0,
            "eventId": 3000,
        }
        return json_answer(body, status=self.status, headers=self.headers)


def repository_not_found(name: str) -> Refusal:
    """Missing, disabled and forbidden repositories are answered alike."""
    return Refusal(
        404,
        "GitRepositoryNotFoundException",
        f"TF401019: The Git repository with name or identifier {name} does not exist or you do not have permissions "
        "for the operation you are attempting.",
    )


def commit_not_found(commit: str) -> Refusal:
    """The key is the service's; its sentence was never seen recorded."""
    return Refusal(
        404, "GitCommitDoesNotExistException", f"The commit with id {commit} does not exist in this repository."
    )


def object_not_found(object_id: str) -> Refusal:
    return Refusal(404, "GitObjectDoesNotExistException", f"TF401035: The object '{object_id}' does not exist.")


def version_not_found(kind: str, version: str, repository: str) -> Refusal:
    return Refusal(
        404,
        "GitUnresolvableToCommitException",
        f"TF401175:The version descriptor <{kind.capitalize()}: {version} > could not be resolved to a version in the "
        f"repository {repository}",
    )


def item_not_found(path: str, repository: str, version: str) -> Refusal:
    return Refusal(
        404,
        "GitItemNotFoundException",
        f"TF401174: The item '{path}' could not be found in the repository '{repository}' at the version specified by "
        f"'<Commit: {version} >' (resolved to commit '{version}')",
    )


def project_not_found(name: str) -> Refusal:
    return Refusal(
        404,
        "ProjectDoesNotExistWithNameException",
        f"TF200016: The following project does not exist: {name}. Verify that the name of the project is correct and "
        "that the project exists on the specified Azure DevOps Server.",
        namespace="Microsoft.TeamFoundation.Core.WebApi",
    )


def bad_argument(message: str, type_key: str = "ArgumentException") -> Refusal:
    return Refusal(400, type_key, message, namespace="System")


def version_missing(method: str) -> Refusal:
    return Refusal(
        400,
        "VssVersionNotSpecifiedException",
        f'No api-version was supplied for the "{method}" request. The version must be supplied either as part of the '
        'Accept header (e.g. "application/json; api-version=1.0") or as a query parameter (e.g. "?api-version=1.0").',
        namespace="Microsoft.VisualStudio.Services.WebApi",
    )


def unauthorized() -> Refusal:
    return Refusal(
        401,
        "UnauthorizedRequestException",
        "TF400813: The user 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa' is not authorized to access this resource.",
        namespace="Microsoft.TeamFoundation.Framework.Server",
        headers={"WWW-Authenticate": 'Basic realm="https://dev.azure.com/", Bearer'},
    )


def forbidden() -> Refusal:
    return Refusal(
        403,
        "GitNeedsPermissionException",
        "TF401027: You need the Git 'GenericRead' permission to perform this action. Details: identity "
        "'ServiceIdentity\\runtime-store', scope 'repository'.",
    )


def throttled(headers: Mapping[str, str]) -> Refusal:
    return Refusal(
        429,
        "RequestBlockedException",
        "TF400733: The request has been canceled: Request was blocked due to exceeding usage of resource "
        "'Concurrency' in namespace 'User'. For more information on why your request was blocked, see the topic "
        '"Rate limits" on the Microsoft Web site (https://go.microsoft.com/fwlink/?LinkId=823950).',
        namespace="Microsoft.TeamFoundation.Framework.Server",
        headers=headers,
    )
