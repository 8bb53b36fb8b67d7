"""What a caller proves itself with is repeated nowhere, whatever becomes of the request."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from emulators.azure_devops import Emulator
from support import functions
from support.leaks import SECRETS, Net, basic
from support.secretive import ask, deliver, payload, settings_for
from support.web import DOCUMENT
from support.world import workflow

import function_app
from shared import bootstrap
from shared.errors import RuntimeStoreError, SourceError
from shared.model import Registration, RepoId, SourceName

FORMS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "bearer": lambda key: {"headers": {"Authorization": f"Bearer {key}"}},
    "basic": lambda key: {"headers": {"Authorization": basic("me", key)}},
    "basic, the wrong way round": lambda key: {"headers": {"Authorization": basic(key, "")}},
    "another scheme": lambda key: {"headers": {"Authorization": f"Digest {key}"}},
    "functions key": lambda key: {"headers": {"x-functions-key": key}},
    "code": lambda key: {"query_string": {"code": key, "limit": "none"}},
    "correlation": lambda key: {"headers": {"X-Correlation-Id": key, "If-Match": key, "If-None-Match": f'"{key}"'}},
}
CALLERS = ("hook", "hook-before", "admin", "admin-before", "reader", "reader-before", "wrong")


def test_no_answer_and_no_log_repeats_what_a_caller_sent_to_prove_who_it_is(net: Net, database: str) -> None:
    seen = set()
    with closing(bootstrap.build(settings_for(database))) as app:
        app.registrar.put(RepoId("team"), Registration("team", SourceName("/nowhere"), ()), expected=None)
        for path, operations in DOCUMENT["paths"].items():
            place = path.format(repository="team", branch="main", filepath="x-runtime.yaml")
            for method in {*operations, "head", "patch"} - {"delete"}:
                for form in FORMS.values():
                    for caller in ("admin", "wrong") if place != "/repositories" else CALLERS:
                        answer = net.call(app.wsgi, method.upper(), place, **form(SECRETS[caller]))
                        seen.add(answer.status_code)
        # With the question mark encoded, a key is a part of the path.
        for start in ("/runtimes/team/main", "/runtimes/nobody/main", "/repositories/team", "/livez", "/nothing"):
            for method in ("GET", "POST"):
                net.call(app.wsgi, method, f"{start}%3Fcode={quote(SECRETS['wrong'])}")
                ask(net, app, method, f"{start}%3Fcode={quote(SECRETS['wrong'])}")
                ask(net, app, method, f"{start}/https://me:{quote(SECRETS['wrong'])}@host/x")
    assert seen >= {200, 400, 401, 403, 404, 405}
    net.rows(database)
    net.holds("log shared.web.app", "GET", "POST", "PUT", "table repositories")


@pytest.mark.parametrize("kind", [*RuntimeStoreError.__subclasses__(), *SourceError.__subclasses__()])
def test_an_error_of_any_kind_is_told_without_the_credentials_in_its_words(
    database: str, kind: type[RuntimeStoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error should have them. What is told is looked at once more on its way out."""
    told = Net()
    url = f"https://me:{SECRETS['source']}@git.example.com/x?code={SECRETS['source']}"
    needs: Mapping[str, dict[str, Any]] = {
        "InvalidRequest": {"field": "source"},
        "SourceThrottled": {"retry_after": timedelta(seconds=1)},
    }
    words: Any = [f"{url} broke"] if kind.__name__ == "SettingsInvalid" else f"{url} broke"
    error = kind(words, **needs.get(kind.__name__, {}))

    def broken(*_: object, **__: object) -> Any:
        raise error

    with closing(bootstrap.build(settings_for(database))) as app:
        app.registrar.put(RepoId("team"), Registration("team", SourceName("/nowhere"), ()), expected=None)
        monkeypatch.setattr(type(app.by_hand), "sync", broken)
        assert ask(told, app, "POST", "/repositories/team/sync").status_code >= 400
    told.holds("POST")


class Defect(Exception):
    pass


def test_a_defect_lets_nothing_out(
    net: Net, emulator: Emulator, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = emulator.repository("data", "orders")
    hosted.git.commit({"a-runtime.yaml": workflow(1)})
    emulator.pushed(hosted)

    def broken(*_: object, **__: object) -> Any:
        raise Defect("a branch of code that nobody thought of")

    app = bootstrap.build(settings_for(database, emulator))
    with closing(app), monkeypatch.context() as patched:
        patched.setattr(function_app, "_built", app)
        app.registrar.put(RepoId(hosted.id), Registration("orders", SourceName(emulator.url), ()), expected=None)
        # In a sync, deep below; in the organisation's client; in a handler; in the functions themselves.
        for place in (
            "shared.rules.Rules.judge",
            "shared.azure_devops.client.Organisation._send",
            "shared.identity.Authorization.current",
            "shared.postgres.queue.PostgresQueue.status",
            "shared.web.access.Access._recognise",
            "shared.web.app.App._match",
            "shared.web.app.App.__call__",
        ):
            with monkeypatch.context() as one:
                one.setattr(place, broken)
                deliver(net, app, payload(hosted.id, emulator)) if "__call__" not in place else None
                headers = {"authorization": f"Bearer {SECRETS['admin']}"}
                url = f"/repositories/orders?code={quote(SECRETS['wrong'])}"
                net.note("function", functions.call("config_api", url, headers=headers))
                sent = json.dumps(payload(hosted.id, emulator)).encode()
                net.note("function", functions.call("webhook", "/webhooks/azure-devops", "POST", headers, sent))
                net.failing("timer", lambda: functions.functions()["reconcile"].get_user_function()(timer=_Timer()))
            with app.pool.connection() as connection:
                connection.execute("UPDATE branches SET next_attempt_at = NULL, lease_until = NULL")
    net.rows(database)
    net.holds("log shared.sync", "log shared.web.problems", "log function_app", "function", "table syncs")


class _Timer:
    past_due = False
