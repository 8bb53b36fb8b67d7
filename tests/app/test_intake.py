"""What a delivery asks for, and what its sender is told."""

from uuid import UUID

import pytest
from support.git import GitRepository
from support.world import NOT_YAML, Team, World, budget, workflow

from shared.errors import DatabaseUnavailable, SourceFailed
from shared.model import (
    ABSENT,
    BranchName,
    CommitId,
    Condition,
    Decision,
    DeferReason,
    Deferred,
    Event,
    Failed,
    Receipt,
    RefUpdate,
    Rejected,
    Replaced,
    RepoId,
    Unchanged,
)
from shared.registration import Registrar

A = "a_runtime.yaml"
GUID = RepoId("5febef5a-833d-4e14-b9c0-14cb638f91e6")


def pushed(team: Team, *branches: str, **more: object) -> Event:
    updates = tuple(RefUpdate(BranchName(b), ABSENT, team.git.head(b)) for b in branches)
    return Event("git.push", repo_id=team.repo_id, updates=updates, **more)


def deliver(world: World, event: Event) -> Receipt:
    return world.intake.receive(event, budget())


def test_a_push_is_recorded_synced_and_answered_with_its_outcome(team: Team) -> None:
    commit = team.git.commit({A: workflow(1)})
    receipt = deliver(team.world, pushed(team, "main"))
    assert receipt.delivery.decision is Decision.REQUESTED
    assert isinstance(receipt.outcomes["main"], Replaced)
    assert receipt.outcomes["main"].commit_id == commit
    assert team.world.journal.deliveries(team.repo_id, 10) == [receipt.delivery]


def test_every_ref_of_a_push_counts(world: World) -> None:
    team = world.repository(branches=("main", "dev", "release/1.0"))
    commit = team.git.commit({A: workflow(1)})
    team.git.set_head("dev", commit)
    team.git.set_head("release/1.0", commit)
    receipt = deliver(world, pushed(team, "main", "dev", "release/1.0", "feature/x"))
    assert set(receipt.outcomes) == {"main", "dev", "release/1.0"}
    assert all(team.numbers(branch) == {A: "workflow-1"} for branch in receipt.outcomes)


