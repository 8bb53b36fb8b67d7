"""Ids and what refers to them: what is refused, where it is told, and that one mistake is told once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model import JsonValue, Severity
from shared.validation import references
from shared.validation.mistakes import Mistake


def part(id: Any, upstream: Any = None, *joins: str) -> dict[str, Any]:
    """An extract, or with an upstream a transform or load, with as much as references need."""
    value: dict[str, Any] = {"id": id}
    if upstream is not None:
        value["upstream_id"] = upstream
    if joins:
        value["functions"] = [{"function_type": "join", "arguments": {"other_upstream_id": one}} for one in joins]
    return value


def job(extracts: Any, transforms: Any = (), loads: Any = ()) -> dict[str, Any]:
    return {"extracts": extracts, "transforms": list(transforms), "loads": list(loads)}


def found(*jobs: Any, key: str = "workflow") -> list[Mistake]:
    return list(references.mistakes({key: {"jobs": list(jobs)}}))


def brief(mistakes: list[Mistake]) -> list[tuple[str, str]]:
    """Rule, and the place below the job."""
    return [(mistake.rule, "/".join(map(str, mistake.path[3:]))) for mistake in mistakes]


class TestAnId:
    def test_stands_once_among_extracts_transforms_and_loads(self) -> None:
        mistakes = found(job([part("a"), part("a")], [part("b", "a"), part("a", "b")], [part("b", "b")]))
        assert brief(mistakes) == [
            ("duplicate-id", "extracts/1/id"),
            ("duplicate-id", "transforms/1/id"),
            ("duplicate-id", "loads/0/id"),
        ]
        assert mistakes[2].message == (
            "id is b, and so is that of item 1 of transforms: give one of them another id. Extracts, transforms and "
            "loads of a job share their ids."
        )

    def test_may_stand_in_another_job_again(self) -> None:
        one = job([part("a")], [part("b", "a")], [part("c", "b")])
        assert found(one, one) == []

    def test_of_another_job_is_not_to_be_read(self) -> None:
        assert brief(found(job([part("a")]), job([part("b")], [part("c", "a")]))) == [
            ("upstream-unknown", "transforms/0/upstream_id")
        ]


class TestATransform:
    def test_reads_extracts_and_what_is_above_it(self) -> None:
        assert found(job([part("a"), part("b")], [part("c", "a", "b"), part("d", "c", "a", "c"), part("e", "b")])) == []

    def test_does_not_read_what_is_below_it(self) -> None:
        mistakes = found(job([part("a")], [part("b", "c"), part("c", "a")]))
        assert brief(mistakes) == [("upstream-later", "transforms/0/upstream_id")]
        assert mistakes[0].message == (
            "upstream_id is c, a transform that comes later: move that above this one, or name one that is above."
        )

    def test_does_not_read_itself(self) -> None:
        assert brief(found(job([part("a")], [part("b", "b", "b")]))) == [
            ("upstream-itself", "transforms/0/upstream_id"),
            ("upstream-itself", "transforms/0/functions/0/arguments/other_upstream_id"),
        ]

    def test_does_not_read_a_load(self) -> None:
        assert brief(found(job([part("a")], [part("b", "c", "c")], [part("c", "b")]))) == [
            ("upstream-is-load", "transforms/0/upstream_id"),
            ("upstream-is-load", "transforms/0/functions/0/arguments/other_upstream_id"),
        ]

    def test_of_two_that_read_each_other_has_one_mistake(self) -> None:
        assert brief(found(job([], [part("a", "b"), part("b", "a")]))) == [
            ("upstream-later", "transforms/0/upstream_id")
        ]

    def test_with_another_function_than_join_reads_no_other(self) -> None:
        function = {"function_type": "filter", "arguments": {"other_upstream_id": "nobody"}}
        assert found(job([part("a")], [{**part("b", "a"), "functions": [function]}])) == []


class TestALoad:
    def test_reads_extracts_and_transforms(self) -> None:
        assert found(job([part("a")], [part("b", "a")], [part("c", "a"), part("d", "b"), part("e", "b")])) == []

    @pytest.mark.parametrize(("upstream", "rule"), [("c", "upstream-is-load"), ("d", "upstream-itself")])
    def test_does_not_read_a_load(self, upstream: str, rule: str) -> None:
        assert brief(found(job([part("a")], [], [part("c", "a"), part("d", upstream)]))) == [
            (rule, "loads/1/upstream_id")
        ]


class TestAnIdThatNobodyHas:
    def test_is_asked_about_when_one_is_near_that_may_be_read(self) -> None:
        mistakes = found(job([part("orders")], [part("clean", "order"), part("clear", "cleam")]))
        assert [mistake.message for mistake in mistakes] == [
            "upstream_id is order, but no extract or transform of this job has that id. Did you mean orders?",
            "upstream_id is cleam, but no extract or transform of this job has that id. Did you mean clean?",
        ]

    def test_is_one_mistake_however_many_name_it(self) -> None:
        readers = [part(f"t{number}", "orders") for number in range(6)]
        mistakes = found(job([part("ordesr")], [part("first", "orders", "orders"), *readers]))
        assert brief(mistakes) == [("upstream-unknown", "transforms/0/upstream_id")]
        assert mistakes[0].message.endswith("Did you mean ordesr? It is also named by first, t0, t1 and 4 more.")

    @pytest.mark.parametrize(
        "broken",
        [
            {"transforms": [part("b", "a")]},
            job(None, [part("b", "a")]),
            job({"a": {}}, [part("b", "a")]),
            job([{"idd": "a"}], [part("b", "a")], [part("c", "a")]),
            job([part(1)], [part("b", "1")]),
            job([part("")], [part("b", "a")]),
            job(["a"], [part("b", "a")]),
            job([part("x")], [{"upstream_id": "x"}], [part("c", "b")]),
            job([part("x")], [None], [part("c", "b")]),
        ],
    )
    def test_is_not_told_where_a_component_has_no_id_that_it_could_be(self, broken: Any) -> None:
        assert found(broken) == []

    def test_is_told_when_only_a_load_has_no_id(self) -> None:
        assert brief(found(job([part("a")], [part("b", "x")], [{"upstream_id": "b"}]))) == [
            ("upstream-unknown", "transforms/0/upstream_id")
        ]

    def test_is_told_beside_all_that_is_certain(self) -> None:
        """An extract without an id could be what x names; it is not what makes c come too late."""
        broken = job([part("a"), {}], [part("b", "c"), part("c", "x")], [part("a", "b")])
        assert brief(found(broken)) == [("duplicate-id", "loads/0/id"), ("upstream-later", "transforms/0/upstream_id")]


def test_both_keys_of_a_file_are_looked_at() -> None:
    broken = job([part("a"), part("a")])
    assert [mistake.path[0] for mistake in found(broken, key="runtime")] == ["runtime"]
    both: Any = {"workflow": {"jobs": [broken]}, "runtime": {"jobs": [broken]}}
    assert len(list(references.mistakes(both))) == 2


def test_all_of_it_is_an_error_at_the_value() -> None:
    for mistake in found(job([part("a"), part("a")], [part("b", "x"), part("c", "c"), part("d", "e"), part("e", "f")])):
        assert (mistake.severity, mistake.at_key) == (Severity.ERROR, False)


_KEYS = """
workflow jobs extracts transforms loads id upstream_id functions
function_type arguments other_upstream_id
"""
KEYS = st.sampled_from(_KEYS.split())
SCALARS = st.none() | st.integers() | st.sampled_from(["a", "b", "join", ""])
SHAPES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=30
)


@given(SHAPES)
def test_a_document_of_any_shape_can_be_looked_at(value: JsonValue) -> None:
    list(references.mistakes(value))
    list(references.mistakes({"workflow": {"jobs": [value]}}))
    list(
        references.mistakes(
            {"workflow": {"jobs": [{"extracts": [{"id": "a"}], "transforms": [value], "loads": value}]}}
        )
    )


IDS = st.sampled_from("abcd")
PARTS = st.builds(part, IDS, IDS)


@given(
    st.lists(IDS.map(part), max_size=3),
    st.lists(
        st.builds(lambda id, upstream, join: part(id, upstream, *join), IDS, IDS, st.lists(IDS, max_size=1)), max_size=3
    ),
    st.lists(PARTS, max_size=3),
)
def test_a_job_without_mistakes_is_one_that_samara_accepts(extracts: Any, transforms: Any, loads: Any) -> None:
    """Against the rule as Samara applies it, which stops at the first mistake."""

    def accepts() -> bool:
        ids = [one["id"] for one in [*extracts, *transforms, *loads]]
        above = {one["id"] for one in extracts}
        for one in transforms:
            joins = [function["arguments"]["other_upstream_id"] for function in one.get("functions", ())]
            if one["upstream_id"] == one["id"] or not {one["upstream_id"], *joins} <= above:
                return False
            above.add(one["id"])
        return len(ids) == len(set(ids)) and all(one["upstream_id"] in above for one in loads)

    assert (found(job(extracts, transforms, loads)) == []) == accepts()
