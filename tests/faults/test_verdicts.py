"""A verdict belongs to one commit under one set of rules, and stands exactly as long as both are the same."""

from dataclasses import replace
from typing import Any

import pytest
from support.world import INVALID, MAIN, NOT_YAML, Team, World, budget, workflow

from shared.listing import ListingLimits
from shared.model import (
    BlobId,
    CommitId,
    Condition,
    Document,
    FilePath,
    Finding,
    Outcome,
    Rejected,
    Replaced,
    Trigger,
    Unchanged,
    Validation,
)
from shared.rules import Rules

A, B = "a_runtime.yaml", "b_runtime.yaml"
SAME = {A: "workflow-1", B: "workflow-2"}


def limited(**limits: int) -> Rules:
    """The shipped rules with other limits."""
    return Rules(Rules.shipped()._validator, None, ListingLimits(**limits))


@pytest.fixture
def served(team: Team) -> Team:
    """It serves two files from one commit."""
    team.git.commit({A: workflow(1), B: workflow(2)})
    team.sync()
    return team


class TestACommitThatAPipelineWaitsFor:
    def wait_for(self, team: Team, commit: CommitId) -> Outcome:
        return dict(team.world.by_hand.sync(team.repo_id, [MAIN], budget(), commit=commit))[MAIN]

    def test_it_is_not_live_for_being_in_the_history_of_what_is_served(self, served: Team) -> None:
        first = served.git.head("main")
        served.git.commit({A: workflow(3)})
        served.sync()
        served.git.set_head("main", first)
        assert isinstance(self.wait_for(served, first), Replaced)
        assert served.numbers() == SAME

    def test_it_is_live_without_a_sync_when_the_served_head_has_it_in_its_history(self, served: Team) -> None:
        first = served.git.head("main")
        second = served.git.commit({A: workflow(3)})
        served.sync()
        before = served.status()
        assert self.wait_for(served, first) == Unchanged(second, before.generation)
        assert served.status() == before

    def test_it_gets_the_report_again_with_which_it_was_rejected(self, served: Team) -> None:
        bad = served.git.commit({A: INVALID})
        rejected = served.sync()
        before = served.status()
        assert self.wait_for(served, bad) == rejected
        assert served.status() == before


def test_a_file_that_new_rules_reject_rejects_the_next_commit_too(team: Team) -> None:
    team.change(validation=Validation.REPORT)
    team.git.commit({A: INVALID, B: workflow(2)})
    assert isinstance(team.sync(), Replaced)
    team.change(validation=Validation.ENFORCE)
    assert isinstance(team.run(), Rejected)
    team.git.commit({B: workflow(3)})
    outcome = team.sync()
    assert isinstance(outcome, Rejected)
    assert outcome.report.findings[0].path == A
    assert team.status().condition is Condition.INVALID


class TestTheMemoryOfARejection:
    @pytest.mark.parametrize("trigger", list(Trigger))
    def test_it_costs_one_look_at_the_head_whoever_asks_again(self, served: Team, trigger: Trigger) -> None:
        served.git.commit({A: INVALID})
        rejected = served.sync()
        served.world.git.calls.clear()
        assert served.sync(trigger=trigger) == rejected
        assert served.world.git.calls == {"head": 1}

    def test_a_raised_limit_ends_it(self, team: Team) -> None:
        team.world.use(limited(max_files=1))
        team.git.commit({A: workflow(1), B: workflow(2)})
        assert isinstance(team.sync(), Rejected)
        team.world.use(limited(max_files=2))
        assert isinstance(team.sync(), Replaced)

    def test_going_back_to_what_is_served_ends_it_with_the_report_of_what_is_served(self, team: Team) -> None:
        good = team.git.commit({A: workflow(1), "b_runtime.yml": workflow(2)})
        team.sync()
        [near_miss] = team.status().report.findings
        team.git.commit({A: INVALID})
        team.sync()
        team.git.set_head("main", good)
        assert isinstance(team.sync(), Unchanged)
        status = team.status()
        assert (status.condition, status.report.findings) == (Condition.READY, (near_miss,))

    def test_so_it_is_with_the_absence_of_a_branch(self, served: Team) -> None:
        served.git.delete("main")
        assert isinstance(served.sync(), Replaced)
        served.world.store.calls.clear()
        assert isinstance(served.sync(), Unchanged)
        assert served.world.store.calls["stored"] == 0


class Poison(Rules):
    """Reads every file as something that no database takes."""

    def judge(
        self, path: FilePath, blob_id: BlobId, data: bytes, mode: Validation
    ) -> tuple[Document | None, tuple[Finding, ...]]:
        return Document(path, blob_id, {"a": "\0"}), ()


