"""Why a document does not follow its schema: every mistake, each once, for the branch that was meant."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jsonschema.exceptions import ValidationError

from shared.validation.mistakes import (
    Mistake,
    Path,
    clipped,
    did_you_mean,
    either,
    name_of,
    nearest,
    rule_of,
    shown,
    types,
)
from shared.validation.phrases import Failure, listed, phrase
from shared.validation.reading import Branch, Schema, asks_for_one_key, choice
from shared.validation.search import unknown_keys

_ECHOES = {"schema-type": ("schema-enum", "schema-const")}
"""What is not told beside another mistake of the same value, since it says less about the same thing."""


class _Tried(NamedTuple):
    """What one branch of `oneOf` or `anyOf` says about a value."""

    branch: Branch
    errors: list[ValidationError]


def mistakes(schema: Schema, errors: Iterable[ValidationError]) -> Iterator[Mistake]:
    """What these errors of a document come down to, lazily; each mistake once, in no particular order."""
    seen: set[tuple[Path, str]] = set()
    for error in errors:
        for mistake in _explain(schema, error):
            if (mistake.path, mistake.message) not in seen:
                seen.add((mistake.path, mistake.message))
                yield mistake


def without_echoes(found: Iterable[Mistake]) -> list[Mistake]:
    """Those that are not only another way to say what a second one about the same value says better."""
    kept = list(found)
    told = {(mistake.path, mistake.rule) for mistake in kept}
    return [one for one in kept if not any((one.path, better) in told for better in _ECHOES.get(one.rule, ()))]


def _explain(schema: Schema, error: ValidationError) -> Iterator[Mistake]:
    rules = error.schema if isinstance(error.schema, Mapping) else {}
    path = tuple(error.absolute_path)
    failure = Failure(str(error.validator), path, error.validator_value, error.instance, rules, error.message)
    if failure.keyword in ("oneOf", "anyOf"):
        yield from _explain_choice(schema, failure, error)
    elif failure.keyword == "required":
        known = {*rules.get("properties", {}), *failure.wanted}
        yield from _missing(failure, [key for key in failure.wanted if key not in failure.value], known)
    elif failure.keyword == "additionalProperties" and failure.wanted is False:
        yield from _unknown(failure)
    else:
        yield Mistake(path, rule_of(failure.keyword), phrase(failure))


def _missing(failure: Failure, wanted: Iterable[str], known: Iterable[str]) -> Iterator[Mistake]:
    """Keys that are not there. One that is there under a wrong name is one mistake, told where that name stands."""
    renamed = _misspelled(failure.value, wanted, known)
    for key in wanted:
        message = f"{name_of(failure.path)} lacks the key {clipped(key)}"
        if key in renamed:
            message += f": was {clipped(renamed[key])} meant to be {clipped(key)}?"
            yield Mistake((*failure.path, renamed[key]), rule_of("required"), message, True)
        else:
            yield Mistake(failure.path, rule_of("required"), f"{message}.")


def _misspelled(value: Mapping[str, object], wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Missing key -> the key that stands there instead of it."""
    own = set(known)
    others = [key for key in value if key not in own]
    renamed: dict[str, str] = {}
    for key in wanted:
        close = nearest(key, others)
        if close is not None:
            renamed[key] = close
            others.remove(close)
    return renamed


def _unknown(failure: Failure) -> Iterator[Mistake]:
    known = failure.rules.get("properties", {})
    missing = [key for key in failure.rules.get("required", ()) if key not in failure.value]
    renamed = set(_misspelled(failure.value, missing, {*known, *missing}).values())
    for key in unknown_keys(failure.value, failure.rules):
        if key in renamed:
            continue  # The key that it was meant to be is missing, which tells of both.
        question = did_you_mean(key, [name for name in known if name not in failure.value])
        message = f"{name_of(failure.path)} has no key {clipped(key)}: remove it.{question}"
        yield Mistake((*failure.path, key), rule_of(failure.keyword), message, True)


# -- oneOf and anyOf -------------------------------------------------------------------------------------------------


def _explain_choice(schema: Schema, failure: Failure, error: ValidationError) -> Iterator[Mistake]:
    """A value that fits none of several branches, or more than one of `oneOf`."""
    key, branches = choice(schema, failure.rules, failure.keyword)
    tried = [_Tried(branch, []) for branch in branches]
    for below in error.context or ():
        tried[int(below.relative_schema_path[0])].errors.append(below)
    if asks_for_one_key(branches):
        yield from _explain_keys(failure, [name for branch in branches for name in branch.resolved["required"]])
    elif key is None:
        yield from _explain_by_type(schema, failure, tried)
    elif isinstance(failure.value, dict):
        yield from _explain_discriminated(schema, failure, tried, key)
    elif "type" not in failure.rules:  # Else its type is wrong, which is told where the schema asks for it.
        yield from _explain_by_type(schema, failure, tried)


def _explain_keys(failure: Failure, keys: list[str]) -> Iterator[Mistake]:
    """One of several keys must be there, and only one."""
    if not isinstance(failure.value, dict):
        return
    there = [key for key in failure.value if key in keys]
    if len(there) > 1:
        message = f"{name_of(failure.path)} has the keys {' and '.join(there)}: only one of them may be there."
        yield Mistake((*failure.path, there[1]), rule_of(failure.keyword), message, True)
        return
    renamed = _misspelled(failure.value, keys, {*failure.rules.get("properties", {}), *keys})
    for key, other in renamed.items():
        yield from _missing(failure, [key], set(failure.value) - {other})
        return
    yield Mistake(failure.path, rule_of("required"), f"{name_of(failure.path)} lacks the key {either(keys)}.")


def _explain_discriminated(schema: Schema, failure: Failure, tried: list[_Tried], key: str) -> Iterator[Mistake]:
    """The branch that the value names itself."""
    path = (*failure.path, key)
    if key not in failure.value:
        known = {name for one in tried for name in one.branch.resolved.get("properties", {})}
        yield from _missing(failure, [key], known)
        return
    value = failure.value[key]
    meant = next((one for one in tried if value in one.branch.tags), None)
    if meant is not None:
        for below in meant.errors:
            yield from _explain(schema, below)
        if not meant.errors:
            yield _ambiguous(failure)
        return
    choices = list(dict.fromkeys(str(tag) for one in tried for tag in one.branch.tags))
    message = f"{name_of(path)} must be {either(choices)}, but is {shown(value)}."
    yield Mistake(path, rule_of("enum"), message + did_you_mean(str(value), choices))


def _explain_by_type(schema: Schema, failure: Failure, tried: list[_Tried]) -> Iterator[Mistake]:
    """The branch whose type the value has; of several, the one with the fewest mistakes."""
    meant = [one for one in tried if one.errors and not _has_other_type(one)]
    wanted = [name for one in tried for name in listed(one.branch.resolved.get("type", ()))]
    if meant:
        for below in min(meant, key=lambda one: len(one.errors)).errors:
            yield from _explain(schema, below)
    elif any(one.errors for one in tried):
        message = f"{name_of(failure.path)} must be {types(wanted)}, but is {shown(failure.value)}."
        yield Mistake(failure.path, rule_of("type"), message)
    else:
        yield _ambiguous(failure)


def _ambiguous(failure: Failure) -> Mistake:
    message = f"{name_of(failure.path)} fits more than one of the allowed forms."
    return Mistake(failure.path, rule_of(failure.keyword), message)


def _has_other_type(one: _Tried) -> bool:
    return any(error.validator == "type" and not error.relative_path for error in one.errors)
