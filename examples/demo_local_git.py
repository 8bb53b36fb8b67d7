"""The sample repository on this machine's disk, read with Git; a hook in it announces what is committed."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from examples import sample_repository, service_hook
from examples.demo_state import DemoFolder
from examples.demo_words import shown, what_to_try
from shared.model import BranchName, Registration, RepoId, Repository, SourceName

if TYPE_CHECKING:
    from shared.bootstrap import App

REPO_ID = RepoId(service_hook.REPO_ID)


class LocalGit:
    def __init__(self, demo: DemoFolder) -> None:
        self._demo = demo

    def settings(self, url: str) -> Mapping[str, str]:
        return {"AUTO_REGISTER": "false"}

    def prepare(self) -> Iterator[str]:
        is_new = sample_repository.prepare(self._demo.repository, self._demo.running)
        yield f"{shown(self._demo.repository)} ({'made from examples/team' if is_new else 'as it was'})"

    def register(self, app: "App") -> Repository:
        branches = tuple(map(BranchName, sample_repository.BRANCHES))
        source = SourceName(str(self._demo.repository))
        wanted = Registration(service_hook.NAME, source, branches, project="demo")
        known = app.registry.find(REPO_ID)
        return app.registrar.put(REPO_ID, wanted, expected=known.revision if known else None)

    def subscribe(self, app: "App") -> Iterator[str]:
        """Its hook is in it already."""
        return iter(())

    def what_to_try(self, url: str) -> str:
        return what_to_try(self._demo, url)
