"""Keys that a schema allows and does not name, and that look like one that it does name.

Samara ignores them, or hands them on: they reject nothing. But `onEror` under hooks is an action that never runs, so
whoever wrote it is warned. A key that resembles none of the known ones is somebody's own, and nobody's business.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import jsonschema_rs

from shared.model import JsonValue, Severity
from shared.validation.mistakes import Mistake, Path, clipped, name_of, nearest
from shared.validation.reading import Schema, asks_for_one_key, choice, resolved

_LIKENESS: Final = 0.7
"""Of 1. More than for a question behind an error, since this is said of files that may well be right."""
_MAX_LOOKS: Final = 1000
"""Unknown keys of one file that are compared with the known ones, which takes a tenth of a millisecond each."""

_Trail: TypeAlias = "tuple[_Trail, str | int] | tuple[()]"
"""The way to a value, made longer without copying."""


class _Place:
    """What a schema names at one place of a document, whatever it says of the values there."""

    __slots__ = ("below", "discriminator", "is_open", "items", "known", "only", "others", "required", "tagged")

    def __init__(self) -> None:
        self.known: frozenset[str] = frozenset()
        self.required: frozenset[str] = frozenset()
        self.is_open = True
        """Nothing can be said about further keys."""
        self.below: dict[str, _Place] = {}
        self.others: _Place | None = None
        self.items: _Place | None = None
        self.discriminator = ""
        self.tagged: dict[str, _Place] = {}
        """The branches by what a value has under the discriminator."""
        self.only: _Place | None = None
        """The one branch that names anything; the others are null or text."""


_ANYTHING: Final = _Place()


class UnknownKeys:
    """One schema, read once. May be shared between threads."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._closed = jsonschema_rs.Draft202012Validator(_closed(schema))
        self._places: dict[int, _Place] = {}
        self._root = self._place(schema)

    def mistakes(self, document: JsonValue) -> Iterator[Mistake]:
        """The warnings about a document, lazily, in no particular order."""
        if self._closed.is_valid(document):
            return  # Nearly every document; said five times faster than by a walk through it.
        looks = 0
        for trail, place, value in self._with_unknown_keys(document):
            free = sorted(place.known - value.keys())
            for key in value if free else ():
                if key in place.known:
                    continue
                looks += 1
                if looks > _MAX_LOOKS:
                    return
                meant = nearest(key, free, _LIKENESS)
                if meant is not None and meant not in place.required:  # Else it is missing, and that is an error.
                    path = _path(trail)
                    message = f"{name_of(path)} has the key {clipped(key)}, which means nothing here."
                    message += f" Did you mean {clipped(meant)}?"
                    yield Mistake((*path, key), "unknown-key", message, True, Severity.WARNING)

    def _with_unknown_keys(self, document: JsonValue) -> Iterator[tuple[_Trail, _Place, Mapping[str, Any]]]:
        waiting: list[tuple[_Trail, _Place, Any]] = [((), self._root, document)]
        while waiting:
            trail, place, value = waiting.pop()
            place = _meant(place, value)
            if isinstance(value, dict):
                if not place.is_open and not value.keys() <= place.known:
                    yield trail, place, value
                inside = ((key, place.below.get(key, place.others), inner) for key, inner in value.items())
            elif isinstance(value, list):
                inside = ((index, place.items, inner) for index, inner in enumerate(value))
            else:
                continue
            waiting.extend(((trail, token), below, inner) for token, below, inner in inside if below is not None)

    def _place(self, rules: Any) -> _Place:
        place = self._places.get(id(rules))  # The schema keeps its rules alive, so no others have this id.
        if place is None:
            place = self._places[id(rules)] = _Place()
            self._fill(place, resolved(self._schema, rules))
        return place

    def _fill(self, place: _Place, rules: Schema) -> None:
        properties, others = rules.get("properties", {}), rules.get("additionalProperties", True)
        place.known = frozenset(properties)
        place.required = frozenset(rules.get("required", ()))
        # A key that is refused is an error, and one that has rules of its own is meant to be there.
        place.is_open = not properties or others is not True or bool(rules.keys() & {"patternProperties", "allOf"})
        place.below = {key: self._place(inner) for key, inner in properties.items()}
        place.others = self._place(others) if isinstance(others, Mapping) else None
        place.items = self._place(rules["items"]) if isinstance(rules.get("items"), Mapping) else None
        for keyword in rules.keys() & {"oneOf", "anyOf"}:
            self._fill_choice(place, rules, keyword)

    def _fill_choice(self, place: _Place, rules: Schema, keyword: str) -> None:
        key, branches = choice(self._schema, rules, keyword)
        naming = [branch for branch in branches if branch.resolved.keys() & {"properties", "items", "oneOf", "anyOf"}]
        if asks_for_one_key(branches):
            place.required |= {name for branch in branches for name in branch.resolved["required"]}
        elif not naming:
            return
        elif place.known:
            place.is_open = True  # The branches may name further keys of the same mapping.
        elif key is not None:
            place.discriminator = key
            place.tagged = {
                tag: self._place(branch.rules) for branch in branches for tag in branch.tags if isinstance(tag, str)
            }
        else:
            place.only = self._place(naming[0].rules) if len(naming) == 1 else _ANYTHING


def _closed(rules: Any) -> Any:
    """The same schema, which allows no key that it does not name. It may refuse too much, and nothing else."""
    if isinstance(rules, list):
        return [_closed(inner) for inner in rules]
    if not isinstance(rules, Mapping):
        return rules
    closed = {key: _closed(inner) for key, inner in rules.items()}
    names_keys = "properties" in closed and closed.get("additionalProperties", True) is True
    return {**closed, "additionalProperties": False} if names_keys else closed


def _meant(place: _Place, value: Any) -> _Place:
    """The branch that the value means, where the place has branches."""
    while place.tagged or place.only is not None:
        tag = value.get(place.discriminator) if isinstance(value, dict) and place.tagged else None
        place = place.only or place.tagged.get(tag if isinstance(tag, str) else "", _ANYTHING)
    return place


def _path(trail: _Trail) -> Path:
    tokens: list[str | int] = []
    while trail:
        trail, token = trail
        tokens.append(token)
    return tuple(reversed(tokens))
