"""Trees, blobs and items."""

import io
import mimetypes
import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from emulators.azure_devops import objects
from emulators.azure_devops.answers import (
    OCTETS,
    ZIP,
    Answer,
    Json,
    bad_argument,
    item_not_found,
    json_answer,
    list_answer,
    object_not_found,
)
from emulators.azure_devops.hosted import HostedRepository
from emulators.azure_devops.objects import OBJECT_ID, Entry
from emulators.azure_devops.request import Request
from emulators.azure_devops.versions import resolve

if TYPE_CHECKING:
    from emulators.azure_devops.organisation import Organisation

_ROUTE_OF = {"tree": "trees", "blob": "blobs", "commit": "commits"}


def get_tree(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    sha1 = _object_id(request.parameters["sha1"])
    kind, size = _kind(repository, sha1)
    if kind != "tree":
        message = f"Expected a Tree, but objectId {sha1} resolved to a {kind.capitalize()}"
        raise bad_argument(message, "GitUnexpectedObjectTypeException")
    found = objects.entries(repository.path, sha1, is_recursive=request.flag("recursive"))
    if request.accepts == ZIP:
        return _zip({entry.path: entry.object_id for entry in found if entry.kind == "blob"}, repository, request, sha1)
    shapes = [_entry(repository, entry) for entry in (found[:-1] if request.is_partial else found)]
    here = f"{repository.url}/trees/{sha1}"
    links = {
        "self": {"href": here},
        "repository": {"href": repository.url},
        "treeEntries": [{"href": shape["url"]} for shape in shapes],
    }
    return json_answer({"objectId": sha1, "url": here, "treeEntries": shapes, "size": size, "_links": links})


def _entry(repository: HostedRepository, entry: Entry) -> Json:
    return {
        "objectId": entry.object_id,
        "relativePath": entry.path,
        "mode": entry.mode,
        "gitObjectType": entry.kind,
        "url": f"{repository.url}/{_ROUTE_OF[entry.kind]}/{entry.object_id}",
        "size": entry.size,
    }


def _kind(repository: HostedRepository, object_id: str) -> tuple[str, int]:
    row = objects.run(repository.path, "cat-file", "--batch-check", stdin=f"{object_id}\n".encode()) or b""
    fields = row.decode().split()
    if len(fields) != 3:
        raise object_not_found(object_id)
    return fields[1], int(fields[2])


def get_blob(organisation: "Organisation", request: Request) -> Answer:
    repository = organisation.find(request)
    sha1 = _object_id(request.parameters["sha1"])
    content = _blobs(repository, [sha1], request)[sha1]
    if request.accepts == ZIP:
        return _zip({sha1: sha1}, repository, request, sha1)
    if request.accepts in (OCTETS, "text/plain"):
        return Answer(200, content, OCTETS)
    here = f"{repository.url}/blobs/{sha1}"
    links = {"self": {"href": here}, "repository": {"href": repository.url}}
    return json_answer({"objectId": sha1, "size": len(content), "url": here, "_links": links})


def post_blobs(organisation: "Organisation", request: Request) -> Answer:
    """A zip whose entries are named by the blobs' ids. One that is unknown fails all."""
    repository = organisation.find(request)
    if request.accepts != ZIP:
        raise bad_argument("The request must accept application/zip.")
    asked = request.json()
    if not isinstance(asked, list) or not asked:
        raise bad_argument("Value cannot be null or empty.\r\nParameter name: blobIds", "ArgumentNullException")
    wanted = {blob_id: blob_id for blob_id in (_object_id(str(one)) for one in asked)}
    return _zip(wanted, repository, request, request.text("filename") or next(iter(wanted)))


def get_items(organisation: "Organisation", request: Request) -> Answer:
    """One item of a `path`; a list of what is below a `scopePath`, itself first."""
    repository = organisation.find(request)
    commit = resolve(repository, request, "versionDescriptor." if "versiondescriptor.version" in request.query else "")
    single = "path" in request.query or bool(request.parameters.get("path"))
    asked = request.parameters.get("path") or request.text("path") or request.text("scopePath", "/")
    path = asked.strip("/")
    everything = _everything(repository, commit)
    here = everything.get(path)
    if here is None:
        raise item_not_found(f"/{path}", repository.name, commit)
    level = request.text("recursionLevel", "none" if single else "oneLevel").lower()
    below = [entry for entry in everything.values() if entry is not here and _is_below(entry.path, path, level)]
    if request.accepts == ZIP:
        inside = [one for one in everything.values() if one is here or _is_below(one.path, path, "full")]
        files = {one.path: one.object_id for one in inside if one.kind == "blob"}
        return _zip(files, repository, request, commit)
    if single and here.kind == "blob":
        content = _blobs(repository, [here.object_id], request)[here.object_id]
        if request.accepts in (OCTETS, "text/plain"):
            return Answer(200, content, OCTETS)
        text = {"content": content.decode("utf-8", "replace")} if request.flag("includeContent") else {}
        return json_answer({**_item(repository, here, commit, request), **text})
    if single and level == "none":
        return json_answer(_item(repository, here, commit, request))
    return list_answer([_item(repository, entry, commit, request) for entry in (here, *below)])


def _everything(repository: HostedRepository, commit: str) -> dict[str, Entry]:
    found = objects.commits(repository.path, [commit])[0]
    root = Entry("", "40000", "tree", found.tree_id if found else "", 0)
    return {entry.path: entry for entry in (root, *objects.entries(repository.path, commit, is_recursive=True))}


def _is_below(path: str, folder: str, level: str) -> bool:
    inside = path if not folder else path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else ""
    return bool(inside) and (level == "full" or (level.startswith("onelevel") and "/" not in inside))


def _item(repository: HostedRepository, entry: Entry, commit: str, request: Request) -> Json:
    path = f"/{entry.path}"
    name = entry.path.rpartition("/")[2]
    extension = {"extension": name.rpartition(".")[2]} if entry.kind == "blob" and "." in name else {}
    content_type = mimetypes.guess_type(name)[0] or "text/plain"
    kind = {"contentType": content_type} if entry.kind == "blob" else {}
    metadata = {"fileName": name, **kind, **extension}
    return {
        "objectId": entry.object_id,
        "gitObjectType": entry.kind,
        "commitId": commit,
        "path": path,
        **({"isFolder": True} if entry.kind == "tree" else {}),
        **({"isSymLink": True} if entry.mode == "120000" else {}),
        **({"contentMetadata": metadata} if request.flag("includeContentMetadata") else {}),
        "url": f"{repository.url}/items{path}?versionType=Commit&version={commit}&versionOptions=None",
    }


def _object_id(text: str) -> str:
    if not OBJECT_ID.fullmatch(text.lower()):
        raise bad_argument(f"A Git object id has 40 hexadecimal digits, '{text}' does not.")
    return text.lower()


def _blobs(repository: HostedRepository, blob_ids: Iterable[str], request: Request) -> dict[str, bytes]:
    asked = list(dict.fromkeys(blob_ids))
    contents = {}
    for blob_id, found in zip(asked, objects.read(repository.path, asked), strict=True):
        if found is None:
            raise bad_argument(f"TF401035: The object '{blob_id}' does not exist.")
        if found.kind != "blob":
            raise bad_argument(f"Expected a Blob, but objectId {blob_id} resolved to a {found.kind.capitalize()}")
        contents[blob_id] = _altered(found.content) if request.is_altered else found.content
    return contents


def _altered(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:] if content else b"?"


def _zip(names: Mapping[str, str], repository: HostedRepository, request: Request, name: str) -> Answer:
    contents = _blobs(repository, names.values(), request)
    entries = list(names.items())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, blob_id in entries[:-1] if request.is_partial else entries:
            archive.writestr(zipfile.ZipInfo(entry), contents[blob_id], zipfile.ZIP_DEFLATED)
    file_name = name if name.endswith(".zip") else f"{name}.zip"
    return Answer(200, buffer.getvalue(), ZIP, {"Content-Disposition": f'attachment; filename="{file_name}"'})
