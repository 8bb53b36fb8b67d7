"""The sample repository in an organisation of Azure DevOps on this machine, read through its API.

The organisation is the one that the tests use, as unkind as the real one when it is asked to be. Its service hooks
announce pushes, and its commits carry statuses. The person works in a clone.
"""

import base64
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from emulators.azure_devops import EMULATOR_AUTHORIZATION, Call, Emulator, HostedRepository

from examples import sample_repository
from examples.demo_state import DemoFolder, DemoProblem, write_private
from examples.demo_words import shown, what_to_try_with_azure_devops
from shared.model import BranchName, Deadline, Registration, RepoId, Repository, SourceName

if TYPE_CHECKING:
    from shared.bootstrap import App

PROJECT, NAME = "demo", "sample"
TOKEN = base64.b64decode(EMULATOR_AUTHORIZATION.removeprefix("Basic ")).decode().removeprefix(":")
"""No secret: it opens nothing but this organisation, which only this machine can reach."""
_SOON = timedelta(seconds=30)

_log = logging.getLogger(__name__)


@contextmanager
def hosted(demo: DemoFolder, port: int) -> Iterator["AzureDevOps"]:
    """Inside, the organisation is there. Raises `DemoProblem` when somebody else has its port."""
    try:
        organisation = _Organisation(demo.organisation, port)
    except OSError as error:
        raise DemoProblem(
            f"Port {port} of 127.0.0.1, for the organization, cannot be had: {error.strerror}.\n"
            "  Stop the program that has it, or choose another --organization-port."
        ) from None
    with organisation:
        yield AzureDevOps(demo, organisation)


class _Organisation(Emulator):
    """Keeps the statuses of its commits, and logs what comes to it."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port=port)
        self._file = folder / "statuses.json"
        self._noting = Lock()
        self._told = 0
        _log.setLevel(logging.INFO)

    def hosting(self, path: Path) -> HostedRepository:
        repository = self.add(PROJECT, NAME, path)
        # The numbers of pushes only grow, also over restarts: so a delivery is told from an older one.
        repository.first_push = int(time.time())
        with suppress(OSError, ValueError):
            repository.statuses.update(json.loads(self._file.read_text(encoding="utf-8")))
        self._told = len(repository.pushes)
        return repository

    def note(self, call: Call) -> None:
        super().note(call)
        if call.method == "POST" and call.route in ("git", "statuses"):
            (repository,) = self.organisation.repositories()
            with self._noting:
                if call.route == "git":
                    self._tell_pushes(repository)
                elif call.status == 201:
                    self._keep_statuses(repository, call.path.split("/")[-2])

    def _tell_pushes(self, repository: HostedRepository) -> None:
        new, self._told = repository.pushes[self._told :], len(repository.pushes)
        for update in (update for push in new for update in push.updates):
            _log.info("Azure DevOps was pushed to", extra={"ref": update.name, "commit": update.new[:8]})

    def _keep_statuses(self, repository: HostedRepository, commit: str) -> None:
        with repository.lock:
            statuses = {name: list(told) for name, told in repository.statuses.items()}
        write_private(self._file, statuses)
        told = {name: statuses[commit][-1][name] for name in ("state", "description")}
        _log.info("A commit shows a status", extra={"commit": commit[:8], **told})


class AzureDevOps:
    def __init__(self, demo: DemoFolder, organisation: _Organisation) -> None:
        self._demo = demo
        self._organisation = organisation

    def settings(self, url: str) -> Mapping[str, str]:
        return {
            "AZURE_DEVOPS_ORGANIZATION": self._organisation.url,
            "AZURE_DEVOPS_PAT": TOKEN,
            "PUBLIC_URL": url,
        }

    def prepare(self) -> Iterator[str]:
        path = self._demo.organisation / PROJECT / f"{NAME}.git"
        is_new = sample_repository.prepare_hosted(path)
        self._repository = self._organisation.hosting(path)
        address = self._repository.web_url
        yield f"{address} ({'made from examples/team' if is_new else 'as it was'})"
        is_new = sample_repository.prepare_clone(self._demo.repository, address, EMULATOR_AUTHORIZATION)
        yield f"{shown(self._demo.repository)} ({'a clone of it' if is_new else 'your clone, as it was'})"

    def register(self, app: "App") -> Repository:
        """By its web address. The organisation may have another port than it had."""
        known = app.registry.find(RepoId(self._repository.id))
        branches = tuple(map(BranchName, sample_repository.BRANCHES))
        wanted = Registration(NAME, SourceName(self._repository.web_url), branches)
        return app.registrar.put(None, wanted, expected=known.revision if known else None)

    def subscribe(self, app: "App") -> Iterator[str]:
        """What `runtime-store hooks ensure demo` does. The organisation forgets its subscriptions when it ends."""
        from shared.azure_devops.hook_plan import Upkeep
        from shared.azure_devops.hooks import ServiceHooks
        from shared.azure_devops.subscriptions import PATH
        from shared.bootstrap import organisation_from, secrets_from

        secrets = secrets_from(app.settings)
        organisation, secret = organisation_from(app.settings, secrets), secrets.get("webhook-secret")
        assert organisation is not None
        assert secret is not None
        service, deadline = ServiceHooks(organisation, f"{app.settings.public_url}{PATH}"), Deadline.after(_SOON)
        places, found = service.places(deadline), service.subscriptions(deadline)
        for step in Upkeep(places, found, app.settings.branches, {}).plan([self._repository.project_id], widen=True):
            service.do(step, secret, deadline)
            yield f"service hook: {places.name(step.reach)}"

    def what_to_try(self, url: str) -> str:
        control = f"http://127.0.0.1:{self._organisation.port}"
        commits = f"{self._organisation.url}/{PROJECT}/_apis/git/repositories/{NAME}/commits"
        return what_to_try_with_azure_devops(self._demo, url, control, commits, TOKEN)
