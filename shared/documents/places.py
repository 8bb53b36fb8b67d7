"""Where a value stands in its file: a second reading, made only when there is something to point at."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from yaml._yaml import CParser
from yaml.error import YAMLError
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)


class Place(NamedTuple):
    """Line and column of a value and of its key, from 1. What is no value of a mapping has no key."""

    value: tuple[int, int]
    key: tuple[int, int] | None


class _Wanted:
    """One place that is looked for, and those below it."""

    __slots__ = ("below", "pointer")

    def __init__(self, pointer: str) -> None:
        self.pointer = pointer
        self.below: dict[str, _Wanted] = {}


class _Frame:
    """An open mapping or list; `wanted` is None when nothing in it is looked for."""

    __slots__ = ("index", "is_mapping", "key", "key_place", "wanted")

    def __init__(self, wanted: _Wanted | None, is_mapping: bool) -> None:
        self.wanted = wanted
        self.is_mapping = is_mapping
        self.index = 0
        self.key: str | None = None
        self.key_place: tuple[int, int] | None = None


def places(data: bytes, pointers: Collection[str]) -> Mapping[str, Place]:
    """The places of these JSON pointers, and of all that lie above them.

    A value that only an alias brings has no place of its own: look for the nearest pointer above it. The data may be
    broken: what stands before the mistake is found, and the reading ends as soon as everything is.
    """
    root, count = _tree_of(pointers)
    found: dict[str, Place] = {}
    try:
        for wanted, place in _walk(data, root):
            found.setdefault(wanted.pointer, place)
            if len(found) == count:
                break
    except YAMLError:
        pass  # The reading before this one has told about it.
    return found


def _tree_of(pointers: Collection[str]) -> tuple[_Wanted, int]:
    root, count = _Wanted(""), 1
    for pointer in pointers:
        node = root
        for token in pointer.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            if key not in node.below:
                node.below[key] = _Wanted(f"{node.pointer}/{token}")
                count += 1
            node = node.below[key]
    return root, count


def _walk(data: bytes, root: _Wanted) -> Iterator[tuple[_Wanted, Place]]:
    stack: list[_Frame] = []
    for event in iter(CParser(data).get_event, None):
        kind = type(event)
        if kind is MappingEndEvent or kind is SequenceEndEvent:
            stack.pop()
            continue
        if kind not in (ScalarEvent, AliasEvent, MappingStartEvent, SequenceStartEvent):
            continue
        wanted, place = (root, Place(start_of(event), None)) if not stack else _step(stack[-1], event)
        if wanted is not None and place is not None:
            yield wanted, place
        if kind is MappingStartEvent or kind is SequenceStartEvent:
            stack.append(_Frame(wanted, kind is MappingStartEvent))


def _step(frame: _Frame, event: Event) -> tuple[_Wanted | None, Place | None]:
    """What the event is to the frame: a key, which it remembers, or a value, which may be wanted."""
    if not frame.is_mapping:
        frame.index += 1
        wanted = frame.wanted.below.get(str(frame.index - 1)) if frame.wanted else None
        return wanted, Place(start_of(event), None) if wanted else None
    if frame.key is None:
        frame.key = event.value if isinstance(event, ScalarEvent) else ""
        frame.key_place = start_of(event)
        return None, None
    wanted = frame.wanted.below.get(frame.key) if frame.wanted else None
    frame.key = None
    return wanted, Place(start_of(event), frame.key_place) if wanted else None


def start_of(event: Event) -> tuple[int, int]:
    """Line and column where the event's text begins, from 1."""
    mark = event.start_mark
    return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
