"""The listing of a commit from Azure DevOps: how much it costs beside parsing its JSON, and what the SDK's models cost.

The answers come ready-made from a server of the same process, compressed, as the service sends them.
"""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.comparison import Comparison, Table, at_most_times, in_turn
from benchmarks.stage import Stage
from shared.azure_devops.client import Organisation
from shared.azure_devops.source import AzureDevOpsSource
from shared.model import BranchName, CommitId, Deadline, Registration, RepoId, Repository, SourceName, Tree

_REPO = RepoId("278d5cd2-584d-4b63-824a-2ba458937249")
_COMMIT = CommitId("be67f8871a4d2c75f13a51c1d3c30ac0d74d4ef4")
_TREE = "7fa1a3523ffef51c525ea476bffff7d648b8cb3d"
_LOCATIONS = {
    "c2570c3b-5b3f-41b8-98bf-5407bfde8d58": ("commits", "{commitId}"),
    "729f6437-6f92-44ec-8bee-273a7111063c": ("trees", "{sha1}"),
}
_PLENTY = timedelta(minutes=10)


def run(stage: Stage) -> Iterator[Table]:
    files = 2_000 if stage.quick else 20_000
    rounds = 3 if stage.quick else 15
    text = _tree(files)
    with _serving(text) as url:
        ours, sdk = partial(_listed, _source(url), _repository(url)), partial(_modelled, _client(url))
        assert len(ours().entries) == len([one for one in sdk().tree_entries if one.git_object_type == "blob"]) == files
        taken, parsed, modelled = in_turn(rounds, (1, ours), (1, partial(json.loads, text)), (1, sdk))
    yield Table(
        f"a commit of {files:,} files listed by Azure DevOps, against json.loads of the answer",
        [
            Comparison("two calls, read, parsed, as entries", taken, parsed, None if stage.quick else at_most_times(4)),
            Comparison("the same through the SDK's models", modelled, parsed),
        ],
    )


def _listed(source: AzureDevOpsSource, repository: Repository) -> Tree:
    return source.tree(repository, _COMMIT, Deadline.after(_PLENTY))


def _modelled(client: Any) -> Any:
    return client.get_tree(_REPO, client.get_commit(_COMMIT, _REPO).tree_id, recursive=True)


def _source(url: str) -> AzureDevOpsSource:
    return AzureDevOpsSource(Organisation(url, authorization=lambda: "Basic made-up", timeout=_PLENTY))


def _client(url: str) -> Any:
    """The SDK's own, as one makes it."""
    from azure.devops.v7_1.git.git_client import GitClient
    from msrest.authentication import BasicAuthentication

    return GitClient(url, BasicAuthentication("", "made-up"))


def _repository(url: str) -> Repository:
    now = datetime.now(UTC)
    return Repository(_REPO, Registration("sample", SourceName(url), (BranchName("main"),)), 1, now, now)


def _tree(files: int) -> bytes:
    folders = [(f"team-{number:03}", "40000", "tree") for number in range(100)]
    paths = [(f"team-{number % 100:03}/job-{number:05}-runtime.yaml", "100644", "blob") for number in range(files)]
    entries = []
    for path, mode, kind in sorted(folders + paths):
        object_id = hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
        url = f"https://dev.azure.com/fabrikam/_apis/git/repositories/{_REPO}/{kind}s/{object_id}"
        entries.append(
            {
                "objectId": object_id,
                "relativePath": path,
                "mode": mode,
                "gitObjectType": kind,
                "url": url,
                "size": 2690,
            }
        )
    links = {"treeEntries": [{"href": entry["url"]} for entry in entries]}
    return json.dumps({"objectId": _TREE, "url": "", "treeEntries": entries, "size": 147, "_links": links}).encode()


@contextmanager
def _serving(tree: bytes) -> Iterator[str]:
    locations = [
        {
            "id": location_id,
            "area": "git",
            "resourceName": name,
            "routeTemplate": f"{{project}}/_apis/{{area}}/repositories/{{repositoryId}}/{{resource}}/{parameter}",
            "resourceVersion": 1,
            "minVersion": "1.0",
            "maxVersion": "7.2",
            "releasedVersion": "7.1",
        }
        for location_id, (name, parameter) in _LOCATIONS.items()
    ]
    answers = {
        "_apis": {"value": locations, "count": len(locations)},
        _COMMIT: {"commitId": _COMMIT, "treeId": _TREE},
    }
    bodies = {name: gzip.compress(json.dumps(answer).encode()) for name, answer in answers.items()}
    bodies[_TREE] = gzip.compress(tree)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            body = bodies[self.path.partition("?")[0].rpartition("/")[2]]
            self.send_response(200)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_OPTIONS = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/fabrikam"
        finally:
            server.shutdown()
            thread.join()
