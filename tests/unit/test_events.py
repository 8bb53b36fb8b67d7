"""What a service hook's payload is read as. The payloads are ours, in the documented shape and in that of real ones."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.azure_devops.events import decode
from shared.model import ABSENT, BranchName, CommitId, Event, RefUpdate

REPOSITORY = "0e9b6a52-8d6c-4a43-9f43-6a1f0d3f6a11"
PROJECT = "6f8a3e5b-1c55-4d4a-8a0b-2f4f6de0c2aa"
OLD, NEW, NEWER = "aa" * 20, "bb" * 20, "cc" * 20
ORGANISATION = "https://dev.azure.com/contoso"


def ref(name: str, old: str = OLD, new: str = NEW) -> dict[str, Any]:
    return {"name": name, "oldObjectId": old, "newObjectId": new}


def documented(*refs: object) -> dict[str, Any]:
    """As in Microsoft's documentation of the event."""
    return {
        "id": "5f1f4a1c-33c6-4a0e-9a3f-6f6f1d0a2f10",
        "eventType": "git.push",
        "publisherId": "tfs",
        "scope": "all",
        "message": {"text": "Ada pushed updates to branch main of samples"},
        "detailedMessage": {"text": "Ada pushed 1 commit to branch main of samples"},
        "resource": {
            "commits": [
                {"commitId": NEW, "comment": "Change", "author": {"name": "Ada", "email": "ada@contoso.example"}}
            ],
            "refUpdates": list(refs) or [ref("refs/heads/main")],
            "repository": {
                "id": REPOSITORY,
                "name": "samples",
                "url": f"{ORGANISATION}/_apis/git/repositories/{REPOSITORY}",
                "project": {"id": PROJECT, "name": "data", "state": "wellFormed"},
                "defaultBranch": "refs/heads/main",
                "remoteUrl": f"{ORGANISATION}/data/_git/samples",
            },
            "pushedBy": {"id": PROJECT, "displayName": "Ada", "uniqueName": "ada@contoso.example"},
            "pushId": 14,
            "date": "2026-05-02T19:17:13.3309587Z",
            "url": f"{ORGANISATION}/_apis/git/repositories/{REPOSITORY}/pushes/14",
        },
        "resourceVersion": "1.0",
        "resourceContainers": {"collection": {"id": PROJECT}, "account": {"id": PROJECT}, "project": {"id": PROJECT}},
        "createdDate": "2026-05-02T19:17:15.0Z",
    }


def real() -> dict[str, Any]:
    """With what captured payloads have beyond the documented ones."""
    payload = documented()
    payload |= {"subscriptionId": "0D2F1B1E-5C60-4A5B-8D4E-2B2F7C1D9E33", "notificationId": 41}
    del payload["scope"]
    payload["resource"]["repository"]["project"] |= {"visibility": "unchanged", "lastUpdateTime": "0001-01-01T00:00:00"}
    payload["resource"]["pushedBy"] |= {"descriptor": "aad.x", "_links": {"avatar": {"href": f"{ORGANISATION}/a.png"}}}
    payload["resource"]["_links"] = {"self": {"href": payload["resource"]["url"]}}
    for container in payload["resourceContainers"].values():
        container["baseUrl"] = "https://contoso.visualstudio.com/"
    return payload


def minimal() -> dict[str, Any]:
    """As sent when the subscriber chose "Minimal": key fields only."""
    payload = documented()
    payload["resource"] = {"pushId": 14, "url": payload["resource"]["url"]}
    return payload


def without_resource() -> dict[str, Any]:
    """As sent when the subscriber chose "None"."""
    payload = documented()
    del payload["resource"]
    return payload


def test_notification() -> dict[str, Any]:
    """What the "Test" button sends."""
    payload = documented(ref("refs/heads/master"))
    payload |= {"subscriptionId": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "id": "03c164c2-8912-4d5e-8009-3707d5f83734"}
    return payload


test_notification.__test__ = False  # type: ignore[attr-defined]


def read(payload: object) -> Event:
    return decode(json.dumps(payload).encode())


def branches(*refs: object) -> tuple[RefUpdate, ...] | None:
    return read(documented(*refs)).updates


def update(branch: str, old: str = OLD, new: str = NEW) -> RefUpdate:
    return RefUpdate(BranchName(branch), CommitId(old), CommitId(new))


# -- What a push says ------------------------------------------------------------------------------------------------


