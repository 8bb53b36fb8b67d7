"""The WSGI app over a real database, and a client that holds every answer to openapi.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha1
from threading import Thread
from typing import Any
from uuid import uuid4

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule
from werkzeug.serving import make_server
from werkzeug.test import Client, TestResponse

from shared.model import (
    BlobId,
    BranchName,
    Budget,
    Change,
    Claim,
    CommitId,
    Deadline,
    Deferred,
    Event,
    Failed,
    FilePath,
    Generation,
    Judgement,
    Outcome,
    Receipt,
    Registration,
    RepoId,
    Report,
    Repository,
    Ruleset,
    RuntimeConfig,
    SourceName,
    SweepSummary,
    SyncId,
    Trigger,
    Unchanged,
)
from shared.postgres.configs import PostgresConfigReader, PostgresConfigStore
from shared.postgres.journal import PostgresJournal
from shared.postgres.pool import Pool
from shared.postgres.queue import PostgresQueue
from shared.postgres.registry import PostgresRegistry
from shared.registration import Registrar
from shared.web.access import Access, Keys
from shared.web.app import OPENAPI, App, Rest, create_app
from shared.web.services import Limits, Services

HOOK_KEY = "hook-key-0123456789-0123456789-0123456789"
READER_KEY = "reader-key-0123456789-0123456789-01234567"
ADMIN_KEY = "admin-key-0123456789-0123456789-012345678"
KEYS = Keys(hook=(HOOK_KEY,), admin=(ADMIN_KEY,), readers={"etl": (READER_KEY,)})

GUID = RepoId("278d5cd2-584d-4b63-824a-2ba458937249")
TEAM = Registration("team", SourceName("https://git.example.com/team.git"), (BranchName("main"),))

DOCUMENT: Mapping[str, Any] = json.loads(OPENAPI.read_bytes())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass
class Ends:
    """The syncs, sweeps and deliveries of a test end as it says."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    covered: dict[CommitId, Outcome] = field(default_factory=dict)
    summary: SweepSummary = field(default_factory=lambda: SweepSummary(started=True))
    receipt: Receipt | Exception | None = None
    events: list[Event] = field(default_factory=list)
    taken_along: int = 0

    def sync(
        self,
        repo_id: RepoId,
        branches: Sequence[BranchName],
        budget: Budget,
        *,
        commit: CommitId | None = None,
        deep: bool = False,
    ) -> Iterator[tuple[BranchName, Outcome]]:
        for branch in branches:
            yield branch, self.covered[commit] if commit in self.covered else self.outcomes[branch]

    def judge(self, repo_id: RepoId, branch: BranchName, deadline: Deadline) -> Outcome:
        return self.outcomes[f"{branch} judged"]

    def take_along(self, deadline: Deadline) -> None:
        self.taken_along += 1

    def sweep(self, trigger: str, duration: timedelta) -> SweepSummary:
        return self.summary

    def decode(self, body: bytes) -> Event:
        return Event("git.push", event_id=body.decode())

    def receive(self, event: Event, budget: Budget) -> Receipt:
        self.events.append(event)
        if isinstance(self.receipt, Exception):
            raise self.receipt
        assert self.receipt is not None
        return self.receipt


class Store:
    """What the database holds, put there as a sync would. Starts empty."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.registry = PostgresRegistry(pool)
        self.queue = PostgresQueue(pool)
        self.configs = PostgresConfigStore(pool)
        with pool.connection() as connection:
            for table in ("runtime_configs", "branches", "repositories", "syncs", "deliveries", "unannounced"):
                connection.execute(f"DELETE FROM {table}")  # cheaper than TRUNCATE, which makes new files

    def register(self, repo_id: RepoId = GUID, registration: Registration = TEAM) -> Repository:
        return self.registry.put(repo_id, registration, expected=None)

    def claim(self, branch: str = "main", repo_id: RepoId = GUID) -> Claim:
        self.queue.ask(repo_id, [BranchName(branch)])
        claim = self.queue.claim(repo_id, BranchName(branch), SyncId(uuid4()), Trigger.MANUAL)
        assert not isinstance(claim, Deferred), claim
        return claim

    def serve(
        self,
        files: Mapping[str, str | None],
        branch: str = "main",
        *,
        repo_id: RepoId = GUID,
        commit: str | None = None,
    ) -> Generation:
        """Change the set: JSON text by path, None removes one. Returns the branch's generation."""
        configs = [
            RuntimeConfig(FilePath(path), blob_id(text), text) for path, text in files.items() if text is not None
        ]
        gone = tuple(FilePath(path) for path, text in files.items() if text is None)
        head = CommitId(commit or blob_id(json.dumps(files)))
        judgement = Judgement(head, None, Ruleset("r1"), Report())
        settled = self.configs.replace(self.claim(branch, repo_id), judgement, Change(tuple(configs), gone), serve=head)
        return settled.generation

    def reject(self, report: Report, branch: str = "main") -> None:
        claim = self.claim(branch)
        judgement = Judgement(CommitId("f" * 40), None, Ruleset("r1"), report)
        self.configs.replace(claim, judgement, Change(), serve=claim.commit_id, accepted=False)

    def end_branch(self, branch: str = "main") -> None:
        """As after a deletion in Git."""
        claim = self.claim(branch)
        stored = self.configs.stored(claim.repo_id, claim.branch)
        judgement = Judgement(CommitId("0" * 40), None, Ruleset("r1"), Report())
        self.configs.replace(claim, judgement, Change(gone=tuple(stored)), serve=None)

    def fail(self, failed: Failed, branch: str = "main") -> None:
        self.queue.settle(self.claim(branch), failed)


