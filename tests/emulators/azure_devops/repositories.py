"""Projects, repositories, refs and pushes."""

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from emulators.azure_devops import objects
from emulators.azure_devops.answers import Answer, Json, bad_argument, json_answer, list_answer
from emulators.azure_devops.hosted import SERVICE, HostedRepository
from emulators.azure_devops.request import Request

if TYPE_CHECKING:
    from emulators.azure_devops.organisation import Organisation

_MOST_REFS = 1000
_REFS_AFTER_A_TOKEN = 100


def get_projects(organisation: "Organisation", request: Request) -> Answer:
    projects = sorted(organisation.projects(), key=lambda project: project.name.lower())
    start = request.number("continuationToken") or request.number("$skip") or 0
    end = start + (request.number("$top") or 100)
    shapes = [project.shape(organisation.url) for project in projects[start:end]]
    return list_answer(shapes, headers={"x-ms-continuationtoken": str(end)} if end < len(projects) else {})


def get_project(organisation: "Organisation", request: Request) -> Answer:
    project = organisation.project(request.parameters["projectId"])
    here = f"{organisation.url}/_apis/projects/{project.id}"
    team = {"id": project.id, "name": f"{project.name} Team", "url": f"{here}/teams/{project.id}"}
    links = {"self": {"href": here}, "web": {"href": f"{organisation.url}/{quote(project.name)}"}}
    return json_answer({**project.shape(organisation.url), "_links": links, "defaultTeam": team})


def get_repositories(organisation: "Organisation", request: Request) -> Answer:
    project = request.parameters.get("project")
    within = organisation.project(project) if project else None
    found = [one for one in organisation.repositories() if within in (None, one.owner)]
    with_links = request.flag("includeLinks")
    return list_answer([{**one.shape(), **({"_links": one.links()} if with_links else {})} for one in found])


def get_repository(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    return json_answer({**repository.shape(), "_links": repository.links()})


def get_refs(organisation: "Organisation", request: Request) -> Answer:
    """`filter` is a prefix, without `refs/`: `heads/main` also finds `heads/main2`."""
    repository = organisation.find(request)
    now = repository.stale_refs() if request.is_stale else repository.refs()
    prefix = request.parameters.get("filter") or request.text("filter").strip()
    wanted = [name for name in now if name.startswith(f"refs/{prefix}") and request.text("filterContains") in name]
    token, top = request.query.get("continuationtoken"), request.number("$top")
    if token is not None:
        wanted = [name for name in wanted if name >= unquote(token)]
        top = top or _REFS_AFTER_A_TOKEN
    more: dict[str, str] = {}
    if top is not None and top > 0 and len(wanted) > min(top, _MOST_REFS):
        more = {"x-ms-continuationtoken": quote(wanted[min(top, _MOST_REFS)], safe="/")}
        wanted = wanted[: min(top, _MOST_REFS)]
    shapes = [_ref(repository, name, now[name]) for name in wanted]
    if request.flag("peelTags"):
        _peel(repository, shapes)
    if request.flag("includeStatuses"):
        for shape in shapes:
            shape["statuses"] = repository.statuses.get(shape["objectId"], [])[::-1]
    return list_answer(shapes[:-1] if request.is_partial else shapes, headers=more)


def _ref(repository: HostedRepository, name: str, object_id: str) -> Json:
    organisation = repository.organisation
    here = f"{organisation}/{repository.project_id}/_apis/git/repositories/{repository.id}/refs"
    return {
        "name": name,
        "objectId": object_id,
        "creator": SERVICE.shape(organisation),
        "url": f"{here}?filter={quote(name.removeprefix('refs/'), safe='')}",
    }


def _peel(repository: HostedRepository, shapes: list[Json]) -> None:
    tags = [shape for shape in shapes if shape["name"].startswith("refs/tags/")]
    for shape, found in zip(tags, objects.read(repository.path, [shape["objectId"] for shape in tags]), strict=True):
        if found is not None and found.kind == "tag":
            shape["peeledObjectId"] = found.content.split(b"\n", 1)[0].removeprefix(b"object ").decode()


def get_pushes(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    ref = request.text("searchCriteria.refName")
    with_updates = request.flag("searchCriteria.includeRefUpdates") or request.flag("includeRefUpdates")
    found = [push for push in reversed(repository.pushes) if not ref or any(one.name == ref for one in push.updates)]
    start = request.number("$skip") or 0
    page = found[start : start + (request.number("$top") or 100)]
    return list_answer([repository.push_shape(push, with_updates=with_updates) for push in page])


def get_push(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    asked = request.parameters["pushId"]
    push = next((push for push in repository.pushes if str(push.push_id) == asked), None)
    if push is None:
        raise bad_argument(f"The push with id {asked} does not exist.", "GitArgumentException")
    limit = request.number("includeCommits") or 100
    ids = repository.new_commits(push, limit)
    found = objects.commits(repository.path, ids)
    return json_answer(
        {
            "commits": [commit_shape(repository, commit) for commit in found if commit is not None],
            **repository.push_shape(push, with_updates=request.flag("includeRefUpdates")),
            "_links": repository.push_links(push),
        }
    )


def commit_shape(repository: HostedRepository, commit: objects.Commit) -> Json:
    """As in lists; the single answer has more."""
    return {
        "commitId": commit.commit_id,
        "author": signature_shape(commit.author),
        "committer": signature_shape(commit.committer),
        "comment": commit.message.strip().split("\n", 1)[0],
        "url": f"{repository.url}/commits/{commit.commit_id}",
        "remoteUrl": f"{repository.web_url}/commit/{commit.commit_id}",
    }


def signature_shape(signature: objects.Signature) -> Json:
    return {"name": signature.name, "email": signature.email, "date": f"{signature.at:%Y-%m-%dT%H:%M:%SZ}"}
