"""What JSON Schema cannot say of a job: its components have different ids, and read only what comes before them.

As Samara's own job model checks it: an id stands once among extracts, transforms and loads; a transform and each of its
joins read an extract or a transform above it; a load reads any extract or transform. Ids of jobs, of actions and of
channels may repeat there, and so they may here.

One mistake is told once. All who name the same missing id are one mistake, and where a component that could have that
id has none that can be read, the schema's finding about that is the one.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from shared.model import JsonValue
from shared.validation.mistakes import Mistake, Path, clipped, did_you_mean

_SECTIONS: Final = ("extracts", "transforms", "loads")
_LOADS: Final = "loads"
_NAMED: Final = 3
"""Further places that a message names; the others are counted."""


class _Component(NamedTuple):
    """One extract, transform or load that has an id; `rank` counts all of the job, in the order in which they run."""

    rank: int
    section: str
    number: int
    """From 0, within its section."""
    id: str
    value: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return self.section[:-1]


class _Reference(NamedTuple):
    """A place at which a component names another."""

    component: _Component
    path: Path
    """From the job."""
    target: str


def mistakes(document: JsonValue) -> Iterator[Mistake]:
    """All of a document of any shape, lazily, one job after the other."""
    if not isinstance(document, dict):
        return
    for key in ("workflow", "runtime"):
        workflow = document.get(key)
        jobs = workflow.get("jobs") if isinstance(workflow, dict) else None
        if isinstance(jobs, list):
            for index, job in enumerate(jobs):
                if isinstance(job, dict):
                    for mistake in _of_job(job):
                        yield mistake._replace(path=(key, "jobs", index, *mistake.path))


def _of_job(job: Mapping[str, Any]) -> Iterator[Mistake]:
    components, is_complete = _components(job)
    known: dict[str, _Component] = {}
    for component in components:
        first = known.setdefault(component.id, component)
        if first is not component:
            yield _repeated(component, first)
    missing: dict[str, list[_Reference]] = defaultdict(list)
    for reference in _references(components):
        target = known.get(reference.target)
        if target is None:
            missing[reference.target].append(reference)
        elif target.rank >= reference.component.rank or target.section == _LOADS:
            yield _misplaced(reference, target)
    if is_complete:
        for references in missing.values():
            yield _unknown(references, known)


def _components(job: Mapping[str, Any]) -> tuple[list[_Component], bool]:
    """Those with an id that can be read, and whether these are all that others could refer to."""
    components: list[_Component] = []
    is_complete = True
    for section in _SECTIONS:
        values = job.get(section)
        if not isinstance(values, list):
            is_complete = is_complete and section == _LOADS
            continue
        for number, value in enumerate(values):
            name = value.get("id") if isinstance(value, dict) else None
            if isinstance(name, str) and name:
                components.append(_Component(len(components), section, number, name, value))
            else:
                is_complete = is_complete and section == _LOADS
    return components, is_complete


def _references(components: list[_Component]) -> Iterator[_Reference]:
    for component in components:
        _, section, number, _, value = component
        if section == "extracts":
            continue
        target = value.get("upstream_id")
        if isinstance(target, str) and target:
            yield _Reference(component, (section, number, "upstream_id"), target)
        functions = value.get("functions") if section == "transforms" else None
        for step, function in enumerate(functions if isinstance(functions, list) else ()):
            if isinstance(function, dict) and function.get("function_type") == "join":
                arguments = function.get("arguments")
                target = arguments.get("other_upstream_id") if isinstance(arguments, dict) else None
                if isinstance(target, str) and target:
                    path = (section, number, "functions", step, "arguments", "other_upstream_id")
                    yield _Reference(component, path, target)


def _repeated(component: _Component, first: _Component) -> Mistake:
    message = (
        f"id is {clipped(component.id)}, and so is that of item {first.number + 1} of {first.section}: give one of "
    )
    message += "them another id. Extracts, transforms and loads of a job share their ids."
    return Mistake((component.section, component.number, "id"), "duplicate-id", message)


def _misplaced(reference: _Reference, target: _Component) -> Mistake:
    """The target is there, and cannot be read from here."""
    key, name = reference.path[-1], clipped(reference.target)
    if target is reference.component:
        rule, message = "upstream-itself", f"is {name}, which is this {target.kind} itself: name what it reads from."
    elif target.section == _LOADS:
        rule, message = "upstream-is-load", f"is {name}, which is a load: nothing can be read from a load."
    else:
        message = f"is {name}, a {target.kind} that comes later: move that above this one, or name one that is above."
        rule = "upstream-later"
    return Mistake(reference.path, rule, f"{key} {message}")


def _unknown(references: list[_Reference], known: Mapping[str, _Component]) -> Mistake:
    """Nobody has this id. Told where it is named first; the others are in the message."""
    first = references[0]
    message = f"{first.path[-1]} is {clipped(first.target)}, but no extract or transform of this job has that id."
    message += did_you_mean(first.target, _readable(first.component, known))
    return Mistake(first.path, "upstream-unknown", message + _also(references[1:]))


def _readable(component: _Component, known: Mapping[str, _Component]) -> Collection[str]:
    """The ids that this component may name."""
    others = known.values()
    return [other.id for other in others if other.rank < component.rank and other.section != _LOADS]


def _also(references: list[_Reference]) -> str:
    if not references:
        return ""
    ids = dict.fromkeys(clipped(reference.component.id) for reference in references)
    named = ", ".join(islice(ids, _NAMED)) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
    return f" It is also named by {named}."
