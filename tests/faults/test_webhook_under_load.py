"""The contract of the webhook holds whatever is slow, locked or down: whoever is authentic gets 2xx, or 503 when the
delivery could not be recorded; nobody waits for what others wait for; and many deliveries cost as little as few."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from emulators.azure_devops import Fault, HostedRepository
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.contoso import PAT, A, Contoso, whole_app
from support.functions import Told, call
from support.load import WEBHOOK, ask, basic, delivery
from support.processes import Program, eventually, started
from support.stores import PATIENCE, Store
from support.web import HOOK_KEY
from support.world import workflow

import function_app
from shared.model import Outcome
from shared.postgres import pool as pool_module
from shared.postgres.pool import Pool
from shared.sync import Sync

MANY = 200
WRONG = "wrong-secret-0123456789-0123456789-012345"
SUCCESS = {200, 202}
BUDGET = 1
"""Seconds that a delivery may sync."""
SLACK = 20
"""Seconds that a machine under load may add to that: far below what a call to Git may take by itself."""

Start = Callable[..., Contoso]


class Answered(NamedTuple):
    told: Told
    seconds: float

    @property
    def status(self) -> int:
        return self.told.status


@pytest.fixture
def start(own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Puts the whole app behind the functions, over an organisation."""
    running = []

    def begin(**settings: str) -> Contoso:
        ours: dict[str, Any] = {"WEBHOOK_BUDGET_SECONDS": str(BUDGET), "COMMIT_STATUSES": "false"}
        manager = whole_app(own_database, tmp_path / "organisation", **ours | settings)
        running.append(manager)
        whole = manager.__enter__()
        monkeypatch.setattr(function_app, "_built", whole.app)
        return whole

    yield begin
    for manager in running:
        manager.__exit__(None, None, None)


@pytest.fixture
def behind(own_database: str) -> Iterator[Store]:
    """Looks behind the app, and locks it out, over connections of its own."""
    with closing(Pool(own_database, size=1)) as pool:
        yield Store(pool, own_database)


def deliver(hosted: HostedRepository, password: str = HOOK_KEY) -> Answered:
    """As the worker of the Functions host does for each request, in a thread of its own."""
    began = time.monotonic()
    told = call("webhook", WEBHOOK, "POST", basic(password), delivery(hosted))
    return Answered(told, time.monotonic() - began)


def holds(answers: list[Answered], behind: Store) -> Counter[int]:
    """Every answer is one of the contract, and success was said of what is recorded only."""
    counted = Counter(answer.status for answer in answers)
    assert set(counted) <= SUCCESS | {503}, counted
    for answer in answers:
        assert answer.status in SUCCESS or int(answer.told.headers["retry-after"]) >= 1
    [(recorded,)] = behind.sql("SELECT count(*) FROM deliveries")
    assert recorded >= sum(counted[status] for status in SUCCESS)
    return counted


def outcome_of(answer: Answered) -> str:
    told: str = json.loads(answer.told.body)["branches"][0]["outcome"]
    return told


def syncs(behind: Store) -> int:
    return len(behind.sql("SELECT 1 FROM syncs"))


@pytest.mark.parametrize("size", [8, 2])
def test_two_hundred_at_once_are_recorded_and_answered_with_slow_git_and_a_slow_database(
    start: Start, behind: Store, size: int
) -> None:
    whole = start(DATABASE_POOL_SIZE=str(size))
    hosted = whole.repository()
    behind.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;"
        " CREATE TRIGGER slow BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    whole.emulator.latency = 0.2
    with ThreadPoolExecutor(MANY) as threads:
        answers = list(threads.map(lambda _: deliver(hosted), range(MANY)))
    counted = holds(answers, behind)
    assert set(counted) <= SUCCESS
    assert behind.sql("SELECT count(*), max(requested) FROM deliveries, branches") == [(MANY, MANY + 1)]
    assert max(answer.seconds for answer in answers) < BUDGET + SLACK
    whole.emulator.latency = 0.0
    whole.let_pauses_end()
    whole.sweep()
    assert (whole.status()["condition"], whole.served()) == ("Ready", {A: "workflow-1"})


