"""Add, change and remove repositories: what may be registered, and what an announcement may register by itself."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import quote

from shared.errors import BranchNotFound, InvalidRequest, NameTaken
from shared.model import BranchName, Event, Registration, RepoId, Repository, SourceName, is_branch_name
from shared.ports import Registry

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NOT_A_SLUG = re.compile(r"[^A-Za-z0-9._-]+")
_SOURCE = re.compile(
    r"(?:https?|git)://[^@?#\s-][^@?#\s]*"
    r"|ssh://(?:[A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9\[][^@\s]*"
    r"|file://.*"
    r"|(?:[A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]+:(?!/)[^@:-][^@]*"
    r"|/.*|[A-Za-z]:[/\\].*|\\\\.*"
)
_MOST_BRANCHES = 100


class Registrar:
    """The registry with rules in front.

    `branches` are those of a registration that names none. `url_template` says where an announced, unknown repository
    is read from, with `{project}` and `{repository}`; None registers none by itself. `organisation` limits that to
    pushes of one Azure DevOps organisation.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        branches: Sequence[BranchName],
        url_template: str | None = None,
        organisation: str | None = None,
    ) -> None:
        self._registry = registry
        self._branches = tuple(branches)
        self._url_template = url_template
        self._organisation = organisation

    def put(self, repo_id: RepoId, registration: Registration, *, expected: int | None) -> Repository:
        """Add the repository, or change it when its revision is still `expected`.

        Raises `InvalidRequest` naming the field, and what `Registry.put` raises.
        """
        return self._registry.put(_valid_id(repo_id), self._valid(registration), expected=expected)

    def remove(self, repo_id: RepoId, *, expected: int) -> None:
        self._registry.remove(repo_id, expected=expected)

    def announced(self, event: Event) -> Repository | None:
        """The repository of an event, registered now if it is unknown and may be; None if not."""
        if event.repo_id is None:
            return None
        known = self._registry.find(event.repo_id)
        if known is not None:
            return known if known.repo_id == event.repo_id else None
        # Azure DevOps tells organisations apart without regard to case.
        if self._organisation is not None and (event.organisation or "").lower() != self._organisation.lower():
            return None
        return self._register(event, event.repo_id, event.repository or "", event.project or "")

    def _register(self, event: Event, repo_id: RepoId, repository: str, project: str) -> Repository | None:
        source = _source(self._url_template or "", project, repository)
        if source is None:
            return None
        name, longer = _slug(repository), _slug(f"{project}.{repository}")
        registration = Registration(name, source, (), project=event.project)
        for candidate in (name, longer, f"{name}.{repo_id[:8]}"):
            try:
                return self.put(repo_id, replace(registration, name=candidate), expected=None)
            except InvalidRequest:
                continue
            except NameTaken:
                # The name; or the id, when another delivery of this push was quicker.
                if (known := self._registry.find(repo_id)) is not None and known.repo_id == repo_id:
                    return known
        return None

    def _valid(self, registration: Registration) -> Registration:
        if not _SLUG.fullmatch(registration.name) or _GUID.fullmatch(registration.name):
            raise InvalidRequest(
                f"{registration.name!r} cannot be a repository's name.",
                field="name",
                hint="Use letters, digits, dot, dash and underscore, at most 128; it must not look like a GUID.",
            )
        pattern = registration.pattern.strip()
        if not pattern.isprintable() or not 0 < len(pattern) <= 250 or "/" in pattern:
            raise InvalidRequest(
                f"{pattern[:60]!r} cannot be matched against file names.",
                field="pattern",
                hint="Use a file name with `*` and `?`, such as *runtime*.yaml; folders belong into `root`.",
            )
        if registration.suspended is not None and not registration.suspended.strip():
            raise InvalidRequest("A suspension says why.", field="suspended", hint="Leave it out to go on with syncs.")
        return replace(
            registration,
            source=_valid_source(registration.source.strip()),
            pattern=pattern,
            root=_valid_root(registration.root),
            branches=_valid_branches(registration.branches or self._branches),
        )


def chosen_branches(repository: Repository, branch: str | None) -> tuple[BranchName, ...]:
    """The branch that somebody means, or all that the registration names. Raises `BranchNotFound`."""
    named = repository.registration.branches
    if branch is None:
        return named
    if branch not in named:
        hint = f"It names {', '.join(named)}."
        raise BranchNotFound(f"The registration of {repository.name} does not name {branch!r}.", hint=hint)
    return (BranchName(branch),)


def _valid_id(repo_id: RepoId) -> RepoId:
    if not _SLUG.fullmatch(repo_id):
        raise InvalidRequest(
            f"{repo_id!r} cannot be a repository's id.",
            field="repo_id",
            hint="Use the GUID of Azure DevOps, or letters, digits, dot, dash and underscore.",
        )
    return RepoId(repo_id.lower()) if _GUID.fullmatch(repo_id) else repo_id


def _valid_source(source: str) -> SourceName:
    """An absolute path, or what git takes for a URL of these protocols. Never quoted in what is told: people paste
    credentials into it, and it is shown to every reader."""
    if len(source) > 2000 or not source.isprintable() or not _SOURCE.fullmatch(source):
        raise InvalidRequest(
            "This is no source that can be read.",
            field="source",
            hint="Use an absolute path, user@host:path, or a URL of https, http, ssh, git or file. Credentials do not "
            "belong into it (nothing with @ or ? in an https URL): give them to Git's credential helper.",
        )
    return SourceName(source)


def _valid_root(root: str) -> str:
    trimmed = root.strip("/")
    parts = PurePosixPath(trimmed).parts
    if "\0" in root or "\\" in root or any(part in (".", "..") for part in trimmed.split("/")):
        raise InvalidRequest(f"{root!r} is no folder of a repository.", field="root")
    return "/".join(parts)


def _valid_branches(branches: Sequence[BranchName]) -> tuple[BranchName, ...]:
    for branch in branches:
        if not is_branch_name(branch):
            raise InvalidRequest(
                f"{branch!r} is no branch name.", field="branches", hint="Leave out `refs/heads/`; no patterns."
            )
    if not 1 <= len(branches) <= _MOST_BRANCHES:
        raise InvalidRequest(f"A repository has 1 to {_MOST_BRANCHES} branches.", field="branches")
    return tuple(dict.fromkeys(branches))


def _slug(name: str) -> str:
    return _NOT_A_SLUG.sub("-", name).strip("-._")[:128]


def _source(template: str, project: str, repository: str) -> SourceName | None:
    """Where an announced repository is, by the operator's template; a payload's names fill in one segment each."""
    if not template or not repository:
        return None
    for name in (project, repository):
        if name in (".", "..") or any(character in name for character in "/\\\0\n"):
            return None
    filled = {"project": project, "repository": repository}
    if "://" in template:
        filled = {key: quote(name, safe="") for key, name in filled.items()}
    return SourceName(template.replace("{project}", filled["project"]).replace("{repository}", filled["repository"]))