def test_a_documented_push_is_read_whole() -> None:
    assert read(documented()) == Event(
        event_type="git.push",
        event_id="5f1f4a1c-33c6-4a0e-9a3f-6f6f1d0a2f10",
        subscription_id=None,
        is_test=False,
        repo_id=REPOSITORY,
        repository="samples",
        project="data",
        organisation=ORGANISATION,
        push_id=14,
        pushed_by="Ada",
        updates=(update("main"),),
        problem=None,
    )


def test_a_real_push_is_read_like_the_documented_one() -> None:
    event = read(real())

    assert event.subscription_id == "0d2f1b1e-5c60-4a5b-8d4e-2b2f7c1d9e33"
    assert event.organisation == ORGANISATION
    assert (event.repo_id, event.updates, event.is_test) == (REPOSITORY, (update("main"),), False)


def test_every_branch_of_a_push_counts_and_nothing_but_branches() -> None:
    refs = [
        ref("refs/heads/main"),
        ref("refs/tags/v1"),
        ref("refs/heads/release/1.0/rc", old=ABSENT),
        ref("refs/pull/7/merge"),
        ref("refs/heads/gone", new=ABSENT),
        ref("refs/notes/commits"),
        ref("HEAD"),
        ref("refs/heads/"),
        ref("refs/headsmain"),
    ]

    assert branches(*refs) == (
        update("main"),
        update("release/1.0/rc", old=ABSENT),
        update("gone", new=ABSENT),
    )


def test_a_push_without_a_branch_names_none() -> None:
    assert branches(ref("refs/tags/v1"), ref("refs/pull/7/merge")) == ()


def test_of_a_branch_listed_twice_the_newest_commit_counts() -> None:
    refs = [ref("refs/heads/main", OLD, NEW), ref("refs/heads/b"), ref("refs/heads/main", NEW, NEWER)]

    assert branches(*refs) == (update("main", OLD, NEWER), update("b"))


@pytest.mark.parametrize("listed", [None, [], {}, "refs/heads/main", 7, True, [[]]])
def test_refs_that_are_not_listed_are_unknown_and_not_none(listed: object) -> None:
    payload = documented()
    payload["resource"]["refUpdates"] = listed

    event = read(payload)
    assert event.updates is None
    assert (event.repo_id, event.push_id, event.problem) == (REPOSITORY, 14, None)


@pytest.mark.parametrize("unreadable", [None, 7, "refs/heads/other", {}, {"name": None}, {"name": ["refs/heads/x"]}])
def test_one_ref_that_cannot_be_read_makes_all_unknown(unreadable: object) -> None:
    assert branches(ref("refs/heads/main"), unreadable) is None


@pytest.mark.parametrize(
    "name",
    ["a b", "a..b", "a\x00b", "a\nb", "\ud800", "x~1", "x^", "a:b", "a?", "a*", "a[", "a\\b", "/a", "a/", "a//b", "a.",
     ".a", "a/.b", "a.lock", "a.lock/b", "a@{b", "x" * 1001],
)  # fmt: skip
def test_a_name_that_git_does_not_allow_is_no_branch(name: str) -> None:
    assert branches(ref("refs/heads/main"), ref(f"refs/heads/{name}")) == (update("main"),)


@pytest.mark.parametrize(
    "name", ["größe", "日本", "feature/a-b_c.d", "-x", "@", "a@b", "refs/heads/x", "x.locked", "a'b"]
)
def test_a_name_that_git_allows_is_a_branch(name: str) -> None:
    assert branches(ref(f"refs/heads/{name}")) == (update(name),)


@pytest.mark.parametrize("unreadable", [None, 7, "", "abc", "g" * 40, "a" * 64, ["a" * 40], {}])
def test_a_branch_counts_although_its_commits_cannot_be_read(unreadable: object) -> None:
    refs = [{"name": "refs/heads/main", "oldObjectId": unreadable, "newObjectId": unreadable}, {"name": "refs/heads/b"}]

    assert branches(*refs) == (update("main", "", ""), update("b", "", ""))


def test_ids_are_told_in_lower_case() -> None:
    payload = documented(ref("refs/heads/main", OLD.upper(), NEW.upper()))
    payload["id"] = payload["id"].upper()
    payload["resource"]["repository"]["id"] = REPOSITORY.upper()

    event = read(payload)
    assert (event.repo_id, event.updates) == (REPOSITORY, (update("main"),))
    assert event.event_id == "5f1f4a1c-33c6-4a0e-9a3f-6f6f1d0a2f10"


# -- Payloads that say less ------------------------------------------------------------------------------------------


def test_a_minimal_payload_still_tells_repository_and_push() -> None:
    event = read(minimal())

    assert (event.repo_id, event.push_id, event.updates, event.problem) == (REPOSITORY, 14, None, None)
    assert event.organisation == ORGANISATION


