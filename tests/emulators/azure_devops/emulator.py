"""An organisation of Azure DevOps on this machine, for tests and for the demo."""

from collections.abc import Callable, Collection
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Any

from emulators.azure_devops import subscriptions
from emulators.azure_devops.answers import Json
from emulators.azure_devops.delivery import Deliveries, Delivery
from emulators.azure_devops.exchange import EMULATOR_AUTHORIZATION, Call
from emulators.azure_devops.faults import Fault, Misbehaviour, Misbehaviours
from emulators.azure_devops.hosted import HostedRepository
from emulators.azure_devops.organisation import Organisation
from emulators.azure_devops.receivers import Subscription
from emulators.azure_devops.server import Server
from support.git import GitRepository


class Emulator:
    """Serves the organisation "contoso" at `url` while its `with` block lasts.

    The attributes change how it answers from now on.

    `folder` is where repositories are made. `pace` is how long a second of the waits of service hooks takes; `port` 0
    is any free one; `delivery_timeout` is how many seconds a receiver has to answer.
    """

    name = "contoso"

    def __init__(self, folder: Path, *, pace: float = 1.0, port: int = 0, delivery_timeout: float = 20.0) -> None:
        self.folder = folder
        self.port = port
        self.latency = 0.0
        """Seconds before each answer."""
        self.credentials = {EMULATOR_AUTHORIZATION}
        """Values of the Authorization header that are accepted; of Basic ones only the password counts."""
        self.misbehaviours = Misbehaviours()
        self._called = Condition()
        self._calls: list[Call] = []
        self._deliveries = Deliveries(pace, delivery_timeout)
        self._server = Server(self)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/{self.name}"
        self.organisation = Organisation(self.url, self._deliveries)
        self._deliveries.organisation = self.organisation
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Emulator":
        self._deliveries.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.behave()
        self._server.close()
        self._thread.join()
        self._deliveries.stop()

    # -- Repositories

    def repository(self, project: str, name: str) -> HostedRepository:
        """Make a project, if there is none of that name, and an empty repository in it."""
        path = self.folder / project / f"{name}.git"
        path.parent.mkdir(parents=True, exist_ok=True)
        return self.organisation.add(project, name, path, GitRepository(path))

    def add(self, project: str, name: str, path: Path) -> HostedRepository:
        """Serve a bare repository that exists."""
        return self.organisation.add(project, name, path)

    def pushed(self, repository: HostedRepository, by: str = "Ada Lovelace") -> int:
        """Record what moved since the last push as one, and send its event. Returns the id of the push."""
        push_id = self.organisation.pushed(repository, by)
        if push_id is None:
            raise ValueError(f"nothing of {repository.name} moved since its last push")
        return push_id

    def rename(self, repository: HostedRepository, name: str) -> None:
        """The id stays; the old name is gone."""
        repository.name = name

    def disable(self, repository: HostedRepository, *, is_disabled: bool = True) -> None:
        repository.is_disabled = is_disabled

    def delete(self, repository: HostedRepository) -> None:
        """Another one of that name gets another id."""
        self.organisation.remove(repository)

    # -- Calls, and what becomes of them

    @property
    def calls(self) -> list[Call]:
        """Every request so far, in the order of the answers."""
        with self._called:
            return list(self._calls)

    def note(self, call: Call) -> None:
        with self._called:
            self._calls.append(call)
            self._called.notify_all()

    def wait_for_calls(self, count: int, timeout: float = 60.0) -> None:
        """Until so many are in `calls`; one that hangs is there as soon as it does. Raises `TimeoutError`."""
        with self._called:
            if not self._called.wait_for(lambda: len(self._calls) >= count, timeout):
                raise TimeoutError(f"not {count} calls within {timeout} s: {self._calls}")

    def forget_calls(self) -> None:
        with self._called:
            self._calls.clear()

    def misbehave(
        self,
        fault: Fault,
        *,
        route: str | Collection[str] | None = None,
        repository: HostedRepository | None = None,
        times: int | None = None,
        **details: Any,
    ) -> None:
        """From now on, for requests of that route or those routes (all), of that repository when it is asked for by id
        (all), so many times (until `behave`). Of several that fit a request the oldest counts."""
        routes = {route} if isinstance(route, str) else route
        of = None if repository is None else repository.id
        self.misbehaviours.add(Misbehaviour(fault, routes, of, times, details))

    def behave(self) -> None:
        """Everything is right again; requests that hang are let go."""
        self.misbehaviours.end()

    # -- Service hooks

    @property
    def subscriptions(self) -> list[Subscription]:
        return self._deliveries.subscriptions()

    @property
    def deliveries(self) -> list[Delivery]:
        """Every attempt to deliver an event, in the order of their ends."""
        return self._deliveries.attempts()

    def forget_deliveries(self) -> None:
        """Of the attempts and the lost events so far; what waits to be sent still is."""
        self._deliveries.forget()

    @property
    def lost(self) -> list[Json]:
        """Events that were not sent because their subscription was on probation."""
        return self._deliveries.lost_events()

    def delivered(self, timeout: float = 60.0) -> list[Delivery]:
        """Wait until no event waits to be sent or sent again (probes aside), and return every attempt so far."""
        self._deliveries.wait_until(self._deliveries.is_settled, timeout)
        return self.deliveries

    def wait_until(self, holds: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait for something that a delivery brings about. Raises `TimeoutError`."""
        self._deliveries.wait_until(holds, timeout)

    def subscribe(
        self, url: str, *, repository: HostedRepository | None = None, branch: str = "", **inputs: str
    ) -> Subscription:
        """Send pushes to `url`: of one repository or all, of one branch or all. `inputs` are the consumer's, by the
        API's names: `basicAuthUsername`, `basicAuthPassword`, `httpHeaders`, `resourceDetailsToSend`..."""
        of = {} if repository is None else {"projectId": repository.project_id, "repository": repository.id}
        asked = {
            "publisherId": "tfs",
            "eventType": "git.push",
            "resourceVersion": "1.0",
            "consumerId": "webHooks",
            "consumerActionId": "httpRequest",
            "publisherInputs": {**of, "branch": branch},
            "consumerInputs": {"url": url, **inputs},
        }
        return subscriptions.create(self.organisation, asked)

    def send_test(self, subscription: Subscription) -> None:
        """What the "Test" button sends."""
        self._deliveries.send_test(subscription)