def test_git_that_hangs_costs_a_delivery_its_budget_and_not_the_time_out_of_a_call(start: Start, behind: Store) -> None:
    whole = start(GIT_TIMEOUT_SECONDS="60")
    hosted = [whole.repository(f"team-{number}") for number in range(8)]
    whole.emulator.misbehave(Fault.HANG)
    with ThreadPoolExecutor(MANY) as threads:
        answers = list(threads.map(lambda number: deliver(hosted[number % 8]), range(MANY)))
    assert holds(answers, behind) == {202: MANY}
    assert max(answer.seconds for answer in answers) < BUDGET + SLACK
    assert {status.requested > status.finished for status in whole.app.queue.status()} == {True}


def test_deliveries_that_arrive_during_a_sync_cause_one_more(start: Start, behind: Store) -> None:
    whole = start(WEBHOOK_BUDGET_SECONDS="60")
    hosted = whole.repository()
    whole.emulator.misbehave(Fault.HANG, route="refs", times=1)
    calls = len(whole.emulator.calls)
    with ThreadPoolExecutor(MANY) as threads:
        first = threads.submit(deliver, hosted)
        whole.emulator.wait_for_calls(calls + 1)
        hosted.git.commit({A: workflow(2)})
        others = list(threads.map(lambda _: deliver(hosted), range(MANY - 1)))
        assert {answer.status for answer in others} == {202}
        whole.emulator.behave()
        assert first.result().status == 200
    assert syncs(behind) == 2
    assert whole.served() == {A: "workflow-2"}


