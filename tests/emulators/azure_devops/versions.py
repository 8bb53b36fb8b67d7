"""What a request means by a version: a branch's name without `refs/heads/`, a tag's, or a commit."""

from emulators.azure_devops import objects
from emulators.azure_devops.answers import Refusal, version_not_found
from emulators.azure_devops.hosted import HostedRepository
from emulators.azure_devops.request import Request


def resolve(repository: HostedRepository, request: Request, prefix: str) -> str:
    """The commit that the query's version descriptor names; the default branch's head when it names none."""
    version = request.text(f"{prefix}version")
    kind = request.text(f"{prefix}versionType", "branch").lower()
    return commit_of(repository, kind, version)


def commit_of(repository: HostedRepository, kind: str, version: str) -> str:
    refs = repository.refs()
    branch = objects.default_branch(repository.path, refs)
    if branch is None:
        message = f"Cannot find any branches for the {repository.name} repository."
        raise Refusal(404, "GitUnresolvableToCommitException", message)
    if not version:
        return refs[branch]
    name = {"branch": f"refs/heads/{version}", "tag": f"refs/tags/{version}"}.get(kind)
    asked = version if name is None else refs.get(name)
    found = objects.run(repository.path, "rev-parse", "--verify", "--quiet", f"{asked}^{{commit}}") if asked else None
    if not found:
        raise version_not_found(kind, version, repository.name)
    return found.decode().strip()