def test_its_sync_is_the_first_that_reaches_its_request_number(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    receipt = deliver(team.world, pushed(team, "main"))
    number = receipt.delivery.requests[BranchName("main")]
    records = team.world.journal.syncs(team.repo_id, BranchName("main"), 10)
    assert [record.to_request >= number for record in records] == [True]


def test_the_head_wins_whatever_the_order_of_deliveries(team: Team) -> None:
    team.git.commit({A: workflow(4)})
    four = pushed(team, "main")
    team.git.commit({A: workflow(5)})
    five = pushed(team, "main")
    assert isinstance(deliver(team.world, five).outcomes["main"], Replaced)
    assert isinstance(deliver(team.world, four).outcomes["main"], Unchanged)
    assert isinstance(deliver(team.world, five).outcomes["main"], Unchanged)
    assert team.numbers() == {A: "workflow-5"}


def test_a_rejected_push_is_answered_with_its_findings(team: Team) -> None:
    team.git.commit({A: NOT_YAML})
    outcome = deliver(team.world, pushed(team, "main")).outcomes["main"]
    assert isinstance(outcome, Rejected)
    assert outcome.report.findings[0].path == A


def test_a_deleted_branch_serves_nothing_any_more(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    deliver(team.world, pushed(team, "main"))
    team.git.delete("main")
    deliver(team.world, pushed(team, "main"))
    assert team.served() is None


@pytest.mark.parametrize("updates", [None, ()], ids=["not told", "no branch"])
def test_a_payload_that_does_not_say_which_branches(team: Team, updates: tuple[RefUpdate, ...] | None) -> None:
    team.git.commit({A: workflow(1)})
    receipt = deliver(team.world, Event("git.push", repo_id=team.repo_id, updates=updates))
    if updates is None:
        assert receipt.delivery.decision is Decision.BRANCHES_CHECKED
        assert team.numbers() == {A: "workflow-1"}
    else:
        assert (receipt.delivery.decision, receipt.outcomes) == (Decision.IGNORED_BRANCH, {})


def test_of_a_payload_without_refs_the_pushed_branches_go_first(world: World) -> None:
    team = world.repository(branches=("a", "b", "c"))
    update = RefUpdate(BranchName("c"), ABSENT, team.git.commit({A: workflow(1)}, branch="c"))
    world.git.instead["push"] = lambda repository, push_id, deadline: [update] if push_id == 14 else []
    receipt = deliver(world, Event("git.push", repo_id=team.repo_id, push_id=14))
    assert list(receipt.outcomes) == ["c", "a", "b"]
    assert set(receipt.delivery.requests) == {"a", "b", "c"}


def test_a_push_that_cannot_be_looked_up_costs_only_the_order(world: World) -> None:
    team = world.repository(branches=("a", "b"))

    def refused(*_: object) -> None:
        raise SourceFailed("The host hung up.")

    world.git.instead["push"] = refused
    assert list(deliver(world, Event("git.push", repo_id=team.repo_id, push_id=14)).outcomes) == ["a", "b"]


def test_a_push_is_looked_up_only_where_it_decides_something(world: World) -> None:
    one, two = world.repository("one"), world.repository("two", branches=("a", "b"))
    deliver(world, Event("git.push", repo_id=one.repo_id, push_id=14))
    deliver(world, Event("git.push", repo_id=two.repo_id))
    deliver(world, Event("git.push", repo_id=two.repo_id, push_id=14, updates=()))
    assert world.git.calls["push"] == 0


@pytest.mark.parametrize("problem", [None, "The body is not JSON."])
def test_a_payload_that_does_not_say_which_repository_makes_the_next_sweep_look_at_every_head(
    team: Team, problem: str | None
) -> None:
    team.git.commit({A: workflow(1)})
    team.sync()
    team.world.sweep()
    team.git.commit({A: workflow(2)})
    assert team.world.sweep().heads_checked == 0
    receipt = deliver(team.world, Event("git.push", problem=problem))
    assert receipt.delivery.decision is (Decision.MALFORMED if problem else Decision.HEADS_CHECKED)
    team.world.sweep()
    assert team.numbers() == {A: "workflow-2"}


def test_another_event_and_a_test_notification_are_recorded_and_do_nothing(team: Team) -> None:
    team.world.sweep()  # or the first delivery takes an overdue one along
    before = team.outcomes()
    team.git.commit({A: workflow(1)})
    for event, decision in [
        (Event("build.complete", repo_id=team.repo_id), Decision.IGNORED_EVENT),
        (Event("git.push", is_test=True, repo_id=GUID), Decision.TEST),
        (Event("git.push", is_test=True, repo_id=GUID), Decision.TEST),
    ]:
        receipt = deliver(team.world, event)
        assert (receipt.delivery.decision, receipt.outcomes) == (decision, {})
    assert team.outcomes() == before
    assert len(team.world.registry.list()) == 1


def test_a_suspended_repository_is_answered_deferred(team: Team) -> None:
    team.change(suspended="moving")
    outcome = deliver(team.world, pushed(team, "main")).outcomes["main"]
    assert isinstance(outcome, Deferred)
    assert outcome.reason is DeferReason.SUSPENDED


def test_what_does_not_fit_the_budget_is_left_to_the_timer(world: World) -> None:
    team = world.repository(branches=("main", "dev"))
    team.git.commit({A: workflow(1)})
    team.git.set_head("dev", team.git.head("main"))
    receipt = world.intake.receive(pushed(team, "main", "dev"), budget(seconds=0))
    assert [type(outcome) for outcome in receipt.outcomes.values()] == [Deferred, Deferred]
    world.sweep()
    assert team.numbers("dev") == {A: "workflow-1"}


def test_a_delivery_that_cannot_be_recorded_is_an_error_and_does_nothing(team: Team) -> None:
    team.git.commit({A: workflow(1)})
    team.world.pool.close()
    with pytest.raises(DatabaseUnavailable):
        deliver(team.world, pushed(team, "main"))
    assert not team.world.git.calls


class TestAutomaticRegistration:
    def event(self, **more: object) -> Event:
        updates = (RefUpdate(BranchName("main"), ABSENT, CommitId("1" * 40)),)
        told = {"repo_id": GUID, "repository": "Configs", "project": "Data Team", "updates": updates, **more}
        return Event("git.push", **told)

    def repository(self, world: World, project: str = "Data Team", name: str = "Configs") -> GitRepository:
        git = GitRepository(world.folder / project / name)
        git.commit({A: workflow(1)})
        return git

    def test_the_first_push_of_an_unknown_repository_registers_and_serves_it(self, world: World) -> None:
        self.repository(world)
        receipt = deliver(world, self.event())
        assert isinstance(receipt.outcomes["main"], Replaced)
        repository = world.registry.get(GUID)
        assert (repository.name, repository.registration.project) == ("Configs", "Data Team")
        deliver(world, self.event())
        assert world.registry.list() == [repository]

    def test_a_name_that_is_taken_gets_its_project_in_front(self, world: World) -> None:
        world.repository("Configs")
        self.repository(world)
        deliver(world, self.event())
        assert world.registry.get(GUID).name == "Data-Team.Configs"

    @pytest.mark.parametrize(
        "names", [{"repository": "../../etc"}, {"project": ".."}, {"repository": "a/b"}, {"repository": "a\\b"}]
    )
    def test_a_name_that_climbs_registers_nothing(self, world: World, names: dict[str, str]) -> None:
        receipt = deliver(world, self.event(**names))
        assert receipt.delivery.decision is Decision.UNKNOWN_REPOSITORY
        assert world.registry.list() == []

    def test_only_pushes_of_the_configured_organisation_register(self, world: World) -> None:
        self.repository(world)
        ours = "https://dev.azure.com/ours"
        registrar = Registrar(
            world.registry,
            branches=[BranchName("main")],
            url_template=f"{world.folder}/{{project}}/{{repository}}",
            organisation=ours,
        )
        assert registrar.announced(self.event(organisation="https://dev.azure.com/theirs")) is None
        assert registrar.announced(self.event()) is None
        assert registrar.announced(self.event(organisation="https://dev.azure.com/Ours")) is not None

    def test_without_a_template_it_is_read_through_its_organisation(self, world: World) -> None:
        ours = "https://dev.azure.com/ours"
        registrar = Registrar(world.registry, branches=[BranchName("main")], organisation=ours)
        repository = registrar.announced(self.event(organisation="https://dev.azure.com/OURS"))
        assert repository is not None
        assert (repository.repo_id, repository.source, repository.name) == (GUID, ours, "Configs")

    def test_a_name_of_other_letters_is_registered_by_its_id(self, world: World) -> None:
        ours = "https://dev.azure.com/ours"
        registrar = Registrar(world.registry, branches=[BranchName("main")], organisation=ours)
        repository = registrar.announced(self.event(organisation=ours, repository="設定", project="基盤"))
        assert repository is not None
        assert repository.name == "5febef5a"

    def test_without_a_template_and_an_organisation_nothing_registers_itself(self, world: World) -> None:
        registrar = Registrar(world.registry, branches=[BranchName("main")])
        assert registrar.announced(self.event()) is None

    def test_nothing_registers_itself_where_that_is_turned_off(self, world: World) -> None:
        ours = "https://dev.azure.com/ours"
        registrar = Registrar(world.registry, branches=[BranchName("main")], organisation=ours, auto_register=False)
        assert registrar.announced(self.event(organisation=ours)) is None

    def test_a_url_template_gets_its_names_quoted(self, world: World) -> None:
        registrar = Registrar(
            world.registry,
            branches=[BranchName("main")],
            url_template="https://dev.azure.com/ours/{project}/_git/{repository}",
        )
        repository = registrar.announced(self.event(repository="a?b#c@d"))
        assert repository is not None
        assert repository.source == "https://dev.azure.com/ours/Data%20Team/_git/a%3Fb%23c%40d"

    def test_a_name_of_another_repository_is_not_an_id(self, world: World) -> None:
        world.repository("team")
        receipt = deliver(world, Event("git.push", repo_id=RepoId("team"), updates=None))
        assert (receipt.delivery.decision, receipt.outcomes) == (Decision.UNKNOWN_REPOSITORY, {})


def test_a_delivery_that_finds_the_timer_dead_does_some_of_its_work(world: World) -> None:
    pushed_to, waiting = world.repository("pushed-to"), world.repository("waiting")
    waiting.git.commit({A: workflow(1)})
    deliver(world, pushed(pushed_to, "main"))
    assert waiting.numbers() == {A: "workflow-1"}


def test_a_defect_of_ours_is_an_outcome_and_does_not_fail_the_delivery(world: World) -> None:
    team = world.repository(branches=("main", "dev"))
    team.git.commit({A: workflow(1)})
    team.git.set_head("dev", team.git.head("main"))

    def defect() -> None:
        raise ZeroDivisionError

    world.git.before["head"].append(defect)
    outcomes = deliver(world, pushed(team, "main", "dev")).outcomes
    assert [type(outcome) for outcome in outcomes.values()] == [Failed, Replaced]
    assert team.status().condition is Condition.FETCH_FAILED
    assert team.outcomes() == ["failed"]


def test_a_failed_sync_does_not_fail_the_delivery(team: Team) -> None:
    team.drop()
    receipt = deliver(team.world, Event("git.push", repo_id=team.repo_id, updates=None))
    assert isinstance(receipt.delivery.delivery_id, UUID)
    assert team.status().condition is Condition.FETCH_FAILED