class TestDocumentsThatNothingCanStore:
    """A verdict that names the file, instead of a failure that is repeated for ever."""

    def hold(self, team: Team, rule: str, path: str) -> None:
        assert team.world.sweep().outcomes == {"Rejected": 1}
        status = team.status()
        assert (status.report.findings[0].rule, status.report.findings[0].path) == (rule, path)
        assert (status.condition, status.is_waiting) == (Condition.INVALID, False)
        team.world.let_back_off_pass()
        assert team.world.sweep().outcomes == {}
        assert team.numbers() == SAME

    @pytest.mark.parametrize(
        ("path", "rule", "shown"),
        [
            ("/".join(["x" * 200] * 20) + "_runtime.yaml", "path-too-long", None),
            ("\udcff_runtime.yaml", "path-not-utf-8", "\\xff_runtime.yaml"),
        ],
        ids=["long path", "path that is not UTF-8"],
    )
    def test_for_its_path(self, served: Team, path: str, rule: str, shown: str | None) -> None:
        served.git.commit({path: workflow(3)})
        served.ask()
        self.hold(served, rule, shown or path)

    def test_for_a_path_that_is_listed_twice(self, served: Team) -> None:
        git = served.git
        names = [(A, workflow(1)), (B, workflow(2)), (B, workflow(3))]
        blobs = [(name, git.git("hash-object", "-w", "--stdin", stdin=content)) for name, content in names]
        content = b"".join(b"100644 %s\0%s" % (name.encode(), bytes.fromhex(blob)) for name, blob in blobs)
        tree = git.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=content)
        person = ("-c", "user.name=Grace Hopper", "-c", "user.email=grace@example.com")
        git.set_head("main", git.git(*person, "commit-tree", "-m", "Twice", tree))
        served.ask()
        self.hold(served, "path-listed-twice", B)

    def test_for_a_value_that_the_database_refuses(self, served: Team) -> None:
        served.git.commit({"c_runtime.yaml": workflow(3)})
        served.world.use(Poison.shipped())
        served.ask()
        self.hold(served, "database", "c_runtime.yaml")


def test_two_versions_of_the_app_do_not_judge_back_and_forth(served: Team) -> None:
    older = served.world
    newer = World(older.pool, older.folder, rules=limited(max_files=1))
    upgraded = Team(newer, served.git, served.repository)
    for team in (upgraded, served, upgraded):
        assert isinstance(team.sync(trigger=Trigger.WEBHOOK), Unchanged)
    newer.make_head_checks_due()
    assert newer.sweep().outcomes == {"Rejected": 1}
    for team in (served, upgraded, served):
        assert isinstance(team.sync(trigger=Trigger.WEBHOOK), Rejected)
    assert served.numbers() == SAME


@pytest.mark.parametrize("validation", list(Validation))
@pytest.mark.parametrize("bad", [NOT_YAML, INVALID], ids=["not YAML", "not of the schema"])
def test_what_is_served_is_never_a_mix_of_two_commits(served: Team, validation: Validation, bad: bytes) -> None:
    served.change(validation=validation)
    served.run()
    before = served.git.head("main")
    after = served.git.commit({A: workflow(11), B: bad, "c_runtime.yaml": workflow(3)})
    served.sync()
    listing = served.world.reader.listing(served.repo_id, MAIN)
    assert listing is not None
    assert listing.served.commit_id in (before, after)
    blobs = {item.filepath: item.blob_id for item in listing.items}
    paths = [A, B, "c_runtime.yaml"] if listing.served.commit_id == after else [A, B]
    assert blobs == {path: served.git.blob_id(listing.served.commit_id, path) for path in paths}
    assert (listing.served.commit_id == after) == (validation is Validation.REPORT and bad == INVALID)


class TestLimitsOfASet:
    """Findings, so that what no attempt could ever fetch in time is not tried for ever."""

    def rejected(self, team: Team) -> str:
        outcome = team.sync()
        assert isinstance(outcome, Rejected)
        assert not team.status().is_waiting
        return outcome.report.findings[0].rule

    def test_too_many_files(self, team: Team) -> None:
        team.git.commit({A: workflow(1), B: workflow(2)})
        team.world.use(limited(max_files=1))
        assert self.rejected(team) == "too-many-files"
        assert team.world.git.calls["blobs"] == 0

    def test_too_many_bytes_are_known_before_anything_is_fetched(self, team: Team) -> None:
        team.git.commit({A: workflow(1), B: workflow(2)})
        team.world.use(limited(max_total_bytes=50))
        assert self.rejected(team) == "too-many-bytes"
        assert team.world.git.calls["blobs"] == 0

    def test_too_many_bytes_where_the_source_tells_no_sizes(self, team: Team) -> None:
        team.git.commit({A: workflow(1), B: workflow(2)})
        tree = team.world.git.tree

        def without_sizes(*arguments: Any) -> Any:
            team.world.git.instead.clear()
            listed = tree(*arguments)
            return replace(listed, entries=tuple(entry._replace(size=None) for entry in listed.entries))

        team.world.git.instead["tree"] = without_sizes
        team.world.use(limited(max_total_bytes=50))
        assert self.rejected(team) == "too-many-bytes"

    def test_a_file_that_is_too_large_to_be_read(self, team: Team) -> None:
        team.git.commit({A: workflow(1)})
        team.world.git.instead["blobs"] = lambda repository, commit, ids, deadline: ((one, 500_000_000) for one in ids)
        assert self.rejected(team) == "file-too-large"
