"""The soak itself: a short one finds nothing, and what checks its reads finds what it is there to find."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from support.processes import started

from benchmarks.soak.checking import Answer, Checker, Edited, Held, Violation
from benchmarks.soak.ledger import Known, Ledger

PLACE = ("team", "main")
FIRST, SECOND, BROKEN = "1" * 40, "2" * 40, "3" * 40
FILES: Mapping[str, Mapping[str, int]] = {
    FIRST: {"a_runtime.yaml": 1, "b_runtime.yaml": 1},
    SECOND: {"a_runtime.yaml": 1, "b_runtime.yaml": 2},
}


@pytest.mark.timeout(360)
def test_a_short_soak_finds_no_violation() -> None:
    faults = "killed|frozen|leases|crashed|terminated|edited"
    words = ["--pushes", "24", "--repositories", "3", "--quiet-every", "12", "--gap", "0.2", "--calm", "0", "--hurry"]
    more = ["--only", faults, "--readers", "2", "--seed", "1"]
    with started("benchmarks", "soak", *words, *more) as soak:
        soak.says("violations +0", seconds=300)
        assert soak.ends() == 0
    told = dict(re.findall(r"^  (\w+(?: \w+)*) {2,}(.+)$", soak.output, re.MULTILINE))
    assert "Soak of 24 pushes" in soak.output
    assert told["faults"] != "0: none"
    assert "lists" in told["reads checked"]
    assert told["quiet"].startswith("2 moments")


class Story:
    """A branch that was pushed twice, and a client that asks."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(folder / "ledger")
        self.known = Known(folder / "ledger")
        self.checker = Checker(self.known, ["main"])
        for commit, files in FILES.items():
            self.ledger.pushed(PLACE, commit, files, is_valid=True)
        self.ledger.pushed(PLACE, BROKEN, {}, is_valid=False)

    def list(self, answer: Answer, held: Held | None = None) -> Held | None:
        return self.checker.list(PLACE, self.checker.before(PLACE), answer, held)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    story = Story(tmp_path)
    yield story
    story.ledger.close()
    story.known.close()


def answer(commit: str, generation: int, files: Mapping[str, int] | None = None, *, status: int = 200) -> Answer:
    listed = FILES.get(commit, {}) if files is None else files
    items = [{"filepath": path, "config": {"workflow": {"id": f"workflow-{n}"}}} for path, n in listed.items()]
    headers = {"x-commit-id": commit, "x-generation": str(generation), "etag": f'"{generation}"'}
    return Answer(status, headers, json.dumps(items).encode() if status == 200 else b"")


def test_what_is_right_passes(story: Story) -> None:
    held = story.list(answer(FIRST, 10))
    assert held is not None
    assert story.list(answer(FIRST, 10, status=304), held) == held
    assert story.list(answer(SECOND, 11)) is not None
    assert story.list(answer(SECOND, 11, status=503)) is None


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([answer(FIRST, 10, FILES[SECOND])], "not the set of its commit"),
        ([answer(FIRST, 10, {"a_runtime.yaml": 1})], "not the set of its commit"),
        ([answer(FIRST, 10, {})], "not the set of its commit"),
        ([answer("4" * 40, 10)], "never pushed"),
        ([answer(BROKEN, 10)], "not valid"),
        ([answer(SECOND, 11), answer(FIRST, 10)], "generation 10 after 11"),
        ([answer(FIRST, 10), answer(SECOND, 10)], "two bodies under the ETag"),
        ([answer(FIRST, 10), answer(FIRST, 10, status=404)], "not deleted since"),
        ([answer(FIRST, 10, status=500)], "answered 500"),
        ([answer(FIRST, 10, status=304)], "without a condition"),
    ],
)
def test_what_is_wrong_is_a_violation(story: Story, answers: Sequence[Answer], why: str) -> None:
    *before, last = answers
    for one in before:
        story.list(one)
    with pytest.raises(Violation, match=why):
        story.list(last)


def test_a_304_for_another_content_is_a_violation(story: Story) -> None:
    held = story.list(answer(FIRST, 10))
    with pytest.raises(Violation, match="304 for"):
        story.list(answer(SECOND, 10, status=304), held)


def test_pages_of_two_sets_are_a_violation(story: Story) -> None:
    pages = [answer(FIRST, 10, {"a_runtime.yaml": 1}), answer(SECOND, 11, {"b_runtime.yaml": 2})]
    with pytest.raises(Violation, match="pages of the generations"):
        story.checker.pages(PLACE, story.checker.before(PLACE), pages)


def test_a_config_of_another_commit_is_a_violation(story: Story) -> None:
    body = json.dumps({"workflow": {"id": "workflow-1"}}).encode()
    asked = (PLACE, "b_runtime.yaml", story.checker.before(PLACE))
    with pytest.raises(Violation, match="of commit 1"):
        story.checker.item(*asked, answer(SECOND, 11)._replace(body=body), is_always=False)


def test_a_config_that_every_commit_has_is_not_missing(story: Story) -> None:
    missing = Answer(404, {}, b'{"type": "config-not-found"}')
    with pytest.raises(Violation, match="every commit has"):
        story.checker.item(PLACE, "a_runtime.yaml", story.checker.before(PLACE), missing, is_always=True)


def test_nothing_is_said_of_rows_that_somebody_edits(story: Story) -> None:
    before = story.checker.before(PLACE)
    story.ledger.edited(PLACE)
    with pytest.raises(Edited):
        story.checker.list(PLACE, before, answer(FIRST, 10, {}))
    story.ledger.healed(PLACE)
    with pytest.raises(Violation):
        story.list(answer(FIRST, 10, {}))
