"""Routes and the edge: every request gets its caller checked, its errors told as problems, and one line in the log."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, Map, Rule

from shared import telemetry
from shared.errors import Forbidden, Unauthenticated
from shared.telemetry import metrics
from shared.web import health, problems, webhook
from shared.web.access import Access, Role
from shared.web.call import Call
from shared.web.reply import JSON, Reply
from shared.web.repositories import Repositories
from shared.web.representations import redacted
from shared.web.runtimes import Runtimes
from shared.web.services import Limits, Services

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)

OPENAPI = Path(__file__).with_name("openapi.json")


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
Refusal: TypeAlias = Callable[[Call, Exception], Reply]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    rule: str
    handle: Callable[..., Reply]
    role: Role | None = None
    """Who may; None is everybody."""
    refuse: Refusal = problems.answer


class Rest(BaseConverter):
    """All that is left of the path: a branch and a file, with their slashes."""

    regex = ".+"
    part_isolating = False


class App:
    """A WSGI app. Blocking; safe to call from many threads."""

    def __init__(self, routes: Sequence[Route], access: Access) -> None:
        self.routes = tuple(routes)
        self._access = access
        rules = [Rule(route.rule, methods=[route.method], endpoint=route) for route in routes]
        # Redirects are for browsers: a service hook or a config client would take one for an error.
        urls = Map(rules, strict_slashes=False, merge_slashes=False, redirect_defaults=False, converters={"rest": Rest})
        # The same paths are asked for again and again, and matching one costs as much as answering it.
        self._urls = lru_cache(maxsize=1024)(urls.bind("").match)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        call = Call(environ)
        token = telemetry.correlation_id.set(call.correlation_id)
        try:
            with telemetry.continued(environ.get("runtime_store.host")), telemetry.request(call.method) as span:
                reply = self._answer(call, span)
        finally:
            telemetry.correlation_id.reset(token)
        return reply(environ, start_response)

    def _answer(self, call: Call, span: telemetry.Span) -> Reply:
        started = time.perf_counter()
        refuse: Refusal = problems.answer
        rule = role = None
        try:
            route, arguments = self._match(call)
            refuse, rule, role = route.refuse, route.rule, route.role
            call.caller = self._access.admit(call, route.role)
            response = route.handle(call, **arguments)
        except Exception as error:  # the function's edge: whatever it is, the caller gets an answer
            response = refuse(call, error)
            if isinstance(error, Unauthenticated | Forbidden):
                metrics.REFUSALS.add(1, role, type(error).__name__)
        response.headers["X-Correlation-Id"] = call.correlation_id
        # Never the query: it may carry a key.
        path = redacted(call.path)
        if _log.isEnabledFor(logging.INFO):
            told = {"method": call.method, "route": rule, "path": path, "status": response.status}
            milliseconds = round((time.perf_counter() - started) * 1000, 1)
            who = {"caller": call.caller.name, "correlation_id": call.correlation_id, "milliseconds": milliseconds}
            _log.info("Answered", extra={**told, **who})
        if telemetry.is_on():
            _measure(call, path, rule, response.status, time.perf_counter() - started, span)
        return response

    def _match(self, call: Call) -> tuple[Route, Mapping[str, str]]:
        if "\x00" in call.path:  # no name has it, and no database takes it
            raise NotFound
        found: tuple[Route, Mapping[str, str]] = self._urls(call.path, call.method)
        return found


def _measure(call: Call, path: str, rule: str | None, status: int, seconds: float, span: telemetry.Span) -> None:
    # Anybody can make up methods, and each would be a time series.
    method = call.method if call.method in _METHODS else "_OTHER"
    metrics.REQUESTS.record(seconds, method, rule, status)
    span.rename(f"{method} {rule or 'unknown'}")
    span.set(
        {
            "http.request.method": method,
            "http.route": rule,
            "http.response.status_code": status,
            "url.path": path,
            "runtime_store.caller": call.caller.name,
            "runtime_store.correlation_id": call.correlation_id,
        }
    )
    if status >= 500:
        span.fail(str(status))


def create_app(services: Services, access: Access, limits: Limits | None = None) -> App:
    """The app over its services."""
    limits = limits or Limits()
    reads = Runtimes(
        services.configs,
        services.registry,
        services.queue,
        cached_lists=limits.cached_lists,
        anonymous_reads=access.anonymous_reads,
    )
    known = Repositories(services, limits)
    hook = webhook.Webhook(services, limits)
    return App(
        [
            Route("GET", "/livez", health.live),
            Route("GET", "/health", health.Health(services.journal, access).read),
            Route("GET", "/openapi.json", _openapi),
            Route("POST", "/webhooks/azure-devops", hook.receive, Role.HOOK, webhook.refuse),
            Route("GET", "/runtimes/<alias>", reads.branches, Role.READER),
            Route("GET", "/runtimes/<alias>/<rest:rest>", reads.read, Role.READER),
            Route("GET", "/repositories", known.list, Role.READER),
            Route("GET", "/repositories/<alias>", known.get, Role.READER),
            Route("PUT", "/repositories/<alias>", known.put, Role.ADMIN),
            Route("DELETE", "/repositories/<alias>", known.remove, Role.ADMIN),
            Route("GET", "/repositories/<alias>/syncs", known.syncs, Role.READER),
            Route("GET", "/repositories/<alias>/deliveries", known.deliveries, Role.READER),
            Route("POST", "/repositories/<alias>/sync", known.sync, Role.ADMIN),
            Route("POST", "/reconcile", known.reconcile, Role.ADMIN),
        ],
        access,
    )


def _openapi(call: Call) -> Reply:
    return Reply(200, {"Cache-Control": "no-cache"}, OPENAPI.read_bytes(), JSON)
