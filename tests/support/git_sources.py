"""What the suite of `ports.GitSource` runs over. A new adapter is a context manager, and a line in `ADAPTERS`."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from emulators.azure_devops import EMULATOR_AUTHORIZATION, Emulator, Fault
from support.git import GitRepository, environment
from support.git_http import serving

from shared.azure_devops.client import Organisation
from shared.azure_devops.source import AzureDevOpsSource
from shared.local_git.source import LocalGitSource
from shared.model import BranchName, Registration, RepoId, Repository, SourceName
from shared.ports import GitSource


@dataclass
class Hosted:
    """One real repository, and the source under test that reads it."""

    git: GitRepository
    source: GitSource
    repository: Repository
    remove: Callable[[], None]
    """The repository is gone."""
    hang: Callable[[], None] | None = None
    """From now on nothing is answered; None where nothing stands between the source and the repository."""
    knows_sizes: bool = True
    keeps_bytes: bool = True
    """Whether a path that is not UTF-8 is told as it is."""


def registered(source: str, repo_id: str = "0e9b6a52-8d6c-4a43-9f43-6a1f0d3f6a11") -> Repository:
    registration = Registration("sample", SourceName(source), (BranchName("main"),))
    now = datetime.now(UTC)
    return Repository(RepoId(repo_id), registration, 1, now, now)


def local_source() -> LocalGitSource:
    return LocalGitSource(timeout=timedelta(seconds=30), environment=environment())


@contextmanager
def path(folder: Path) -> Iterator[Hosted]:
    git = GitRepository(folder / "repository.git")
    yield Hosted(git, local_source(), registered(str(git.path)), lambda: shutil.rmtree(git.path))


@contextmanager
def work_tree(folder: Path) -> Iterator[Hosted]:
    git = GitRepository(folder / "a work tree", bare=False)
    yield Hosted(git, local_source(), registered(str(git.path)), lambda: shutil.rmtree(git.path))


@contextmanager
def file_url(folder: Path) -> Iterator[Hosted]:
    git = GitRepository(folder / "größe 1#2.git")
    yield Hosted(git, local_source(), registered(git.path.as_uri()), lambda: shutil.rmtree(git.path))


@contextmanager
def http_url(folder: Path) -> Iterator[Hosted]:
    git = GitRepository(folder / "repository.git")
    with serving(folder) as host:

        def hang() -> None:
            host.hangs = True

        repository = registered(f"{host.url}/repository.git")
        yield Hosted(git, local_source(), repository, lambda: shutil.rmtree(git.path), hang, knows_sizes=False)


@contextmanager
def azure_devops(folder: Path) -> Iterator[Hosted]:
    with Emulator(folder) as emulator:
        hosted = emulator.repository("etl", "orders")
        organisation = Organisation(
            emulator.url, authorization=lambda: EMULATOR_AUTHORIZATION, timeout=timedelta(seconds=30)
        )
        yield Hosted(
            hosted.git,
            AzureDevOpsSource(organisation),
            registered(emulator.url, hosted.id),
            lambda: emulator.delete(hosted),
            lambda: emulator.misbehave(Fault.HANG),
            keeps_bytes=False,
        )


ADAPTERS: dict[str, Callable[[Path], AbstractContextManager[Hosted]]] = {
    "path": path,
    "work-tree": work_tree,
    "file-url": file_url,
    "http-url": http_url,
    "azure-devops": azure_devops,
}
THAT_CAN_HANG = ("http-url", "azure-devops")
"""Those with a `hang`."""