def test_so_do_those_that_were_recorded_in_time_and_get_their_turn_when_it_has_ended(
    start: Start, behind: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(WEBHOOK_BUDGET_SECONDS="60")
    hosted = whole.repository()
    late, turn = threading.Barrier(20), threading.Lock()
    run = Sync.run

    def in_turn(*arguments: Any, **options: Any) -> Outcome:
        late.wait(PATIENCE)
        with turn:
            return run(*arguments, **options)

    monkeypatch.setattr(Sync, "run", in_turn)
    with ThreadPoolExecutor(late.parties) as threads:
        answers = list(threads.map(lambda _: deliver(hosted), range(late.parties)))
    assert holds(answers, behind) == {200: 1, 202: late.parties - 1}
    assert syncs(behind) == 1
    assert {outcome_of(answer) for answer in answers} == {"Replaced", "Deferred"}


class TestALockedDatabase:
    """For seconds, under more callers than the pool has connections."""

    @pytest.fixture
    def whole(self, start: Start) -> Contoso:
        return start(DATABASE_POOL_SIZE="2", WEBHOOK_BUDGET_SECONDS="60")

    @contextmanager
    def locked(self, behind: Store, table: str) -> Iterator[None]:
        """Meanwhile nobody waits long for a connection."""
        with pytest.MonkeyPatch.context() as patch, behind.transaction() as execute:
            patch.setattr(pool_module, "ACQUIRE_SECONDS", 0.3)
            execute(f"LOCK TABLE {table}")
            yield

    def test_is_a_503_to_whom_it_did_not_record_and_strangers_do_not_wait_for_it(
        self, whole: Contoso, behind: Store
    ) -> None:
        hosted = whole.repository()
        with ThreadPoolExecutor(MANY + 20) as threads:
            with self.locked(behind, "deliveries"):
                running = [threads.submit(deliver, hosted) for _ in range(MANY)]
                behind.wait_for_lock(2)
                for stranger in [threads.submit(deliver, hosted, WRONG) for _ in range(20)]:
                    assert stranger.result(PATIENCE).status == 401
                eventually(lambda: sum(one.done() for one in running) >= MANY - 2, "an answer to the others")
            counted = holds([one.result() for one in running], behind)
        assert counted[503] >= MANY - 2
        assert behind.sql("SELECT count(*) FROM deliveries") == [(MANY - counted[503],)]
        assert deliver(hosted).status in SUCCESS

    def test_is_no_503_to_whom_it_had_recorded_before(self, whole: Contoso, behind: Store) -> None:
        hosted = [whole.repository(f"team-{number}") for number in range(8)]
        whole.emulator.misbehave(Fault.HANG)
        whole.emulator.forget_calls()
        with ThreadPoolExecutor(len(hosted)) as threads:
            running = [threads.submit(deliver, one) for one in hosted]
            whole.emulator.wait_for_calls(len(hosted))
            with self.locked(behind, "branches"):
                whole.emulator.behave()
                behind.wait_for_lock(2)
                eventually(lambda: sum(one.done() for one in running) >= len(hosted) - 2, "an answer to the others")
            assert holds([one.result() for one in running], behind)[503] == 0


def test_a_database_that_is_down_is_a_quick_503_and_strangers_are_told_nothing_of_it(
    start: Start, behind: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "ACQUIRE_SECONDS", 0.5)
    whole = start()
    hosted = whole.repository()
    name = conninfo_to_dict(behind.conninfo)["dbname"]
    elsewhere = make_conninfo(behind.conninfo, dbname="postgres")
    with ThreadPoolExecutor(MANY) as threads, closing(psycopg.connect(elsewhere, autocommit=True)) as admin:
        running = [threads.submit(deliver, hosted) for _ in range(MANY)]
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            caught = [one.result() for one in running]
            without = list(threads.map(lambda _: deliver(hosted), range(MANY)))
            strangers = list(threads.map(lambda _: deliver(hosted, WRONG), range(MANY)))
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        assert holds(without, behind) == {503: MANY}
        assert {answer.status for answer in strangers} == {401}
        assert max(answer.seconds for answer in without + strangers) < SLACK
        holds(caught, behind)

    def again() -> bool:
        return deliver(hosted).status in SUCCESS

    eventually(again, "a success, as Azure DevOps sees it when it tries again")


class TestTheProcess:
    """`runtime-store serve`, over HTTP."""

    HUGE, PIECE = 100 * 1024 * 1024, 1 << 20
    GROWTH = 48 * 1024 * 1024
    """Bytes that the process may grow by: less than half of one such body."""

    @pytest.fixture
    def whole(self, start: Start) -> Contoso:
        return start()

    @pytest.fixture
    def server(self, whole: Contoso, own_database: str) -> Iterator[Program]:
        environment = {
            "DATABASE_URL": own_database,
            "WEBHOOK_SECRET": HOOK_KEY,
            "AZURE_DEVOPS_ORGANIZATION": whole.emulator.url,
            "AZURE_DEVOPS_PAT": PAT,
            "COMMIT_STATUSES": "false",
        }
        with started("shared", "serve", "--port", "0", "--no-timer", environment=environment) as server:
            yield server

    def test_answers_two_hundred_and_stays_small_whatever_it_is_sent(
        self, whole: Contoso, server: Program, behind: Store
    ) -> None:
        hosted = whole.repository()
        url = server.says(r"Runtime Store is at (http://\S+)")

        def posted(password: str, body: bytes | list[bytes]) -> int:
            return ask(url, "POST", WEBHOOK, basic(password), body)[0]

        def refused() -> int:
            """Of a body that is not read to its end the answer may be lost with the connection."""
            with suppress(ConnectionError):
                return posted(WRONG, [b" " * self.PIECE] * (self.HUGE // self.PIECE))
            return 413

        def size() -> int:
            return int(psutil.Process(server.pid).memory_info().rss)

        with ThreadPoolExecutor(MANY) as threads:
            assert set(threads.map(lambda _: posted(HOOK_KEY, delivery(hosted)), range(MANY))) <= SUCCESS
            before, largest = size(), 0
            large = b" " * (6 * self.PIECE)
            sent = [threads.submit(posted, password, large) for password in [WRONG, HOOK_KEY] * 8]
            sent += [threads.submit(refused) for _ in range(8)]
            while not all(one.done() for one in sent):
                largest = max(largest, size())
                wait(sent, 0.01, FIRST_COMPLETED)
        assert [one.result() for one in sent] == [401, 202] * 8 + [413] * 8
        assert largest - before < self.GROWTH
        assert behind.sql("SELECT count(*) FROM deliveries WHERE decision = 'malformed'") == [(8,)]