@pytest.mark.parametrize("between", ["", f"/{PROJECT}", "/data"])
@pytest.mark.parametrize("after", ["", "?api-version=7.1", "/"])
def test_repository_and_push_are_found_in_the_url_of_the_resource(between: str, after: str) -> None:
    url = f"{ORGANISATION}{between}/_apis/git/repositories/{REPOSITORY.upper()}/pushes/14{after}"

    event = read({"eventType": "git.push", "resource": {"url": url}})
    assert (event.repo_id, event.push_id, event.organisation) == (REPOSITORY, 14, ORGANISATION)


def test_the_repository_is_found_in_its_own_url() -> None:
    url = f"{ORGANISATION}/_apis/git/repositories/{REPOSITORY}"

    assert read({"eventType": "git.push", "resource": {"repository": {"url": url}}}).repo_id == REPOSITORY


def test_a_payload_without_a_resource_tells_that_something_was_pushed() -> None:
    event = read(without_resource())

    assert (event.event_type, event.repo_id, event.updates, event.problem) == ("git.push", None, None, None)


@pytest.mark.parametrize(
    "repo_id", [None, 7, "", "samples", REPOSITORY[:-1], REPOSITORY + "0", f"{{{REPOSITORY}}}", []]
)
def test_a_repository_id_that_is_no_guid_is_none(repo_id: object) -> None:
    payload = documented()
    payload["resource"] = {"repository": {"id": repo_id}}

    assert read(payload).repo_id is None


@pytest.mark.parametrize("push_id", [None, True, 0, -1, 1.5, "many", 2**63, int("9" * 100), [14]])
def test_a_push_id_that_is_no_number_of_a_push_is_none(push_id: object) -> None:
    payload = documented()
    payload["resource"] |= {"pushId": push_id, "url": None}

    assert read(payload).push_id is None


def test_names_are_made_fit_to_be_stored() -> None:
    payload = documented()
    payload["resource"]["repository"]["name"] = "a\x00b\ud800"
    payload["resource"]["repository"]["project"]["name"] = "x" * 10_000
    payload["resource"]["pushedBy"] = {"displayName": " ", "uniqueName": "ada@contoso.example"}

    event = read(payload)
    assert event.repository == "a\ufffdb\ufffd"
    assert len(event.project or "") == 400
    assert event.pushed_by == "ada@contoso.example"


# -- Where it says that it comes from --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "organisation"),
    [
        ("https://dev.azure.com/contoso/", ORGANISATION),
        ("https://DEV.azure.com/contoso", ORGANISATION),
        ("https://contoso@dev.azure.com/contoso/data/_git/samples", ORGANISATION),
        ("https://contoso.visualstudio.com/DefaultCollection/", ORGANISATION),
        ("https://tfs.contoso.example:8080/tfs/DefaultCollection/", "https://tfs.contoso.example:8080/tfs/DefaultCollection"),
        ("http://user:secret@127.0.0.1:7072/contoso/", "http://127.0.0.1:7072/contoso"),
        ("https://dev.azure.com/", None),
        ("https://dev.azure.com/../x", None),
        ("https://a.b.visualstudio.com/", None),
        ("https://.visualstudio.com/", None),
        ("ssh://dev.azure.com/contoso", None),
        ("javascript:alert(1)", None),
        ("https://[", None),
        ("https://ho\x00st/x", None),
        ("https:///x", None),
        ("//dev.azure.com/contoso", None),
        ("", None),
        (7, None),
        (None, None),
    ],
)  # fmt: skip
def test_the_organisation_is_told_in_one_form(url: object, organisation: str | None) -> None:
    containers = {"collection": {"baseUrl": url}}

    assert read({"eventType": "git.push", "resourceContainers": containers}).organisation == organisation


def test_only_a_base_url_tells_the_organisation_on_another_host() -> None:
    repository = {"url": "https://example.com/evil/_apis/git", "remoteUrl": f"{ORGANISATION}/data/_git/samples"}

    assert read({"eventType": "git.push", "resource": {"repository": repository}}).organisation == ORGANISATION


# -- Tests and other events ------------------------------------------------------------------------------------------


def test_the_test_notification_is_told_as_a_test() -> None:
    assert read(test_notification()).is_test
    assert read(real() | {"subscriptionId": "00000000-0000-0000-0000-000000000000"}).is_test
    assert read(real() | {"id": "03C164C2-8912-4D5E-8009-3707D5F83734"}).is_test
    assert not read(real()).is_test
    assert not read(documented()).is_test


