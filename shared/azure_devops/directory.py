"""`Directory` over the REST API of Azure DevOps: from an address that people copy to the id that survives a rename."""

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from shared.azure_devops.client import Organisation
from shared.azure_devops.trouble import GRANT, NotFound
from shared.errors import RepositoryRefused
from shared.model import Deadline, Located, RepoId

_SERVICES = "dev.azure.com"
_FORMER = ".visualstudio.com"


class _Address(NamedTuple):
    project: str
    repository: str


class AzureDevOpsDirectory:
    """Fulfils `ports.Directory` for one organisation.

    Addresses are those that Azure DevOps shows: `ORGANISATION/PROJECT/_git/REPOSITORY`, without the project where that
    has the repository's name, with a user in front of the host as in clone URLs, and `https://NAME.visualstudio.com`.
    """

    def __init__(self, organisation: Organisation) -> None:
        self._organisation = organisation

    def find(self, address: str, deadline: Deadline) -> Located | None:
        there = _parsed(address, self._organisation.url)
        if there is None:
            return None
        try:
            with self._organisation.git(deadline) as git:
                found = git.get_repository(there.repository, there.project)
                repo_id = RepoId(found["id"].lower())
                return Located(repo_id, self._organisation.url, found["project"]["name"], found["name"])
        except NotFound as error:
            message = f"The project {there.project!r} is missing or forbidden: {error.message}"
            raise RepositoryRefused(message, hint=GRANT) from error


def _parsed(address: str, organisation: str) -> _Address | None:
    """None when it is no repository of this organisation, which is named in any case."""
    try:
        asked, ours = urlsplit(address.strip()), urlsplit(organisation)
        host, our_host = (asked.hostname, asked.port), (ours.hostname, ours.port)
    except ValueError:  # A port that is no number.
        return None
    segments = [unquote(segment) for segment in asked.path.split("/") if segment]
    names = [unquote(segment) for segment in ours.path.split("/") if segment]
    if our_host[0] == _SERVICES and host == (f"{names[0].lower()}{_FORMER}" if names else None, None):
        below = segments[1:] if segments[:1] == ["DefaultCollection"] else segments
    elif host == our_host and [one.lower() for one in segments[: len(names)]] == [one.lower() for one in names]:
        below = segments[len(names) :]
    else:
        return None
    if asked.scheme != ours.scheme:
        return None
    match below:
        case ["_git", repository, *_]:
            return _Address(repository, repository)
        case [project, "_git", repository, *_]:
            return _Address(project, repository)
    return None
