"""The hot statements use their indexes, the replace is gated as it must be, and costs what its change costs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from support.stores import MAIN, REPO, SOURCE, Store, commit, config, delivery, judgement

from shared.errors import SourceFailed
from shared.model import BranchName, Change, Claim, Failed, FilePath, RepoId, SyncId, Trigger
from shared.postgres.pool import Pool

MANY = """
    INSERT INTO repositories (repo_id, name, source, root, pattern, branches, validation)
        SELECT n, n, 'source-' || i % 7, '', '', '{main}', 'enforce'
        FROM (SELECT i, 'repo-' || i AS n FROM generate_series(1, 150) AS i) AS r;
    INSERT INTO branches (repo_id, branch, requested, finished, commit_id, synced_at, next_attempt_at)
        SELECT repo_id, 'branch-' || i, 5, CASE WHEN i = 7 THEN 4 ELSE 5 END, 'c', clock_timestamp(),
               CASE WHEN i = 7 THEN clock_timestamp() + interval '1 minute' * (random() - 0.5) END
        FROM repositories, generate_series(1, 20) AS i;
    INSERT INTO runtime_configs (repo_id, branch, filepath, config, blob_id, ruleset, generation, digest)
        SELECT repo_id, 'branch-1', 'folder/' || i || '.yaml', '{}', 'b', 'r', 1, ''
        FROM repositories, generate_series(1, 30) AS i;
    INSERT INTO syncs (sync_id, repo_id, branch, trigger, outcome, started_at, from_request, to_request, generation,
                       commit_id, told, ended_at, posted_at)
        SELECT gen_random_uuid(), repo_id, branch, 'webhook', 'unchanged', clock_timestamp(), 1, 2, 3, md5(i::text),
               CASE WHEN i = 1 THEN 'succeeded: 1 config served' END,
               clock_timestamp() - interval '1 day' * (i - 1),
               CASE WHEN i = 1 AND (branch <> 'branch-7' OR repo_id < 'repo-9') THEN clock_timestamp() END
        FROM branches, generate_series(1, 30) AS i WHERE i = 1 OR branch = 'branch-1';
    INSERT INTO deliveries (delivery_id, decision, repo_id, event)
        SELECT gen_random_uuid(), 'requested', repo_id, '{}' FROM branches;
    ANALYZE