def blob_id(text: str) -> BlobId:
    return BlobId(sha1(text.encode(), usedforsecurity=False).hexdigest())


def unchanged(commit: str = "a" * 40) -> Unchanged:
    return Unchanged(CommitId(commit), Generation(7))


def app_over(
    pool: Pool, ends: Ends | None = None, *, access: Access | None = None, limits: Limits | None = None
) -> App:
    ends = ends or Ends()
    registry = PostgresRegistry(pool)
    services = Services(
        configs=PostgresConfigReader(pool),
        registry=registry,
        queue=PostgresQueue(pool),
        journal=PostgresJournal(pool),
        by_hand=ends,
        registrar=Registrar(registry, branches=[BranchName("main")]),
        intake=ends,
        reconcile=ends,
        decode=ends.decode,
    )
    return create_app(services, access or Access(lambda: KEYS), limits)


@contextmanager
def over_http(app: App) -> Iterator[str]:
    """Its URL, where each request has a thread of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Api:
    """Calls the app with a key, and holds what comes back to openapi.json."""

    def __init__(self, app: App, key: str | None = ADMIN_KEY) -> None:
        self._client = Client(app)
        self._headers = bearer(key) if key else {}

    def __call__(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> TestResponse:
        response = self._client.open(path, method=method, headers={**self._headers, **(headers or {})}, **options)
        assert response.headers["X-Correlation-Id"]
        _hold(method, path.partition("?")[0], response)
        return response

    def get(self, path: str, **options: Any) -> TestResponse:
        return self("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self("POST", path, **options)

    def put(self, path: str, **options: Any) -> TestResponse:
        return self("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self("DELETE", path, **options)


def documented(rule: str) -> list[str]:
    """A route of the app in the words of openapi.json, where one rule stands for a branch and for a file of it."""
    path = rule.replace("<alias>", "{repository}")
    if path.endswith("<rest:rest>"):
        path = path.removesuffix("<rest:rest>")
        return [f"{path}{{branch}}", f"{path}{{branch}}/{{filepath}}"]
    return [path]


_PATHS = Map(
    [
        Rule(path.replace("{repository}", "<alias>").replace("{branch}", "<rest:rest>"), endpoint=path)
        for path in DOCUMENT["paths"]
        if not path.endswith("{filepath}")
    ],
    strict_slashes=False,
    merge_slashes=False,
    converters={"rest": Rest},
).bind("")
_REGISTRY = Registry().with_resource("urn:api", Resource.from_contents(DOCUMENT, default_specification=DRAFT202012))


def _hold(method: str, path: str, response: TestResponse) -> None:
    """The status is documented, the body is of its schema, and every documented header but Link is there."""
    try:
        template = _PATHS.match(path)[0]
    except NotFound:
        assert response.status_code == 404
        return
    operation = "get" if method == "HEAD" else method.lower()
    if operation not in DOCUMENT["paths"][template]:
        assert response.status_code == 405
        return
    templates = [template, f"{template}/{{filepath}}"] if template.endswith("{branch}") else [template]
    answers = [DOCUMENT["paths"][one][operation]["responses"].get(str(response.status_code)) for one in templates]
    assert any(answers), f"{method} {path}: {response.status_code} is not in openapi.json: {response.text[:300]}"
    problems = [_problem(_resolved(answer), response, bare=method == "HEAD") for answer in answers if answer]
    assert None in problems, f"{method} {path}: {problems}"


def _problem(answer: Mapping[str, Any], response: TestResponse, *, bare: bool) -> str | None:
    missing = [name for name in answer.get("headers", {}) if name not in response.headers and name != "Link"]
    if missing:
        return f"headers {missing} are missing"
    content = answer.get("content")
    if not content or bare:
        return None if not response.data else "there is a body"
    if response.mimetype not in content:
        return f"{response.mimetype} is not documented"
    if "Content-Encoding" in response.headers:
        return None
    schema = content[response.mimetype]["schema"]
    if isinstance(schema, dict):
        schema = json.loads(json.dumps(schema).replace('"#/', '"urn:api#/'))
    validator = jsonschema.Draft202012Validator(schema, registry=_REGISTRY)
    return next((f"{error.json_path}: {error.message}" for error in validator.iter_errors(response.json)), None)


def _resolved(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (
        DOCUMENT["components"]["responses"][answer["$ref"].split("/")[-1]] if "$ref" in answer else answer
    )
    return found
