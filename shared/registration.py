"""Add, change and remove repositories: what may be registered, and what an announcement may register by itself."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit

from shared.errors import BranchNotFound, InvalidRequest, NameTaken
from shared.model import (
    BranchName,
    Deadline,
    Event,
    Located,
    Registration,
    RepoId,
    Repository,
    SourceName,
    is_branch_name,
)
from shared.ports import Directory, Registry

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NOT_A_SLUG = re.compile(r"[^A-Za-z0-9._-]+")
_SOURCE = re.compile(
    r"(?:https?|git)://[^@?#\s-][^@?#\s]*"
    r"|ssh://(?:[A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9\[][^@\s]*"
    r"|file://(?:[^@/]*/.*)?"
    r"|(?:[A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]+:(?!/)[^@:-][^@]*"
    r"|/.*|[A-Za-z]:[/\\].*|\\\\.*"
)
_MOST_BRANCHES = 100
_LOOK_UP = timedelta(seconds=15)


class Registrar:
    """The registry with rules in front.

    `branches` are those of a registration that names none. `directory` turns the web address of a repository into the
    id and the source that its host reads it by. With `auto_register` the first push of an unknown repository registers
    it: `organisation` limits that to one Azure DevOps organisation, whose API then is the source; with `url_template`
    the source is a Git URL instead, with `{project}` and `{repository}` filled in.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        branches: Sequence[BranchName],
        directory: Directory | None = None,
        organisation: str | None = None,
        url_template: str | None = None,
        auto_register: bool = True,
    ) -> None:
        self._registry = registry
        self._branches = tuple(branches)
        self._directory = directory
        self._organisation = organisation
        self._url_template = url_template
        self._auto_register = auto_register

    def locate(self, source: str) -> Located | None:
        """The repository at a web address of a host that gives ids; None for any other source. Raises `SourceError`."""
        return self._directory.find(source, Deadline.after(_LOOK_UP)) if self._directory else None

    def put(self, repo_id: RepoId | None, registration: Registration, *, expected: int | None) -> Repository:
        """Add the repository, or change it when its revision is still `expected`.

        Without `repo_id` it is the id that the host of the source gives, else the name. Raises `InvalidRequest` naming
        the field, what `Registry.put` raises, and `SourceError` when an address cannot be looked up.
        """
        source = registration.source.strip()
        # Of a change the source is looked at only if that is what changes: it may be the address of a Git URL of old.
        is_kept = expected is not None and repo_id is not None and self._registry.get(repo_id).source == source
        located = None if is_kept else self.locate(source)
        if located:
            if repo_id not in (None, located.repo_id, registration.name if expected is None else None):
                hint = "Use that one, or register it anew with its name as the id."
                raise InvalidRequest(f"The repository there has the id {located.repo_id}.", field="repo_id", hint=hint)
            repo_id = located.repo_id
            project = registration.project or located.project
            registration = replace(registration, source=located.source, project=project)
        elif self._organisation and not is_kept and "/_git/" in source and _host(source) == _host(self._organisation):
            # To be read with Git it would need credentials that nobody gave it.
            raise InvalidRequest(
                "This is no address of a repository in the organization of this app.",
                field="source",
                hint=f"One is {self._organisation}/PROJECT/_git/NAME, since AZURE_DEVOPS_ORGANIZATION says so.",
            )
        return self._put(repo_id or RepoId(registration.name), registration, expected)

    def remove(self, repo_id: RepoId, *, expected: int) -> None:
        self._registry.remove(repo_id, expected=expected)

    def announced(self, event: Event) -> Repository | None:
        """The repository of an event, registered now if it is unknown and may be; None if not."""
        if event.repo_id is None:
            return None
        known = self._registry.find(event.repo_id)
        if known is not None:
            return known if known.repo_id == event.repo_id else None
        source = self._announced_source(event)
        return self._register(event, event.repo_id, source) if source and event.repository else None

    def _put(self, repo_id: RepoId, registration: Registration, expected: int | None) -> Repository:
        return self._registry.put(_valid_id(repo_id), self._valid(repo_id, registration), expected=expected)

    def _announced_source(self, event: Event) -> SourceName | None:
        # Azure DevOps tells organisations apart without regard to case.
        is_foreign = self._organisation and (event.organisation or "").lower() != self._organisation.lower()
        if is_foreign or not self._auto_register:
            return None
        if self._url_template:
            return _from_template(self._url_template, event.project or "", event.repository or "")
        return SourceName(self._organisation) if self._organisation else None

    def _register(self, event: Event, repo_id: RepoId, source: SourceName) -> Repository | None:
        repository, project = event.repository or "", event.project or ""
        name, longer = _slug(repository), _slug(f"{project}.{repository}")
        registration = Registration(name, source, (), project=event.project)
        for candidate in (name, longer, f"{name}.{repo_id[:8]}", repo_id[:8]):
            try:
                return self._put(repo_id, replace(registration, name=candidate), None)
            except InvalidRequest:
                continue
            except NameTaken:
                # The name; or the id, when another delivery of this push was quicker.
                if (known := self._registry.find(repo_id)) is not None and known.repo_id == repo_id:
                    return known
        return None

    def _valid(self, repo_id: RepoId, registration: Registration) -> Registration:
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
        source = self._valid_source(registration.source.strip(), repo_id)
        return replace(
            registration,
            source=source,
            pattern=pattern,
            root=_valid_root(registration.root),
            branches=_valid_branches(registration.branches or self._branches),
        )

    def _valid_source(self, source: str, repo_id: RepoId) -> SourceName:
        organisation = self._organisation
        if organisation is None or source.rstrip("/").lower() != organisation.lower():
            return _valid_source(source)
        if not _GUID.fullmatch(repo_id):
            raise InvalidRequest(
                f"{repo_id!r} is not how {organisation} knows a repository.",
                field="repo_id",
                hint=f"Its id is its GUID; or give its web address as the source: {organisation}/PROJECT/_git/NAME.",
            )
        return SourceName(organisation)


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


def _host(source: str) -> str:
    return urlsplit(source).netloc.rpartition("@")[2].lower()


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


def _from_template(template: str, project: str, repository: str) -> SourceName | None:
    """Where an announced repository is, by the operator's template; a payload's names fill in one segment each."""
    if not repository:
        return None
    for name in (project, repository):
        if name in (".", "..") or any(character in name for character in "/\\\0\n"):
            return None
    filled = {"project": project, "repository": repository}
    if "://" in template:
        filled = {key: quote(name, safe="") for key, name in filled.items()}
    return SourceName(template.replace("{project}", filled["project"]).replace("{repository}", filled["repository"]))
