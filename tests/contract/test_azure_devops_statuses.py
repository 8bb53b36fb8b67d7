"""Commit statuses in Azure DevOps, as `ports.StatusBoard` promises them."""

from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from emulators.azure_devops import Emulator, Fault, HostedRepository
from support.git_sources import registered

from shared.azure_devops.client import Organisation
from shared.azure_devops.statuses import AzureDevOpsStatuses
from shared.errors import CommitMissing, RepositoryRefused, SourceError, SourceFailed, SourceRefused, SourceThrottled
from shared.model import CommitId, CommitState, CommitStatus, Deadline, Repository
from shared.ports import StatusBoard

NOBODY_KNOWS = CommitId("5" * 40)


@pytest.fixture
def board(organisation: Organisation) -> StatusBoard:
    return AzureDevOpsStatuses(organisation, environment="prod")


@pytest.fixture
def hosted(emulator: Emulator) -> HostedRepository:
    return emulator.repository("etl", "orders")


@pytest.fixture
def repository(emulator: Emulator, hosted: HostedRepository) -> Repository:
    return registered(emulator.url, hosted.id)


@pytest.fixture
def commit(hosted: HostedRepository) -> CommitId:
    return hosted.git.commit({"a_runtime.yaml": b"a: 1\n"})


def succeeded(commit: CommitId) -> CommitStatus:
    return CommitStatus(commit, CommitState.SUCCEEDED, "14 configs served")


def shown(organisation: Organisation, repository: Repository, commit: CommitId) -> list[Any]:
    """What people see at the commit, as the API tells it, the newest first."""
    with organisation.git(within()) as git:
        found: list[Any] = git.get_statuses(commit, repository.repo_id)
    return found


def within(seconds: float = 20) -> Deadline:
    return Deadline.after(timedelta(seconds=seconds))


def test_a_commit_shows_the_status_of_its_environment(
    organisation: Organisation, board: StatusBoard, repository: Repository, commit: CommitId
) -> None:
    link = f"https://runtime.example/repositories/{repository.repo_id}"
    board.post(repository, CommitStatus(commit, CommitState.FAILED, "größe_runtime.yaml:1:2: „no“ 🙁", link), within())
    [status] = shown(organisation, repository, commit)
    assert status["context"] == {"genre": "runtime-store", "name": "prod"}
    assert (status["state"], status["description"]) == ("failed", "größe_runtime.yaml:1:2: „no“ 🙁")
    assert status["targetUrl"] == link


def test_without_an_address_of_ours_it_links_to_nothing(
    organisation: Organisation, board: StatusBoard, repository: Repository, commit: CommitId
) -> None:
    board.post(repository, succeeded(commit), within())
    [status] = shown(organisation, repository, commit)
    assert "targetUrl" not in status


@pytest.mark.parametrize("state", CommitState)
def test_every_state_is_one_that_azure_devops_knows(
    organisation: Organisation, board: StatusBoard, repository: Repository, commit: CommitId, state: CommitState
) -> None:
    board.post(repository, CommitStatus(commit, state, "as it is"), within())
    assert [status["state"] for status in shown(organisation, repository, commit)] == [state]


def test_two_environments_have_a_status_each(
    organisation: Organisation,
    board: StatusBoard,
    repository: Repository,
    commit: CommitId,
) -> None:
    board.post(repository, succeeded(commit), within())
    AzureDevOpsStatuses(organisation, environment="acc").post(repository, succeeded(commit), within())
    assert {status["context"]["name"] for status in shown(organisation, repository, commit)} == {"prod", "acc"}


def test_a_commit_that_git_does_not_know_is_missing(board: StatusBoard, repository: Repository) -> None:
    with pytest.raises(CommitMissing, match=NOBODY_KNOWS):
        board.post(repository, succeeded(NOBODY_KNOWS), within())


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.FORBIDDEN, RepositoryRefused),
        (Fault.NOT_FOUND, RepositoryRefused),
        (Fault.UNAUTHORIZED, SourceRefused),
        (Fault.SIGN_IN, SourceRefused),
        (Fault.REDIRECT, SourceRefused),
    ],
)
def test_a_refusal_says_what_to_grant(
    emulator: Emulator,
    board: StatusBoard,
    repository: Repository,
    commit: CommitId,
    fault: Fault,
    kind: type[SourceError],
) -> None:
    emulator.misbehave(fault, route="statuses")
    with pytest.raises(SourceRefused) as caught:
        board.post(repository, succeeded(commit), within())
    assert type(caught.value) is kind
    assert caught.value.hint is not None
    for word in ("Code (status)", "Contribute", "COMMIT_STATUSES=false"):
        assert word in caught.value.hint


def test_a_throttle_says_how_long(
    emulator: Emulator, board: StatusBoard, repository: Repository, commit: CommitId
) -> None:
    emulator.misbehave(Fault.THROTTLED, route="statuses", retry_after=40)
    with pytest.raises(SourceThrottled) as caught:
        board.post(repository, succeeded(commit), within())
    assert caught.value.retry_after == timedelta(seconds=40)


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.RESET])
def test_what_may_have_arrived_is_not_sent_again_here(
    emulator: Emulator, board: StatusBoard, repository: Repository, commit: CommitId, fault: Fault
) -> None:
    emulator.misbehave(fault, route="statuses")
    with pytest.raises(SourceFailed):
        board.post(repository, succeeded(commit), within())
    assert [call.route for call in emulator.calls].count("statuses") == 1


def test_a_host_that_hangs_is_given_up_by_the_deadline(
    emulator: Emulator, board: StatusBoard, repository: Repository, commit: CommitId
) -> None:
    emulator.misbehave(Fault.HANG, route="statuses")
    started = monotonic()
    with pytest.raises(SourceFailed):
        board.post(repository, succeeded(commit), within(0.4))
    assert monotonic() - started < 10
