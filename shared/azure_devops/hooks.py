"""The service hooks of one organisation: which subscriptions call this app, and making them as they must be."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from shared.azure_devops.client import Organisation
from shared.azure_devops.hook_plan import Act, Place, Places, Step
from shared.azure_devops.subscriptions import KIND, Reach, Subscription, read, wanted
from shared.azure_devops.trouble import NotFound
from shared.errors import SourceError, SourceFailed, SourceRefused
from shared.model import Deadline, RepoId, SourceName
from shared.telemetry import metrics

_log = logging.getLogger(__name__)

_WATCHED = timedelta(minutes=55)
_LOOK = timedelta(seconds=30)


class ServiceHooks:
    """Reads and writes the subscriptions that call `url`.

    Every method raises `SourceError`, of which `SourceRefused` says what to grant. No call outlasts its deadline.
    """

    def __init__(self, organisation: Organisation, url: str) -> None:
        self._organisation = organisation
        self.url = url

    @property
    def organisation(self) -> SourceName:
        return self._organisation.url

    def places(self, deadline: Deadline) -> Places:
        """All repositories that the organisation shows to us."""
        with self._organisation.git(deadline) as client:
            listed = client.get_repositories()
            _prove_whole(client, listed, "repositories")
            return Places([_place(one) for one in listed])

    def subscriptions(self, deadline: Deadline) -> list[Subscription]:
        """All that post pushes to a web hook and are shown to us: ours, and those of others."""
        with _needing("View subscriptions"), self._organisation.hooks(deadline) as client:
            # Asked for without their kind, the list of a large organisation ends in a time-out.
            listed = client.list_subscriptions(**KIND)
            _prove_whole(client, listed, "subscriptions")
            return [read(one, self.url) for one in listed]

    def do(self, step: Step, secret: str, deadline: Deadline) -> None:
        """Carry it out; `secret` becomes the password of what is written."""
        with _needing("Edit subscriptions"), self._organisation.hooks(deadline) as client:
            if step.act is Act.REMOVE and step.subscription:
                _remove(client, step.subscription)
            elif step.act is not Act.KEEP:
                self._write(client, step.reach, step.subscription, secret)

    def _write(self, client: Any, reach: Reach, there: Subscription | None, secret: str) -> None:
        from azure.devops.v7_1.service_hooks.models import Subscription as Body

        body = wanted(reach, self.url, secret)
        # Enabled again in the name of somebody who left, it would soon be disabled again.
        if there and there.status != "disabledByInactiveIdentity":
            replaced = client.replace_subscription(Body(id=there.subscription_id, **body), there.subscription_id)
            if read(replaced, self.url).is_enabled:
                return
        client.create_subscription(Body(**body))
        if there:
            _remove(client, there)


class HookWatch:
    """Measures, about once an hour, whether the service hooks announce pushes."""

    def __init__(self, hooks: ServiceHooks) -> None:
        self._hooks = hooks
        self._looked_at: float | None = None

    def look(self) -> None:
        """Never raises for the organisation: an identity may be allowed to read code, and not to see subscriptions."""
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < _WATCHED.total_seconds():
            return
        self._looked_at = now
        try:
            found = self._hooks.subscriptions(Deadline.after(_LOOK))
        except SourceError as error:
            _log.info("Service hooks cannot be seen", extra={"error": error.message, "hint": error.hint})
            return
        counted = Counter(one.status for one in found if one.is_ours)
        # Also when there is none: that is what somebody wants to hear of.
        metrics.SUBSCRIPTIONS.replace((count, (status,)) for status, count in {"enabled": 0, **counted}.items())


def _remove(client: Any, there: Subscription) -> None:
    with suppress(NotFound):
        client.delete_subscription(there.subscription_id)


def _place(told: Mapping[str, Any]) -> Place:
    project = told["project"]
    return Place(project["id"].lower(), project["name"], RepoId(told["id"].lower()), told["name"])


def _prove_whole(client: Any, listed: list[object], what: str) -> None:
    """What a list lacks would be made a second time, or removed: half of one is none. Raises `SourceFailed`."""
    count = client.answer.json()["count"]
    if count != len(listed) or client.continuation is not None:
        raise SourceFailed(f"The organization listed {len(listed)} of {count} or more {what}", hint="Try again.")


@contextmanager
def _needing(permission: str) -> Iterator[None]:
    """Whoever is refused here was let in before, when the repositories were listed."""
    try:
        yield
    except SourceRefused as error:
        hint = (
            f"Give this identity `{permission}` in the project. Project Administrators have it; others are given it "
            "with `az devops security permission update`, in the namespace ServiceHooks."
        )
        raise SourceRefused(error.message, hint=hint) from error
