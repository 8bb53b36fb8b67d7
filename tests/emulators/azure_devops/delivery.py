"""Service hooks: sends events to their subscribers, and what becomes of a subscription whose receiver fails.

The rules are those of https://learn.microsoft.com/azure/devops/service-hooks/troubleshoot: 410 ends a subscription;
408, 502, 503, 504 and time-outs are tried again eight times in about three minutes; everything else, and a transient
failure that lasted, puts it on probation at once, where events are lost until a probe succeeds. What a probe sends is
not documented: here it is the event that failed.
"""

import heapq
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import TIMEOUT_MAX, Condition, Thread
from typing import TYPE_CHECKING

from emulators.azure_devops import events
from emulators.azure_devops.answers import Json, timestamp
from emulators.azure_devops.hosted import HostedRepository, Push
from emulators.azure_devops.receivers import TIMED_OUT, Sender, Subscription

if TYPE_CHECKING:
    from emulators.azure_devops.organisation import Organisation

REPEATS = (1, 2, 4, 8, 16, 32, 60, 60)
"""Seconds before each repetition after a transient failure."""
PROBES = (1200, 2400, 4800, 9600, 19200, 38400, 54000)
"""Seconds before each probe of a subscription on probation."""
_TRANSIENT = (408, 502, 503, 504)
_GONE = 410
_RECEIVERS_AT_ONCE = 8


@dataclass(frozen=True)
class Delivery:
    """One attempt to deliver an event. `status` is None when there was no answer; `error` then says why."""

    subscription: Subscription
    event: Json = field(repr=False)
    attempt: int
    status: int | None
    is_probe: bool = False
    error: str = ""

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(order=True)
class _Due:
    at: float
    number: int
    subscription: Subscription = field(compare=False)
    event: Json = field(compare=False)
    attempt: int = field(compare=False, default=1)
    is_probe: bool = field(compare=False, default=False)


def _is_sent(due: _Due) -> bool:
    """A test is sent whatever became of its subscription; a probe is what may end a probation."""
    is_test = due.event["id"] == events.TEST_EVENT_ID
    return is_test or due.subscription.status == ("onProbation" if due.is_probe else "enabled")