def test_another_event_is_told_by_its_type() -> None:
    event = read(documented() | {"eventType": "git.pullrequest.created"})

    assert (event.event_type, event.repo_id, event.problem) == ("git.pullrequest.created", REPOSITORY, None)


@pytest.mark.parametrize("event_type", [None, "", 7, [], {"git": "push"}])
def test_a_payload_without_an_event_type_is_a_problem_and_is_read_all_the_same(event_type: object) -> None:
    event = read(documented() | {"eventType": event_type})

    assert event.problem == "The body names no eventType"
    assert (event.event_type, event.repo_id, event.updates) == (None, REPOSITORY, (update("main"),))


# -- Malformed bodies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"git.push", b"\xff\xfe", b"[]", b"null", b"7", b'"git.push"', b"NaN", b'{"a": }', b"\x00" * 100,
     b"[" * 100_000, b'{"a":' * 100_000, b"[" * 2_000_000, b"9" * 1_000_000, b'{"eventType": "git.push"} {}'],
)  # fmt: skip
def test_what_is_no_json_object_is_a_problem_and_never_an_error(body: bytes) -> None:
    event = decode(body)

    assert event.problem
    assert event == Event(event_type=None, problem=event.problem)


def test_a_letter_that_is_not_utf_8_does_not_lose_the_push() -> None:
    payload = documented()
    payload["resource"]["pushedBy"]["displayName"] = "J*rgen"
    body = json.dumps(payload).encode().replace(b"J*rgen", b"J\xfcrgen")

    event = decode(b"\xef\xbb\xbf" + body)
    assert (event.pushed_by, event.updates) == ("J\ufffdrgen", (update("main"),))


def test_a_branch_that_is_not_utf_8_is_not_taken_for_another() -> None:
    body = json.dumps(documented(ref("refs/heads/gr*n"))).encode().replace(b"gr*n", b"gr\xfcn")

    assert decode(body).updates is None


def test_a_number_of_thousands_of_digits_does_not_lose_the_push() -> None:
    body = json.dumps(documented() | {"notificationId": 41}).replace("41", "9" * 100_000)

    assert decode(body.encode()).updates == (update("main"),)


def test_of_a_field_that_comes_twice_the_last_counts() -> None:
    event = decode(
        b'{"eventType": "build.complete", "eventType": "git.push", "resource": 7, "resource": {"pushId": 3}}'
    )

    assert (event.event_type, event.push_id) == ("git.push", 3)


WRONG = [None, True, 7, -1.5, "text", "", [], [[]], {}, {"id": {}}, "\ud800\x00", 10**30]


def paths(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [path, *(found for name, child in value.items() for found in paths(child, (*path, name)))]


def replaced(value: Mapping[str, Any], path: tuple[str, ...], wrong: object) -> object:
    if not path:
        return wrong
    return {**value, path[0]: replaced(value[path[0]], path[1:], wrong)}


@pytest.mark.parametrize("path", paths(real()), ids=".".join)
def test_a_wrong_type_anywhere_is_never_an_error(path: tuple[str, ...]) -> None:
    for wrong in WRONG:
        event = read(replaced(real(), path, wrong))
        json.dumps(event.repository).encode()
        assert event.repo_id in (None, REPOSITORY)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([REPOSITORY, OLD, ABSENT]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(sorted(documented()["resource"])), inner)
    ),
    max_leaves=20,
)


@given(
    VALUES
    | st.fixed_dictionaries(
        {},
        optional={"eventType": VALUES, "id": VALUES, "resource": VALUES, "resourceContainers": VALUES},
    )
    | st.lists(VALUES).map(lambda refs: documented(*refs))
)
def test_any_json_is_read_without_an_error(payload: object) -> None:
    event = read(payload)

    for name in (event.event_type, event.repository, event.project, event.organisation, event.pushed_by):
        assert name is None or ("\x00" not in name and name.encode())
    for changed in event.updates or ():
        assert "\x00" not in changed.branch
        assert changed.branch.encode()


@given(st.binary())
def test_any_bytes_are_read_without_an_error(body: bytes) -> None:
    assert isinstance(decode(body), Event)


def test_reading_takes_time_in_proportion_to_the_body() -> None:
    refs = [ref(f"refs/heads/feature/{number}") for number in range(12_000)]
    slow = documented(*refs)
    slow["resource"]["url"] = "/git/repositories/" * 20_000
    slow["resource"]["repository"]["name"] = "\x00" * 100_000

    event = read(slow)
    assert len(event.updates or ()) == 12_000
