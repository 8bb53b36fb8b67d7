"""The HTTP app over everything real but the Functions host: Git, rules, sync and database."""

from typing import Any

import pytest
from support.web import ADMIN_KEY, GUID, HOOK_KEY, READER_KEY, Api
from support.world import NOT_YAML, World, workflow

from shared.web.app import App

PATH = "etl/job-runtime.yaml"


PUSH = {
    "eventType": "git.push",
    "resource": {
        "refUpdates": [{"name": "refs/heads/release/1.0", "oldObjectId": "a" * 40, "newObjectId": "b" * 40}],
        "repository": {"id": GUID, "name": "team"},
        "pushId": 14,
    },
}


@pytest.fixture
def app(world: World) -> App:
    return world.wsgi()


@pytest.fixture
def team(world: World) -> Any:
    return world.repository(branches=("release/1.0",), repo_id=GUID)


def test_a_push_is_served_and_a_broken_one_is_explained(app: App, team: Any) -> None:
    hook, reader, admin = Api(app, HOOK_KEY), Api(app, READER_KEY), Api(app, ADMIN_KEY)
    assert reader.get("/runtimes/team/release/1.0").json["kind"] == "branch-not-found"

    team.git.commit({PATH: workflow(1)}, branch="release/1.0")
    delivered = hook.post("/webhooks/azure-devops", json=PUSH)
    assert (delivered.status_code, delivered.json["branches"][0]["outcome"]) == (200, "Replaced")
    item = reader.get(f"/runtimes/team/release/1.0/{PATH}")
    assert item.json["workflow"]["id"] == "workflow-1"
    assert item.headers["X-Blob-Id"] == team.git.blob_id("release/1.0", PATH)

    broken = team.git.commit({PATH: NOT_YAML}, branch="release/1.0")
    refused = hook.post("/webhooks/azure-devops", json=PUSH)
    (finding,) = refused.json["branches"][0]["report"]["findings"]
    assert (refused.status_code, finding["path"]) == (200, PATH)
    assert finding["line"] >= 1
    held = {"If-None-Match": item.headers["ETag"]}
    assert reader.get(f"/runtimes/team/release/1.0/{PATH}", headers=held).status_code == 304

    by_hand = admin.post("/repositories/team/sync")
    assert (by_hand.status_code, by_hand.json["kind"]) == (422, "rejected")
    asked = admin.post("/repositories/team/sync", json={"commit": broken})
    assert asked.json["branches"][0]["outcome"] == "Rejected"
    assert admin.get("/repositories/team").json["status"][0]["condition"] == "Invalid"
    told = [one["outcome"] for one in admin.get("/repositories/team/syncs").json]
    assert told[-2:] == ["Rejected", "Replaced"]
    assert len(admin.get("/repositories/team/deliveries").json) == 2

    team.git.commit({PATH: workflow(2)}, branch="release/1.0")
    assert admin.post("/repositories/team/sync?dry_run=true").json["branches"][0]["outcome"] == "Replaced"
    assert reader.get(f"/runtimes/team/release/1.0/{PATH}").json["workflow"]["id"] == "workflow-1"
    assert admin.post("/reconcile?seconds=20").json["started"] is True
    assert admin.post("/repositories/team/sync").status_code == 200
    assert reader.get(f"/runtimes/team/release/1.0/{PATH}").json["workflow"]["id"] == "workflow-2"
