"""Why a document does not follow its schema: every mistake, each once, for the branch that was meant."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from jsonschema.exceptions import ValidationError

from shared.validation.mistakes import Mistake, Path, clipped, did_you_mean, either, name_of, rule_of, shown, types
from shared.validation.phrases import Failure, listed, phrase
from shared.validation.search import unknown_keys

_Schema: TypeAlias = Mapping[str, Any]


class _Branch(NamedTuple):
    """What one branch of `oneOf` or `anyOf` says about a value."""

    rules: _Schema
    errors: list[ValidationError]


def mistakes(schema: _Schema, errors: Iterable[ValidationError]) -> Iterator[Mistake]:
    """What these errors of a document come down to, lazily; each mistake once, in no particular order."""
    seen: set[Mistake] = set()
    for error in errors:
        for mistake in _explain(schema, error):
            if mistake not in seen:
                seen.add(mistake)
                yield mistake


def _explain(schema: _Schema, error: ValidationError) -> Iterator[Mistake]:
    rules = error.schema if isinstance(error.schema, Mapping) else {}
    path = tuple(error.absolute_path)
    failure = Failure(str(error.validator), path, error.validator_value, error.instance, rules, error.message)
    if failure.keyword in ("oneOf", "anyOf"):
        yield from _explain_choice(schema, failure, _branches(schema, failure, error))
    elif failure.keyword == "required":
        yield from _missing(failure)
    elif failure.keyword == "additionalProperties" and failure.wanted is False:
        yield from _unknown(failure)
    else:
        yield Mistake(path, rule_of(failure.keyword), phrase(failure))


def _missing(failure: Failure) -> Iterator[Mistake]:
    known = failure.rules.get("properties", {})
    others = [key for key in failure.value if key not in known]
    for key in failure.wanted:
        if key not in failure.value:
            yield _lacks(failure.path, key, did_you_mean(key, others))


def _lacks(path: Path, key: str, question: str = "") -> Mistake:
    return Mistake(path, rule_of("required"), f"{name_of(path)} lacks the key {clipped(key)}.{question}")


def _unknown(failure: Failure) -> Iterator[Mistake]:
    known = failure.rules.get("properties", {})
    for key in unknown_keys(failure.value, failure.rules):
        question = did_you_mean(key, [name for name in known if name not in failure.value])
        message = f"{name_of(failure.path)} has no key {clipped(key)}: remove it.{question}"
        yield Mistake((*failure.path, key), rule_of(failure.keyword), message, True)


# -- oneOf and anyOf -------------------------------------------------------------------------------------------------


def _branches(schema: _Schema, failure: Failure, error: ValidationError) -> list[_Branch]:
    branches = [_Branch(_resolved(schema, rules), []) for rules in failure.wanted]
    for below in error.context or ():
        branches[int(below.relative_schema_path[0])].errors.append(below)
    return branches


def _explain_choice(schema: _Schema, failure: Failure, branches: list[_Branch]) -> Iterator[Mistake]:
    """A value that fits none of several branches, or more than one of `oneOf`."""
    key = _discriminator(branches)
    if all(branch.rules.keys() == {"required"} for branch in branches):
        yield from _explain_keys(failure, [name for branch in branches for name in branch.rules["required"]])
    elif key is None:
        yield from _explain_by_type(schema, failure, branches)
    elif isinstance(failure.value, dict):  # Else its type is wrong, which is told where the schema asks for it.
        yield from _explain_discriminated(schema, failure, branches, key)


def _explain_keys(failure: Failure, keys: list[str]) -> Iterator[Mistake]:
    """One of several keys must be there, and only one."""
    there = [key for key in failure.value if key in keys] if isinstance(failure.value, dict) else []
    if len(there) > 1:
        message = f"{name_of(failure.path)} has the keys {' and '.join(there)}: only one of them may be there."
        yield Mistake((*failure.path, there[1]), rule_of(failure.keyword), message, True)
    elif isinstance(failure.value, dict):
        question = next(filter(None, [did_you_mean(key, failure.value) for key in keys]), "")
        message = f"{name_of(failure.path)} lacks the key {either(keys)}.{question}"
        yield Mistake(failure.path, rule_of("required"), message)


def _explain_discriminated(schema: _Schema, failure: Failure, branches: list[_Branch], key: str) -> Iterator[Mistake]:
    """The branch that the value names itself."""
    path = (*failure.path, key)
    if key not in failure.value:
        yield _lacks(failure.path, key)
        return
    value = failure.value[key]
    for branch in branches:
        if value == branch.rules["properties"][key]["const"]:
            for below in branch.errors:
                yield from _explain(schema, below)
            return
    choices = [str(branch.rules["properties"][key]["const"]) for branch in branches]
    message = f"{name_of(path)} must be {either(choices)}, but is {shown(value)}."
    yield Mistake(path, rule_of("enum"), message + did_you_mean(str(value), choices))


def _explain_by_type(schema: _Schema, failure: Failure, branches: list[_Branch]) -> Iterator[Mistake]:
    """The branch whose type the value has; of several, the one with the fewest mistakes."""
    meant = [branch for branch in branches if branch.errors and not _has_other_type(branch)]
    if meant:
        for below in min(meant, key=lambda branch: len(branch.errors)).errors:
            yield from _explain(schema, below)
    elif any(branch.errors for branch in branches):
        wanted = types([name for branch in branches for name in listed(branch.rules.get("type", ()))])
        message = f"{name_of(failure.path)} must be {wanted}, but is {shown(failure.value)}."
        yield Mistake(failure.path, rule_of("type"), message)
    else:
        message = f"{name_of(failure.path)} fits more than one of the allowed forms."
        yield Mistake(failure.path, rule_of(failure.keyword), message)


def _has_other_type(branch: _Branch) -> bool:
    return any(error.validator == "type" and not error.relative_path for error in branch.errors)


def _discriminator(branches: list[_Branch]) -> str | None:
    """The key whose constant value tells the branches apart."""
    keys = [{key for key, rule in branch.rules.get("properties", {}).items() if "const" in rule} for branch in branches]
    return min(set.intersection(*keys), default=None)


def _resolved(schema: _Schema, rules: _Schema) -> _Schema:
    """The rules themselves, or what their local `$ref` points at."""
    while set(rules) == {"$ref"} and str(rules["$ref"]).startswith("#/"):
        target: Any = schema
        for token in rules["$ref"][2:].split("/"):
            target = target[token.replace("~1", "/").replace("~0", "~")]
        rules = target
    return rules
