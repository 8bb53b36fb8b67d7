"""Commit statuses: what a commit in Azure DevOps shows of this app."""

from typing import TYPE_CHECKING, Final

from shared.azure_devops.trouble import NotFound
from shared.errors import CommitMissing, SourceRefused
from shared.model import CommitStatus, Deadline, Repository

if TYPE_CHECKING:
    from shared.azure_devops.client import Organisation

GENRE: Final = "runtime-store"
# https://learn.microsoft.com/rest/api/azure/devops/git/statuses/create names the scope, and no page the permission.
GRANT: Final = (
    "To write commit statuses, a personal access token needs Code (status), and a managed identity Contribute on the "
    "repository. COMMIT_STATUSES=false does without them"
)


class AzureDevOpsStatuses:
    """`ports.StatusBoard` of one organisation: each `environment` has a status of its own, as `runtime-store/prod`."""

    def __init__(self, organisation: "Organisation", *, environment: str) -> None:
        self._organisation = organisation
        self._environment = environment

    def post(self, repository: Repository, status: CommitStatus, deadline: Deadline) -> None:
        try:
            with self._organisation.git(deadline) as git:
                # Not before: two threads that begin to import the SDK at different places break each other's import.
                from azure.devops.v7_1.git.models import GitStatus, GitStatusContext

                shown = GitStatus(
                    context=GitStatusContext(genre=GENRE, name=self._environment),
                    state=str(status.state),
                    description=status.description,
                    target_url=status.link,
                )
                git.create_commit_status(shown, status.commit_id, repository.repo_id)
        except NotFound as error:
            raise CommitMissing(f"There is no commit {status.commit_id} any more: {error.message}") from error
        except SourceRefused as error:
            raise type(error)(error.message, hint=GRANT) from error
