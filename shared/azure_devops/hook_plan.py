"""Which subscriptions an organisation must have for this app, and the steps from those it has to those."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shared.azure_devops.subscriptions import Reach, Subscription
from shared.errors import RepositoryNotFound
from shared.model import BranchName, RepoId


class Place(NamedTuple):
    """A repository of the organisation, and the project it is in."""

    project_id: str
    project: str
    repository_id: RepoId
    repository: str


class Places:
    """The repositories that the organisation shows to us, and what they and their projects are called."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = tuple(places)
        self._projects = {place.project_id: place.project for place in places}
        self._repositories = {place.repository_id: place for place in places}

    def project(self, alias: str) -> str:
        """The id of the project with this name or id. Raises `RepositoryNotFound`."""
        for project_id, name in self._projects.items():
            if alias.lower() in (project_id, name.lower()):
                return project_id
        raise RepositoryNotFound(
            f"The organization shows no repository of a project {alias!r}.",
            hint="Its name may be another, or this identity is no Reader of it.",
        )

    def repository(self, project_id: str, alias: str) -> RepoId:
        """The id of the project's repository with this name or id. Raises `RepositoryNotFound`."""
        for place in self._places:
            if place.project_id == project_id and alias.lower() in (place.repository_id, place.repository.lower()):
                return place.repository_id
        raise RepositoryNotFound(
            f"The project {self._projects[project_id]!r} shows no repository {alias!r}.",
            hint="Its name may be another, or this identity may not read it.",
        )

    def find(self, repo_id: RepoId) -> Place | None:
        return self._repositories.get(repo_id)

    def of_project(self, project_id: str) -> list[Place]:
        return [place for place in self._places if place.project_id == project_id]

    def name(self, reach: Reach) -> str:
        """What people call it: `etl main`, or `etl/orders main` when it is for one repository."""
        project, repository = self.project_name(reach.project_id), self.repository_name(reach.repository_id)
        whole = f"{project}/{repository}" if repository else project or "(any project)"
        return f"{whole} {reach.branch or '(any branch)'}"

    def project_name(self, project_id: str) -> str:
        return self._projects.get(project_id, project_id)

    def repository_name(self, repository_id: str) -> str:
        place = self.find(RepoId(repository_id))
        return place.repository if place else repository_id


class Act(StrEnum):
    """What has to be done about one subscription."""

    KEEP = "keep"
    CREATE = "create"
    REPLACE = "replace"
    ENABLE = "enable"
    RENEW = "renew"
    """Write the password again."""
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, and why: reasons follow the subscription's name."""

    act: Act
    reach: Reach
    subscription: Subscription | None = None
    reasons: tuple[str, ...] = ()

    @property
    def is_problem(self) -> bool:
        return self.act not in (Act.KEEP, Act.RENEW)


class Upkeep:
    """This app's subscriptions of one organisation, and what they must be.

    `found` are all there are, `branches` those of this environment. `registered` are the organisation's repositories
    that are registered, with the branches that they ingest; one that `places` does not show may be in any project.
    """

    def __init__(
        self,
        places: Places,
        found: Sequence[Subscription],
        branches: Sequence[BranchName],
        registered: Mapping[RepoId, Sequence[BranchName]],
    ) -> None:
        self._places = places
        self._ours = [one for one in found if one.is_ours]
        self._branches = branches
        self._registered = registered
        self._unplaced = {name for repo_id in self.unplaced for name in registered[repo_id]}

    @property
    def unplaced(self) -> list[RepoId]:
        """The registered repositories that the organisation does not show to us."""
        return [repo_id for repo_id in self._registered if self._places.find(repo_id) is None]

    def projects(self) -> list[str]:
        """The ids of the projects that have a registered repository, or a subscription already."""
        places = [place for repo_id in self._registered if (place := self._places.find(repo_id))]
        found = [place.project_id for place in places] + [one.reach.project_id for one in self._ours]
        return sorted(filter(None, set(found)), key=self._places.project_name)

    def plan(
        self, projects: Sequence[str] = (), repository_id: str = "", *, widen: bool = False, renew: bool = False
    ) -> list[Step]:
        """What makes the projects' subscriptions as they must be: one for each branch, of the whole project, or of
        single repositories where there are only such. `projects` are ids, by default all of `projects()`.

        `repository_id` is the only one to look after; `widen` goes over to whole projects; `renew` writes every
        password again. Of one project, what is missing comes first and what is needless last, so that no push goes
        unheard in between.
        """
        return [
            step
            for project_id in projects or self.projects()
            for step in self._of_project(project_id, repository_id, widen=widen, renew=renew)
        ]

    def _of_project(self, project_id: str, repository_id: str, *, widen: bool, renew: bool) -> list[Step]:
        ours = [one for one in self._ours if one.reach.project_id == project_id]
        heard = {one.reach.repository_id for one in ours}
        named = {
            place.repository_id: self._registered[place.repository_id]
            for place in self._places.of_project(project_id)
            if place.repository_id in self._registered
        }
        # Nothing is concluded about branches whose registrations we cannot place.
        spared = [one.reach for one in ours if one.reach.branch in self._unplaced]
        if not self._places.of_project(project_id):
            return _steps(ours, [one.reach for one in ours], renew=renew)
        if "" in heard or not (heard or repository_id) or (widen and not repository_id):
            branches = [*self._branches, *(name for names in named.values() for name in names)]
            return _steps(ours, [*(Reach(project_id, "", branch) for branch in branches), *spared], renew=renew)
        if repository_id:
            ours = [one for one in ours if one.reach.repository_id == repository_id]
        reaches = [
            Reach(project_id, one, branch)
            for one in ([repository_id] if repository_id else sorted({*heard, *named}))
            for branch in named.get(RepoId(one), self._branches)
        ]
        return _steps(ours, [*reaches, *spared], renew=renew)


def _steps(ours: Sequence[Subscription], wanted: Sequence[Reach], *, renew: bool) -> list[Step]:
    """What makes `ours` one subscription for each of the wanted reaches, and no other."""
    reaches = list(dict.fromkeys(wanted))
    there: dict[Reach, list[Subscription]] = defaultdict(list)
    for one in sorted(ours, key=lambda one: (not one.is_enabled, len(one.drift), one.subscription_id)):
        there[one.reach].append(one)
    kept = [_step(reach, next(iter(there.get(reach, ())), None), renew) for reach in reaches]
    is_kept = {step.subscription.subscription_id for step in kept if step.subscription}
    surplus = [
        Step(Act.REMOVE, one.reach, one, _needless(one, reaches)) for one in ours if one.subscription_id not in is_kept
    ]
    return sorted(kept, key=lambda step: step.act is not Act.CREATE) + surplus


def _step(reach: Reach, there: Subscription | None, renew: bool) -> Step:
    if there is None:
        return Step(Act.CREATE, reach, None, ("is missing, or hidden from this identity",))
    if there.trouble is not None:
        return Step(Act.ENABLE, reach, there, (there.trouble, *there.drift))
    if there.drift:
        return Step(Act.REPLACE, reach, there, there.drift)
    return Step(Act.RENEW if renew else Act.KEEP, reach, there)


def _needless(one: Subscription, reaches: Sequence[Reach]) -> tuple[str, ...]:
    project, repository, branch = one.reach
    if one.reach in reaches:
        reason = "is there twice"
    elif repository and Reach(project, "", branch) in reaches:
        reason = "is covered by the project's own"
    elif branch:
        reason = "is for a branch that is not ingested here"
    else:
        return one.drift
    return (reason, *one.drift)
