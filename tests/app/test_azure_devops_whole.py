"""The whole app with an organisation of Azure DevOps: pushes, hooks, reads and statuses over HTTP, and its troubles."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulators.azure_devops import EMULATOR_AUTHORIZATION, Fault, HostedRepository
from support.contoso import A, B, Contoso, whole_app
from support.web import HOOK_KEY, Api
from support.world import INVALID, workflow

from shared.model import BranchName, Condition, Event, Registration, RepoId, SourceName
from shared.registration import Registrar


@pytest.fixture
def contoso(database: str, tmp_path: Path) -> Iterator[Contoso]:
    with whole_app(database, tmp_path / "organisation") as whole:
        yield whole


def test_a_push_is_served_and_its_commit_is_told(contoso: Contoso) -> None:
    contoso.subscribe()
    hosted = contoso.emulator.repository("data", "orders")
    commit = hosted.git.commit({A: workflow(1), B: workflow(2)})
    contoso.emulator.pushed(hosted)
    assert [one.status for one in contoso.emulator.delivered()] == [200]
    assert contoso.served() == {A: "workflow-1", B: "workflow-2"}
    assert [(one["state"], one["description"]) for one in hosted.statuses[commit]] == [
        ("succeeded", "2 configs served")
    ]

    broken = hosted.git.commit({B: INVALID})
    contoso.emulator.pushed(hosted)
    assert [one.status for one in contoso.emulator.delivered()] == [200, 200]
    assert contoso.served() == {A: "workflow-1", B: "workflow-2"}
    (told,) = hosted.statuses[broken]
    assert (told["state"], told["context"]) == ("failed", {"genre": "runtime-store", "name": "prod"})
    assert told["description"].startswith(f"{B}:1:")


@pytest.mark.parametrize(
    ("changed", "calls"),
    [
        ({A: workflow(2), B: workflow(3)}, {"refs": 1, "commit": 1, "tree": 1, "blobs": 1, "statuses": 1}),
        ({"README.md": b"# Other words\n"}, {"refs": 1, "commit": 1, "tree": 1, "statuses": 1}),
    ],
)
def test_a_push_costs_a_handful_of_calls(contoso: Contoso, changed: dict[str, bytes], calls: dict[str, int]) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    contoso.subscribe()
    hosted.git.commit(changed)
    contoso.emulator.forget_calls()
    contoso.emulator.pushed(hosted)
    contoso.emulator.delivered()
    assert Counter(call.route for call in contoso.emulator.calls) == calls
    contoso.emulator.forget_calls()
    assert contoso.api.post("/repositories/orders/sync").status_code == 200
    assert [call.route for call in contoso.emulator.calls] == ["refs"]


@pytest.mark.parametrize("details", ["minimal", "none"])
def test_a_payload_that_says_next_to_nothing_loses_no_push(contoso: Contoso, details: str) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    contoso.subscribe(details=details)
    hosted.git.commit({A: workflow(2)})
    contoso.emulator.pushed(hosted)
    assert contoso.emulator.delivered()[-1].status in (200, 202)
    contoso.app.sweep()
    assert contoso.served() == {A: "workflow-2"}


def test_the_test_button_is_answered_and_changes_nothing(contoso: Contoso) -> None:
    contoso.subscribe()
    contoso.emulator.send_test(contoso.emulator.subscriptions[0])
    assert [one.status for one in contoso.emulator.delivered()] == [200]
    assert contoso.api.get("/repositories").json == []
    assert contoso.emulator.calls == []


def test_a_registration_by_address_stores_the_id_and_survives_a_rename(contoso: Contoso) -> None:
    hosted = contoso.repository()
    shown = contoso.api.get("/repositories/orders").json
    assert (shown["repo_id"], shown["source"], shown["project"]) == (hosted.id, contoso.emulator.url, "data")
    contoso.sweep()
    contoso.emulator.rename(hosted, "renamed")
    hosted.git.commit({A: workflow(2)})
    contoso.sweep()
    assert contoso.served() == {A: "workflow-2"}


def test_a_git_url_of_before_the_organisation_was_set_can_still_be_changed(contoso: Contoso) -> None:
    hosted = contoso.emulator.repository("data", "orders")
    before = Registration("orders", SourceName(hosted.web_url), (BranchName("main"),))
    kept = contoso.app.registry.put(RepoId("orders"), before, expected=None)
    body = {"name": "orders", "source": hosted.web_url, "suspended": "It moves."}
    answer = contoso.api.put("/repositories/orders", json=body, headers={"If-Match": f'"{kept.revision}"'})
    assert (answer.status_code, answer.json["repo_id"], answer.json["suspended"]) == (200, "orders", "It moves.")


def test_a_template_of_the_same_host_registers_git_urls(contoso: Contoso) -> None:
    template = f"{contoso.emulator.url}/{{project}}/_git/{{repository}}"
    organisation = contoso.app.settings.azure_devops_organization
    registrar = Registrar(
        contoso.app.registry,
        branches=[BranchName("main")],
        organisation=organisation,
        url_template=template,
    )
    guid = RepoId("5febef5a-833d-4e14-b9c0-14cb638f91e6")
    event = Event("git.push", repo_id=guid, repository="orders", project="data", organisation=organisation)
    repository = registrar.announced(event)
    assert repository is not None
    assert repository.source == f"{contoso.emulator.url}/data/_git/orders"


@pytest.mark.parametrize("path", ["fabrikam/data/_git/orders", "contoso/data/_git/"])
def test_an_address_beside_the_organisation_is_refused(contoso: Contoso, path: str) -> None:
    source = f"{contoso.emulator.url.removesuffix('contoso')}{path}"
    answer = contoso.api.put("/repositories/orders", json={"name": "orders", "source": source})
    assert (answer.status_code, answer.json["field"]) == (400, "source")


def test_a_sync_by_hand_tells_its_commit(contoso: Contoso) -> None:
    hosted = contoso.repository()
    assert contoso.api.post("/repositories/orders/sync").status_code == 200
    assert [one["state"] for one in hosted.statuses[hosted.git.head("main")]] == ["succeeded"]


def test_an_address_that_leads_nowhere_registers_nothing(contoso: Contoso) -> None:
    source = f"{contoso.emulator.url}/data/_git/nothing"
    answer = contoso.api.put("/repositories/nothing", json={"name": "nothing", "source": source})
    assert (answer.status_code, answer.json["kind"]) == (502, "source-refused")
    assert contoso.api.get("/repositories").json == []


@pytest.mark.parametrize(
    ("fault", "condition"),
    [
        (Fault.REDIRECT, Condition.AUTHENTICATION_FAILED),
        (Fault.HTML, Condition.AUTHENTICATION_FAILED),
        (Fault.UNAUTHORIZED, Condition.AUTHENTICATION_FAILED),
        (Fault.FORBIDDEN, Condition.AUTHENTICATION_FAILED),
        (Fault.NOT_FOUND, Condition.AUTHENTICATION_FAILED),
        (Fault.THROTTLED, Condition.THROTTLED),
        (Fault.ERROR, Condition.FETCH_FAILED),
        (Fault.RESET, Condition.FETCH_FAILED),
    ],
)
def test_trouble_is_told_apart_and_what_is_served_stays(contoso: Contoso, fault: Fault, condition: Condition) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    hosted.git.commit({A: workflow(2)})
    contoso.emulator.misbehave(fault)
    contoso.sweep()
    status = contoso.status()
    assert status["condition"] == condition
    assert status["message"]
    assert contoso.served() == {A: "workflow-1"}
    contoso.emulator.behave()
    contoso.let_pauses_end()
    contoso.sweep()
    assert contoso.status()["condition"] == Condition.READY
    assert contoso.served() == {A: "workflow-2"}


@pytest.mark.parametrize(("fault", "route"), [(Fault.WRONG_BYTES, "blobs"), (Fault.CUT, "blobs"), (Fault.CUT, "tree")])
def test_altered_and_cut_off_answers_are_never_stored(contoso: Contoso, fault: Fault, route: str) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    hosted.git.commit({A: workflow(2), B: workflow(3)})
    contoso.emulator.misbehave(fault, route=route)
    contoso.sweep()
    assert contoso.status()["condition"] == Condition.FETCH_FAILED
    assert contoso.served() == {A: "workflow-1"}


def test_an_organisation_that_refuses_us_costs_a_handful_of_calls(contoso: Contoso) -> None:
    for number in range(12):
        contoso.repository(f"team-{number}")
    contoso.sweep()
    contoso.emulator.forget_calls()
    contoso.emulator.misbehave(Fault.UNAUTHORIZED)
    for _ in range(5):
        contoso.sweep()
    # Each of the workers may be on its way when the first is refused.
    assert len(contoso.emulator.calls) <= contoso.app.settings.reconcile_workers
    assert {contoso.served(f"team-{number}")[A] for number in range(12)} == {"workflow-1"}  # type: ignore[index]


def test_one_repository_that_is_forbidden_leaves_the_others_alone(contoso: Contoso) -> None:
    hosted = [contoso.repository(f"team-{number}") for number in range(4)]
    contoso.sweep()
    for one in hosted:
        one.git.commit({A: workflow(2)})
    contoso.emulator.disable(hosted[0])
    contoso.sweep()
    assert [contoso.served(f"team-{number}")[A] for number in range(4)] == ["workflow-1"] + ["workflow-2"] * 3  # type: ignore[index]
    told = contoso.status("team-0")
    assert (told["condition"], told["reason"]) == ("AuthenticationFailed", "RepositoryRefused")
    assert "missing, disabled or forbidden" in told["message"]
    assert contoso.status("team-1")["condition"] == "Ready"


def test_repositories_that_are_forbidden_do_not_keep_a_pause_alive(contoso: Contoso) -> None:
    hosted = [contoso.repository(f"team-{number}") for number in range(3)]
    contoso.sweep()
    for one in hosted:
        one.git.commit({A: workflow(2)})
    contoso.emulator.misbehave(Fault.UNAUTHORIZED)
    contoso.sweep()
    contoso.emulator.behave()
    for one in hosted[:2]:
        contoso.emulator.disable(one)
    with contoso.app.pool.connection() as connection:
        connection.execute("UPDATE sources SET paused_until = clock_timestamp()")
        # The one that is right comes last.
        connection.execute(
            "UPDATE branches AS b SET requested = requested + 1, next_attempt_at = clock_timestamp() - CASE"
            " WHEN r.name = 'team-2' THEN interval '1 second' ELSE interval '1 minute' END"
            " FROM repositories AS r WHERE r.repo_id = b.repo_id"
        )
    contoso.app.sweep()
    assert contoso.status("team-0")["reason"] == "RepositoryRefused"
    assert contoso.served("team-2") == {A: "workflow-2"}


def test_an_answer_that_asks_to_slow_down_counts_and_pauses_the_source(contoso: Contoso) -> None:
    hosted = contoso.repository()
    contoso.sweep()
    hosted.git.commit({A: workflow(2)})
    contoso.emulator.misbehave(Fault.SLOW_DOWN, times=1)
    contoso.sweep()
    contoso.emulator.forget_calls()
    contoso.sweep()
    assert contoso.emulator.calls == []
    with contoso.app.pool.connection() as connection:
        ((source, is_paused),) = connection.execute(
            "SELECT source, paused_until > clock_timestamp() FROM sources"
        ).fetchall()
    assert (source, is_paused) == (contoso.emulator.url, True)


class TestAnOrganisationThatLagsBehindItsHooks:
    """The hook tells of a push, and the head that is read is still the one before it."""

    @pytest.fixture
    def hosted(self, contoso: Contoso) -> HostedRepository:
        hosted = contoso.repository()
        contoso.sweep()
        contoso.subscribe()
        return hosted

    def push(self, contoso: Contoso, hosted: HostedRepository, number: int = 2) -> int | None:
        hosted.git.commit({A: workflow(number)})
        contoso.emulator.pushed(hosted)
        return contoso.emulator.delivered()[-1].status

    def test_is_asked_again_within_the_delivery(self, contoso: Contoso, hosted: HostedRepository) -> None:
        contoso.emulator.misbehave(Fault.STALE, route="refs", times=1)
        assert self.push(contoso, hosted) == 200
        assert contoso.served() == {A: "workflow-2"}

    def test_leaves_the_request_open_until_the_push_is_seen(self, contoso: Contoso, hosted: HostedRepository) -> None:
        contoso.emulator.misbehave(Fault.STALE, route="refs")
        assert self.push(contoso, hosted) == 202
        contoso.sweep()
        status = contoso.status()
        assert (status["requested"] > status["finished"], contoso.served()) == (True, {A: "workflow-1"})
        outcomes = {one["outcome"] for one in contoso.api.get("/repositories/orders/syncs?limit=3").json}
        assert outcomes == {"Deferred"}
        contoso.emulator.behave()
        contoso.let_pauses_end()
        contoso.app.sweep()
        assert contoso.served() == {A: "workflow-2"}

    def test_does_not_take_a_branch_away_that_was_just_pushed(self, contoso: Contoso, hosted: HostedRepository) -> None:
        hosted.git.commit({"README.md": b"# Which is the default branch now"}, branch="another")
        hosted.git.git("symbolic-ref", "HEAD", "refs/heads/another")
        contoso.emulator.misbehave(Fault.PARTIAL, route="refs")
        assert self.push(contoso, hosted) == 202
        status = contoso.status()
        assert (status["condition"], contoso.served()) == ("Syncing", {A: "workflow-1"})
        assert "still answers that the branch does not exist" in status["message"]
        contoso.emulator.behave()
        contoso.let_pauses_end()
        contoso.app.sweep()
        assert (contoso.status()["condition"], contoso.served()) == ("Ready", {A: "workflow-2"})

    def test_takes_it_away_when_that_was_announced(self, contoso: Contoso, hosted: HostedRepository) -> None:
        hosted.git.delete("main")
        contoso.emulator.pushed(hosted)
        assert contoso.emulator.delivered()[-1].status == 200
        assert contoso.served() is None

    def test_is_believed_after_two_minutes(self, contoso: Contoso, hosted: HostedRepository) -> None:
        contoso.emulator.misbehave(Fault.STALE, route="refs")
        self.push(contoso, hosted)
        with contoso.app.pool.connection() as connection:
            connection.execute("UPDATE branches SET announced_at = announced_at - interval '2 minutes'")
        contoso.let_pauses_end()
        contoso.app.sweep()
        status = contoso.status()
        assert (status["requested"], status["condition"]) == (status["finished"], "Ready")

    def test_is_not_suspected_when_a_force_push_really_went_back(
        self, contoso: Contoso, hosted: HostedRepository
    ) -> None:
        first = hosted.git.head("main")
        contoso.emulator.misbehave(Fault.ERROR, route="refs")
        self.push(contoso, hosted)
        hosted.git.set_head("main", first)
        contoso.emulator.pushed(hosted)
        contoso.emulator.delivered()
        contoso.emulator.behave()
        contoso.let_pauses_end()
        contoso.app.sweep()
        status = contoso.status()
        assert (status["requested"], status["condition"]) == (status["finished"], "Ready")
        assert contoso.served() == {A: "workflow-1"}

    @pytest.mark.parametrize("order", [(5, 6, 5), (6, 5), (6, 5, 6, 5)])
    def test_is_suspected_by_the_newest_push_in_whatever_order_deliveries_come(
        self, contoso: Contoso, hosted: HostedRepository, order: tuple[int, ...]
    ) -> None:
        """Push 5 went from A to B, and push 6 back to A by force: A is right, whatever comes again or late."""
        first, second = hosted.git.head("main"), hosted.git.commit({A: workflow(2)})
        hosted.git.set_head("main", first)
        moves = {5: (first, second), 6: (second, first)}
        contoso.emulator.misbehave(Fault.ERROR, route="refs")
        hook = Api(contoso.app.wsgi, HOOK_KEY)
        for number in order:
            old, new = moves[number]
            update = {"name": "refs/heads/main", "oldObjectId": old, "newObjectId": new}
            resource = {"refUpdates": [update], "repository": {"id": hosted.id}, "pushId": number}
            hook.post("/webhooks/azure-devops", json={"eventType": "git.push", "resource": resource})
        contoso.emulator.behave()
        contoso.let_pauses_end()
        contoso.app.sweep()
        status = contoso.status()
        assert (status["requested"], status["condition"]) == (status["finished"], "Ready")

    def test_is_suspected_although_an_older_delivery_comes_again(
        self, contoso: Contoso, hosted: HostedRepository
    ) -> None:
        contoso.emulator.misbehave(Fault.STALE, route="refs")
        self.push(contoso, hosted)
        again = contoso.emulator.deliveries[0]
        old, new = "1" * 40, hosted.git.git("rev-parse", "main~1")
        update = {"name": "refs/heads/main", "oldObjectId": old, "newObjectId": new}
        resource = {"refUpdates": [update], "repository": {"id": hosted.id}, "pushId": 1}
        hook = Api(contoso.app.wsgi, HOOK_KEY)
        answer = hook.post("/webhooks/azure-devops", json={"eventType": "git.push", "resource": resource})
        assert (again.status, answer.json["branches"][0]["reason"]) == (202, "lagging")

    def test_is_not_suspected_for_longer_because_of_deliveries_without_refs(
        self, contoso: Contoso, hosted: HostedRepository
    ) -> None:
        contoso.emulator.misbehave(Fault.STALE, route="refs")
        self.push(contoso, hosted)
        with contoso.app.pool.connection() as connection:
            connection.execute("UPDATE branches SET announced_at = announced_at - interval '2 minutes'")
        resource = {"repository": {"id": hosted.id}, "pushId": 99}
        hook = Api(contoso.app.wsgi, HOOK_KEY)
        answer = hook.post("/webhooks/azure-devops", json={"eventType": "git.push", "resource": resource})
        assert answer.json["branches"][0]["outcome"] == "Unchanged"

    def test_is_not_believed_about_the_first_of_two_pushes(self, contoso: Contoso, hosted: HostedRepository) -> None:
        contoso.emulator.misbehave(Fault.ERROR, route="refs")
        self.push(contoso, hosted, 2)
        self.push(contoso, hosted, 3)
        contoso.emulator.behave()
        contoso.emulator.misbehave(Fault.STALE, route="refs")
        contoso.let_pauses_end()
        contoso.app.sweep()
        status = contoso.status()
        assert status["requested"] > status["finished"]


def test_a_token_that_was_renewed_is_used_at_once(contoso: Contoso, monkeypatch: pytest.MonkeyPatch) -> None:
    contoso.repository()
    contoso.emulator.credentials.remove(EMULATOR_AUTHORIZATION)
    contoso.sweep()
    assert contoso.status()["condition"] == Condition.AUTHENTICATION_FAILED
    contoso.emulator.credentials.add(EMULATOR_AUTHORIZATION)
    assert contoso.api.post("/repositories/orders/sync").status_code == 200
    assert contoso.served() == {A: "workflow-1"}


def test_a_file_of_git_lfs_is_a_finding(contoso: Contoso) -> None:
    hosted = contoso.repository()
    hosted.git.commit({A: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"})
    answer = contoso.api.post("/repositories/orders/sync")
    (finding,) = answer.json["branches"][0]["report"]["findings"]
    assert answer.status_code == 422
    assert "LFS" in finding["message"]
