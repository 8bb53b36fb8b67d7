"""The whole app over an organisation of Azure DevOps: bootstrap's parts, HTTP, and an emulator that hooks into it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from emulators.azure_devops import Emulator, HostedRepository
from support.processes import SECONDS
from support.web import ADMIN_KEY, HOOK_KEY, READER_KEY, Api, over_http
from support.world import workflow
from werkzeug.test import TestResponse

from shared import bootstrap
from shared.bootstrap import App
from shared.model import SweepSummary
from shared.ports import GitSource
from shared.settings import load

PAT = "emulator-personal-access-token"
HOOK = "/webhooks/azure-devops"
A, B = "a-runtime.yaml", "etl/b-runtime.yaml"


@dataclass
class Contoso:
    """An organisation, and the app that serves what is in it at `url`."""

    emulator: Emulator
    app: App
    url: str
    environ: Mapping[str, str]

    def __post_init__(self) -> None:
        self.api = Api(self.app.wsgi, ADMIN_KEY)
        self.hook = Api(self.app.wsgi, HOOK_KEY)

    def repository(self, name: str = "orders", project: str = "data", **more: Any) -> HostedRepository:
        """With one config on `main`, and registered."""
        hosted = self.emulator.repository(project, name)
        hosted.git.commit({A: workflow(1), "README.md": b"# Orders\n"})
        self.emulator.pushed(hosted)
        self.register(hosted, **more)
        return hosted

    def register(self, hosted: HostedRepository, **more: Any) -> None:
        body = {"name": hosted.name, "source": hosted.web_url, **more}
        answer = self.api.put(f"/repositories/{hosted.name}", json=body)
        assert answer.status_code == 201, answer.json

    def subscribe(self, *, password: str = HOOK_KEY, details: str = "all") -> None:
        """From now on every push is delivered."""
        self.emulator.subscribe(
            f"{self.url}{HOOK}",
            basicAuthUsername="azure-devops",
            basicAuthPassword=password,
            resourceDetailsToSend=details,
        )

    def push(self, hosted: HostedRepository, files: Mapping[str, Any] | None = None) -> int | None:
        """Commit to `main` what there is, push all that moved, and return how its delivery was answered."""
        if files is not None:
            hosted.git.commit(files)
        self.emulator.pushed(hosted)
        return self.emulator.delivered(SECONDS)[-1].status

    def deliver(self, hosted: HostedRepository, old: str, new: str, push_id: int | None = 1) -> TestResponse:
        """Deliver a push of `main` by hand, whatever became of it in Git."""
        return self.hook.post(HOOK, json=event(hosted, old, new, push_id))

    def sweep(self) -> SweepSummary:
        """What the timer does when the head of every repository is to be looked at."""
        self.execute("UPDATE repositories SET heads_checked_at = NULL")
        return self.app.reconcile.sweep("test", timedelta(seconds=30))

    def status(self, name: str = "orders") -> dict[str, Any]:
        shown: Any = self.api.get(f"/repositories/{name}").json
        found: dict[str, Any] = shown["status"][0]
        return found

    def served(self, name: str = "orders", branch: str = "main") -> dict[str, str] | None:
        """The ids of the served workflows by path."""
        answer = self.api.get(f"/runtimes/{name}/{branch}")
        if answer.status_code == 404:
            return None
        listed: Any = answer.json
        return {one["filepath"]: one["config"]["workflow"]["id"] for one in listed}

    def execute(self, statement: Any, *parameters: object) -> list[Any]:
        """What a person with psql does."""
        with self.app.pool.connection() as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def let_pauses_end(self) -> None:
        self.execute("UPDATE sources SET paused_until = clock_timestamp()")
        self.execute("UPDATE branches SET next_attempt_at = NULL")


@contextmanager
def whole_app(
    database: str,
    folder: Path,
    *,
    around: Callable[[GitSource], GitSource] | None = None,
    **settings: str,
) -> Iterator[Contoso]:
    """The organisation's repositories are in `folder`; `around` may put something around the app's Git."""
    with Emulator(folder, pace=0.001) as emulator:
        environ = {
            "ENVIRONMENT": "prod",
            "DATABASE_URL": database,
            "AZURE_DEVOPS_ORGANIZATION": emulator.url,
            "AZURE_DEVOPS_PAT": PAT,
            "WEBHOOK_SECRET": HOOK_KEY,
            "ADMIN_KEY": ADMIN_KEY,
            "READER_KEYS": f"test={READER_KEY}",
            **settings,
        }
        app = bootstrap.build(environ, git=around(_git_of(environ)) if around else None)
        try:
            with over_http(app.wsgi) as url:
                yield Contoso(emulator, app, url, environ)
        finally:
            app.close()


def event(hosted: HostedRepository, old: str, new: str, push_id: int | None = 1) -> dict[str, Any]:
    """What a service hook says of a push to `main`."""
    update = {"name": "refs/heads/main", "oldObjectId": old, "newObjectId": new}
    resource = {"refUpdates": [update], "repository": {"id": hosted.id}, "pushId": push_id}
    return {"eventType": "git.push", "resource": resource}


def _git_of(environ: Mapping[str, str]) -> GitSource:
    settings = load(environ)
    organisation = bootstrap.organisation_from(settings, bootstrap.secrets_from(settings))
    return bootstrap.git_from(settings, organisation)