class Deliveries:
    """Subscriptions and the events on their way to them. One thread waits for what is due, others deliver it."""

    organisation: "Organisation"

    def __init__(self, pace: float, timeout: float) -> None:
        self._pace = pace
        self._sender = Sender(timeout)
        self._changed = Condition()
        self._numbers = itertools.count()
        self._due: list[_Due] = []
        self._in_flight: set[int] = set()
        self._attempts: list[Delivery] = []
        self._lost: list[Json] = []
        self._subscriptions: dict[str, Subscription] = {}
        self._is_stopping = False
        self._workers = ThreadPoolExecutor(_RECEIVERS_AT_ONCE, "service-hooks")
        self._clock = Thread(target=self._run, name="service-hooks-clock")

    def start(self) -> None:
        self._clock.start()

    def stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._clock.join()
        self._sender.stop()
        self._workers.shutdown(wait=True, cancel_futures=True)

    # -- Subscriptions

    def subscriptions(self) -> list[Subscription]:
        with self._changed:
            return list(self._subscriptions.values())

    def find(self, subscription_id: str) -> Subscription | None:
        with self._changed:
            return self._subscriptions.get(subscription_id.lower())

    def keep(self, subscription: Subscription) -> None:
        with self._changed:
            self._subscriptions[subscription.id] = subscription

    def replace(self, subscription: Subscription, data: Json) -> None:
        """Also ends its probation."""
        with self._changed:
            subscription.data, subscription.probes = data, 0
            self._drop(subscription, only_probes=True)
            self._changed.notify_all()

    def remove(self, subscription: Subscription) -> None:
        with self._changed:
            self._subscriptions.pop(subscription.id, None)
            self._drop(subscription)
            self._changed.notify_all()

    # -- Events

    def announce(self, repository: HostedRepository, push: Push) -> None:
        event = events.push_event(self.organisation, repository, push)
        for subscription in self.subscriptions():
            data = subscription.data
            if data["eventType"] == event["eventType"] and events.concerns(event, data["publisherInputs"]):
                self._offer(subscription, event)

    def _offer(self, subscription: Subscription, event: Json) -> None:
        with self._changed:
            if subscription.status == "onProbation":
                self._lost.append(event)
            elif subscription.status == "enabled":
                subscription.notifications += 1
                named = {"subscriptionId": subscription.id, "notificationId": subscription.notifications}
                self._queue(_Due(0.0, 0, subscription, {**named, **events.trimmed(event, subscription.inputs)}))

    def send_test(self, subscription: Subscription) -> None:
        with self._changed:
            event = events.trimmed(events.test_event(self.organisation), subscription.inputs)
            self._queue(_Due(0.0, 0, subscription, event))

    # -- What happened

    def attempts(self) -> list[Delivery]:
        with self._changed:
            return list(self._attempts)

    def lost_events(self) -> list[Json]:
        with self._changed:
            return list(self._lost)

    def forget(self) -> None:
        with self._changed:
            self._attempts.clear()
            self._lost.clear()

    def is_settled(self) -> bool:
        with self._changed:
            return not self._in_flight and all(due.is_probe for due in self._due)

    def wait_until(self, holds: Callable[[], bool], timeout: float) -> None:
        with self._changed:
            if not self._changed.wait_for(holds, timeout):
                raise TimeoutError(f"not within {timeout} s; attempts so far: {self._attempts}")

    # -- The clock

    def _queue(self, due: _Due, wait: float = 0.0) -> None:
        due.at, due.number = time.monotonic() + wait * self._pace, next(self._numbers)
        heapq.heappush(self._due, due)
        self._changed.notify_all()

    def _drop(self, subscription: Subscription, *, only_probes: bool = False) -> None:
        self._due = [
            due for due in self._due if due.subscription is not subscription or (only_probes and not due.is_probe)
        ]
        heapq.heapify(self._due)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._is_stopping and not (self._due and self._due[0].at <= time.monotonic()):
                    wait = self._due[0].at - time.monotonic() if self._due else TIMEOUT_MAX
                    self._changed.wait(min(wait, TIMEOUT_MAX))
                if self._is_stopping:
                    return
                due = heapq.heappop(self._due)
                if not _is_sent(due):
                    self._lost.append(due.event)
                    self._changed.notify_all()
                    continue
                self._in_flight.add(due.number)
            self._workers.submit(self._deliver, due)

    def _deliver(self, due: _Due) -> None:
        status, error = self._sender.send(due.subscription, due.event)
        with self._changed:
            self._in_flight.discard(due.number)
            if not self._is_stopping:
                one = Delivery(due.subscription, due.event, due.attempt, status, due.is_probe, error)
                self._attempts.append(one)
                self._judge(due, one)
            self._changed.notify_all()

    def _judge(self, due: _Due, one: Delivery) -> None:
        subscription = due.subscription
        is_transient = one.status in _TRANSIENT or one.error == TIMED_OUT
        if due.event["id"] == events.TEST_EVENT_ID or subscription.id not in self._subscriptions:
            return
        if one.is_success:
            if due.is_probe:
                subscription.data["status"], subscription.probes = "enabled", 0
        elif one.status == _GONE:
            subscription.data["status"] = "disabledBySystem"
            self._drop(subscription)
        elif is_transient and not due.is_probe and due.attempt <= len(REPEATS):
            again = _Due(0.0, 0, subscription, due.event, due.attempt + 1)
            self._queue(again, REPEATS[due.attempt - 1])
        else:
            self._fail(due)

    def _fail(self, due: _Due) -> None:
        subscription = due.subscription
        if due.is_probe:
            subscription.probes += 1
            subscription.data["lastProbationRetryDate"] = timestamp()
        elif subscription.status != "enabled":
            return
        if subscription.probes == len(PROBES):
            subscription.data["status"] = "disabledBySystem"
            return
        subscription.data["status"] = "onProbation"
        probe = _Due(0.0, 0, subscription, due.event, due.attempt + 1, is_probe=True)
        self._queue(probe, PROBES[subscription.probes])
