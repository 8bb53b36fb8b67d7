"""The body of a registration, read strictly: every member has one meaning, and an unknown one is named."""

from collections.abc import Callable
from typing import TypeVar

from shared.errors import InvalidRequest
from shared.model import BranchName, JsonValue, Registration, SourceName, Validation
from shared.web.call import storable
from shared.web.representations import HIDDEN

_T = TypeVar("_T")

MEMBERS = frozenset({"name", "source", "branches", "project", "root", "pattern", "validation", "suspended"})


def registration_of(body: dict[str, JsonValue]) -> Registration:
    """The registration that a body asks for. Naming no branches leaves them to the environment."""
    for unknown in sorted(body.keys() - MEMBERS):
        raise InvalidRequest(
            f"{unknown!r} is not a member of a registration.",
            field=unknown,
            hint=f"Its members are {', '.join(sorted(MEMBERS))}.",
        )
    source = _required(body, "source", text)
    if f"{HIDDEN}@" in source:
        hint = "Answers hide the credentials of a source; send it with them, or without any."
        raise InvalidRequest(f"source has {HIDDEN} for its credentials.", field="source", hint=hint)
    defaults = Registration(name="", source=SourceName(""), branches=())
    return Registration(
        name=_required(body, "name", text),
        source=SourceName(source),
        branches=_optional(body, "branches", _branch_names, ()),
        project=_optional(body, "project", text, defaults.project),
        root=_optional(body, "root", text, defaults.root),
        pattern=_optional(body, "pattern", text, defaults.pattern),
        validation=_optional(body, "validation", validation, defaults.validation),
        suspended=_optional(body, "suspended", text, defaults.suspended),
    )


def _required(body: dict[str, JsonValue], field: str, read: Callable[[JsonValue, str], _T]) -> _T:
    if body.get(field) is None:
        raise InvalidRequest(f"{field} is missing.", field=field)
    return read(body[field], field)


def _optional(body: dict[str, JsonValue], field: str, read: Callable[[JsonValue, str], _T], default: _T) -> _T:
    """The member, or the default when it is absent or null."""
    value = body.get(field)
    return default if value is None else read(value, field)


def text(value: JsonValue, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} is a string.", field=field)
    return storable(value, field)


def _branch_names(value: JsonValue, field: str) -> tuple[BranchName, ...]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{field} is an array of branch names.", field=field)
    return tuple(BranchName(text(name, f"{field}[{place}]")) for place, name in enumerate(value))


def validation(value: JsonValue, field: str) -> Validation:
    modes = [mode.value for mode in Validation]
    if value not in modes:
        raise InvalidRequest(f"{field} is one of {', '.join(modes)}, not {value!r}.", field=field)
    return Validation(value)