"""
SIZE = 10_000
ANY = RepoId("repo-7")
ONE = BranchName("branch-1")
CLAIM = {"repo_id": ANY, "branch": ONE, "sync_id": SyncId(uuid4()), "trigger": Trigger.SWEEP, "seen": 1, "finished": 0}

Node = Mapping[str, Any]


class Planned(Exception):
    """What PostgreSQL would do for a statement."""

    def __init__(self, plan: Node) -> None:
        self.nodes = list(_walk(plan))


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _walk(inner)


class Planner(Pool):
    """Explains each statement in place of running it."""

    def rows(self, statement: str, parameters: Any = None, *, binary: bool = False) -> list[Any]:
        raise Planned(super().rows(f"EXPLAIN (FORMAT JSON, VERBOSE) {statement}", parameters)[0][0][0]["Plan"])

    def write(self, statement: str, parameters: Any, *, prepare: bool | None = None) -> list[Any]:
        return self.rows(statement, parameters)


@pytest.fixture(scope="module")
def planner(postgres_server: Any) -> Iterator[Store]:
    with postgres_server.clone() as conninfo, closing(Planner(conninfo)) as pool:
        store = Store(pool, conninfo)
        store.sql(MANY)
        yield store


@pytest.fixture(scope="module")
def large(postgres_server: Any) -> Iterator[Store]:
    """`main` serves `SIZE` configs of about a kilobyte."""
    with postgres_server.clone() as conninfo, closing(Pool(conninfo)) as pool:
        store = Store(pool, conninfo)
        store.register()
        store.sync({f"team-{n % 50}/job-{n}/runtime.yaml": {"job": n, "text": "x" * 800} for n in range(SIZE)})
        store.sql("VACUUM ANALYZE")
        yield store


def plan(call: Callable[[], object]) -> list[Node]:
    with pytest.raises(Planned) as caught:
        call()
    return caught.value.nodes


def claim(deep: bool = False) -> Claim:
    rest: dict[str, Any] = dict.fromkeys(("commit_id", "judged_commit", "judged_tree", "judged_ruleset", "report"))
    return Claim(**CLAIM, **rest, deep=deep, generation=1, started_at=None)  # type: ignore[arg-type]


def indexes(nodes: list[Node]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}


def read_whole(nodes: list[Node]) -> set[str]:
    return {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}


def condition(nodes: list[Node], index: str) -> str:
    return next(node["Index Cond"] for node in nodes if node.get("Index Name") == index)


class TestReading:
    def test_an_item_is_two_look_ups_by_key(self, planner: Store) -> None:
        nodes = plan(lambda: planner.reader.item(ANY, ONE, FilePath("folder/1.yaml")))
        assert indexes(nodes) == {"branches_pkey", "runtime_configs_path"}
        assert read_whole(nodes) == set()
        for column in ("repo_id", "branch", "filepath"):
            assert f"c.{column} = " in condition(nodes, "runtime_configs_path")

    def test_a_generation_is_one(self, planner: Store) -> None:
        nodes = plan(lambda: planner.reader.generation(ANY, ONE))
        assert indexes(nodes) == {"branches_pkey"}
        assert read_whole(nodes) == set()

    @pytest.mark.parametrize("prefix", ["", "folder/"])
    def test_a_page_reads_from_its_first_path_on_and_sorts_nothing_before_its_limit(
        self, planner: Store, prefix: str
    ) -> None:
        nodes = plan(lambda: planner.reader.page(ANY, ONE, prefix, FilePath("folder/2.yaml"), 10))
        assert indexes(nodes) == {"branches_pkey", "runtime_configs_path"}
        assert "c.filepath > " in condition(nodes, "runtime_configs_path")
        [limit] = [node for node in nodes if node["Node Type"] == "Limit"]
        assert not [node for node in _walk(limit) if "Sort" in node["Node Type"]]

    @pytest.mark.parametrize("prefix", ["", "folder/"])
    def test_a_listing_and_what_is_stored_read_their_branch_alone(self, planner: Store, prefix: str) -> None:
        for call in (
            lambda: planner.reader.listing(ANY, ONE, prefix),
            lambda: planner.configs.stored(ANY, ONE),
            lambda: planner.configs.stored(ANY, ONE, verify=True),
        ):
            nodes = plan(call)
            assert "runtime_configs_path" in indexes(nodes)
            assert "branch = " in condition(nodes, "runtime_configs_path")
            assert read_whole(nodes) == set()

    def test_the_journal_reads_the_newest_of_one_repository(self, planner: Store) -> None:
        assert indexes(plan(lambda: planner.journal.syncs(ANY, ONE, 5))) == {"syncs_of_branch"}
        assert indexes(plan(lambda: planner.journal.deliveries(ANY, 5))) == {"deliveries_of_repository"}


class TestOutbox:
    UNPOSTED: Any = SimpleNamespace(
        lease_id=uuid4(),
        sync=SimpleNamespace(
            repo_id=ANY, branch=ONE, sync_id=uuid4(), commit_id=commit(1), ended_at=datetime(2026, 1, 1, tzinfo=UTC)
        ),
    )

    def test_what_waits_is_found_among_what_ended_since_yesterday_and_was_not_posted(self, planner: Store) -> None:
        nodes = plan(lambda: planner.outbox.claim(SOURCE))
        assert "ended_at > " in condition(nodes, "syncs_unposted")
        assert {"branches_pkey"} <= indexes(nodes)
        assert not {"syncs", "branches"} & read_whole(nodes)

    def test_what_its_commit_was_told_is_one_look_up(self, planner: Store) -> None:
        held = {"repo_id": ANY, "branch": ONE, "lease_id": uuid4()}
        nodes = plan(lambda: planner.outbox._unposted(held))
        assert "commit_id = " in condition(nodes, "syncs_told")
        assert {"branches_pkey", "runtime_configs_path"} <= indexes(nodes)
        assert not {"syncs", "branches", "runtime_configs"} & read_whole(nodes)

    def test_to_be_posted_touches_its_branch_alone(self, planner: Store) -> None:
        nodes = plan(lambda: planner.outbox.posted(self.UNPOSTED, "succeeded: 1 config served"))
        assert indexes(nodes) <= {"branches_pkey", "syncs_of_branch", "syncs_told"}
        assert "branches" not in read_whole(nodes)
        assert "syncs" not in read_whole(nodes)


class TestQueue:
    def test_what_is_due_longest_is_the_first_of_an_index(self, planner: Store) -> None:
        nodes = plan(lambda: planner.queue.claim_due(SyncId(uuid4())))
        assert {"branches_due", "branches_pkey"} <= indexes(nodes)
        assert "branches" not in read_whole(nodes)
        [limit] = [node for node in nodes if node["Node Type"] == "Limit"]
        below = list(_walk(limit))
        assert "branches_due" in indexes(below)
        assert not [node for node in below if "Sort" in node["Node Type"]]

    def test_every_step_of_a_sync_finds_its_branch_by_key(self, planner: Store) -> None:
        for call in (
            lambda: planner.queue.claim(ANY, ONE, SyncId(uuid4()), Trigger.WEBHOOK),
            lambda: planner.queue.renew(claim()),
            lambda: planner.queue.settle(claim(), Failed(SourceFailed("broken"))),
        ):
            nodes = plan(call)
            assert "branches_pkey" in indexes(nodes)
            assert "branches" not in read_whole(nodes)

    def test_a_request_reads_no_table_whole(self, planner: Store) -> None:
        nodes = plan(lambda: planner.queue.request(delivery(), ANY, [ONE]))
        assert not {"branches", "deliveries", "runtime_configs"} & read_whole(nodes)


class TestReplace:
    @pytest.fixture
    def nodes(self, planner: Store) -> list[Node]:
        change = Change((config("folder/1.yaml", 1), config("new.yaml", 2)), (FilePath("folder/2.yaml"),))
        return plan(lambda: planner.configs.replace(claim(), judgement(1), change, serve=commit(1)))

    def test_every_writer_is_fed_from_the_row_that_the_fence_returns(self, nodes: list[Node]) -> None:
        """So that the branch is locked, and its lease checked on its newest version, before any row is touched; and
        that a loser, who gets no row, touches none."""
        writers = [
            node
            for node in nodes
            if node["Node Type"] == "ModifyTable" and node["Relation Name"] in ("runtime_configs", "syncs")
        ]
        assert sorted(node["Operation"] for node in writers) == ["Delete", "Insert", "Insert", "Update"]
        for writer in writers:
            assert "fence" in {node.get("CTE Name") for node in _walk(writer)}, writer["Subplan Name"]
            joins = [
                node for node in _walk(writer) if "Join" in node["Node Type"] or node["Node Type"] == "Nested Loop"
            ]
            assert {join["Join Type"] for join in joins} <= {"Inner"}, "an outer join lets rows through without a fence"

    def test_the_fence_is_the_lease_on_the_branch_found_by_key(self, nodes: list[Node]) -> None:
        [fence] = [node for node in nodes if node.get("Subplan Name") == "CTE fence"]
        assert (fence["Operation"], fence["Relation Name"]) == ("Update", "branches")
        [scan] = [node for node in _walk(fence) if node.get("Index Name") == "branches_pkey"]
        assert "lease_id = " in scan["Filter"]

    def test_it_is_planned_for_the_documents_at_hand(self, own_database: str) -> None:
        """A plan for any number of them may take ten times as long for many."""
        with closing(Pool(own_database, size=1)) as pool:
            store = Store(pool, own_database)
            store.register()
            for number in range(9):
                store.sync({"a.yaml": number})
            prepared = [statement for (statement,) in pool.rows("SELECT statement FROM pg_prepared_statements")]
        assert any("WITH due" in statement or "runtime_configs" in statement for statement in prepared)
        assert not [statement for statement in prepared if "incoming" in statement]

    def test_only_rows_that_are_named_are_read(self, nodes: list[Node]) -> None:
        assert "runtime_configs" not in read_whole(nodes)


class TestCost:
    """Bytes of WAL, full-page images left out (the test server writes none), at 10,000 rows."""

    def written(self, store: Store, change: Callable[[int], Change]) -> int:
        """The median of some: autovacuum and checkpoints write WAL too."""
        costs = []
        for number in range(9):
            store.queue.ask(REPO, [MAIN])
            held = store.claim()
            verdict, files = judgement(number), change(number)
            [(before,)] = store.sql("SELECT pg_current_wal_insert_lsn()")
            store.configs.replace(held, verdict, files, serve=verdict.commit_id)
            [(cost,)] = store.sql("SELECT (pg_current_wal_insert_lsn() - %s::pg_lsn)::int", before)
            costs.append(cost)
        return int(sorted(costs)[4])

    def test_a_replace_that_changes_nothing_writes_less_than_a_kilobyte(self, large: Store) -> None:
        assert 0 < self.written(large, lambda number: Change()) < 1000

    def test_one_changed_row_of_ten_thousand_writes_less_than_four(self, large: Store) -> None:
        def one(number: int) -> Change:
            value = {"job": number, "text": f"{number}" * 800}
            return Change((config(f"team-{number}/job-{number}/runtime.yaml", value),))

        assert 0 < self.written(large, one) < 4000
        assert large.sql("SELECT count(*) FROM runtime_configs") == [(SIZE,)]
