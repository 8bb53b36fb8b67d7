"""The forms that the text of a setting can have: pure functions from text to value."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

from shared.model import BranchName, is_branch_name


class Unusable(ValueError):
    """Why a text does not have its form. Quotes no part of a secret."""


class Form(NamedTuple):
    """What a setting's text must be, in words that follow "must be", and how it becomes a value."""

    words: str
    parse: Callable[[str], object]


def _number(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
        raise Unusable(f"it is {text[:80]!r}")
    return int(text)


def whole(low: int, high: int, unit: str, scale: int = 1) -> Form:
    return Form(f"{low} to {high} {unit}", lambda text: _number(text, low, high) * scale)


def duration(unit: Literal["seconds", "minutes", "days"], low: int, high: int) -> Form:
    return Form(f"{low} to {high} {unit}", lambda text: timedelta(**{unit: _number(text, low, high)}))


def one_of(values: type[StrEnum]) -> Form:
    def parse(text: str) -> StrEnum:
        for value in values:
            if value.lower() == text.lower():
                return value
        raise Unusable(f"it is {text[:80]!r}")

    return Form(" or ".join(f"`{value}`" for value in values), parse)


def matching(words: str, pattern: str) -> Form:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise Unusable(f"it is {text[:80]!r}")
        return text

    return Form(words, parse)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise Unusable(f"it is {text[:80]!r}")
    return text.lower() in ("true", "1")


def _branches(text: str) -> tuple[BranchName, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not is_branch_name(name):
            raise Unusable(f"{name[:80]!r} is none")
    return tuple(BranchName(name) for name in dict.fromkeys(names))


def _url(text: str) -> SplitResult:
    """An https URL of a host and perhaps a path; http only where nothing leaves this machine."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        raise Unusable("it is no URL") from None
    is_local = url.scheme == "http" and url.hostname in ("localhost", "127.0.0.1", "::1")
    if not url.hostname or not (url.scheme == "https" or is_local) or re.search(r"\s|\\", text):
        raise Unusable("it is no https URL")
    if "@" in url.netloc or url.query or url.fragment:
        raise Unusable("it has a user name, a query or a fragment")
    return url


def _vault_url(text: str) -> str:
    url = _url(text)
    if url.scheme != "https" or url.path.strip("/"):
        raise Unusable("it has a path" if url.path.strip("/") else "it is no https URL")
    return f"https://{url.netloc}"


def _organization(text: str) -> str:
    """In lower case, as Azure DevOps takes it too: repositories are found by it."""
    url = _url(text)
    host, path = (url.hostname or "").lower(), url.path.strip("/").lower()
    if host.endswith(".visualstudio.com"):
        host, path = "dev.azure.com", host.removesuffix(".visualstudio.com") + path.removeprefix("defaultcollection")
    if host == "dev.azure.com" and not re.fullmatch(r"[^/]+", path):
        raise Unusable("it must name the organization and nothing below it")
    if host == "dev.azure.com":
        return f"https://{host}/{path}"
    return f"{url.scheme}://{url.netloc.lower()}/{path}".rstrip("/")


def _public_url(text: str) -> str:
    _url(text)
    return text.rstrip("/")


def _token(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,4096}", text):
        raise Unusable("it holds whitespace, or a character outside ASCII")
    return text


def _git_url_template(text: str) -> str:
    if "{repository}" not in text:
        raise Unusable("it does not contain {repository}")
    if re.search(r"[{}]", text.replace("{project}", "").replace("{repository}", "")):
        raise Unusable("it has braces around something else")
    # Over https a token may also stand where the user name does; over ssh a user name is no secret.
    if re.match(r"(?i:https?://[^/]*@)|[A-Za-z][A-Za-z0-9+.-]*://[^/]*:[^/]*@", text):
        raise Unusable("it holds a user name or a password, which belongs in a Git credential helper")
    return text


def _database_url(text: str) -> str:
    is_url = re.fullmatch(r"postgres(?:ql)?://\S*", text)
    # The possessive quantifiers keep a long text that does not match from being tried in every way.
    is_conninfo = re.fullmatch(r"(?:\s*+\w++\s*+=\s*+(?:'(?:[^'\\]|\\.)*+'|(?:[^\s'\\]|\\.)*+))++\s*+", text)
    if not is_url and not is_conninfo:
        raise Unusable("it is neither")
    # libpq would take what follows for the server's name, look it up and log it.
    if is_url and not re.fullmatch(r"\w+://(?:[^@/]*+@)?+[^@?]*(?:\?.*)?", text):
        raise Unusable("it has an `@` or a `/` where none can be; in a password they are written %40 and %2F")
    return text


def _key(text: str) -> str:
    if len(text) < 32:
        raise Unusable(f"it has {len(text)}")
    if len(text) > 256:
        raise Unusable(f"it has {len(text)}, and Azure DevOps sends at most 256")
    if not re.fullmatch(r"[!-~]+", text):
        raise Unusable("it holds whitespace, or a character outside ASCII")
    return text


def _named_keys(text: str) -> Mapping[str, str]:
    keys: dict[str, str] = {}
    for position, entry in enumerate(text.split(","), start=1):
        name, separator, key = entry.strip(" ").partition("=")
        if not separator or not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", name):
            raise Unusable(f"entry {position} does not start with a name of a-z, 0-9 and - and an equals sign")
        if name in keys:
            raise Unusable(f"entry {position} has a name that was used before")
        try:
            keys[name] = _key(key)
        except Unusable as unusable:
            raise Unusable(f"the key in entry {position}: {unusable}") from None
    return MappingProxyType(keys)


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_CRON: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()),
    (0, 59, ()),
    (0, 23, ()),
    (1, 31, ()),
    (1, 12, _MONTHS),
    (0, 6, _WEEKDAYS),
)
"""Seconds, minutes, hours, days, months, weekdays: lowest, highest, names."""


def _schedule(text: str) -> str:
    """NCRONTAB (https://github.com/atifaziz/NCrontab): fields are lists of `*`, `n` or `n-m`, each perhaps `/step`."""
    parts = text.split()
    if len(parts) != len(_CRON):
        raise Unusable(f"it has {len(parts)} fields")
    for position, (part, (low, high, names)) in enumerate(zip(parts, _CRON, strict=True), start=1):
        allowed = {*map(str, range(low, high + 1)), *names}
        for item in part.upper().split(","):
            span, slash, step = item.partition("/")
            is_step = not slash or (step.isdecimal() and int(step) > 0)
            if not is_step or not (span == "*" or (span.count("-") <= 1 and allowed.issuperset(span.split("-")))):
                raise Unusable(f"field {position} is {part[:80]!r}")
    return " ".join(parts)


def _collector(text: str) -> str:
    """Anywhere: it may stand beside the app, without TLS."""
    if not re.fullmatch(r"https?://[^\s\\@/?#]+(?:/[^\s?#@]*)?", text):
        raise Unusable("it is none")
    return text


def _insights(text: str) -> str:
    if not re.match(r"InstrumentationKey=[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?:;|$)", text):
        raise Unusable("it is none")
    return text


FLAG = Form("`true` or `false`", _flag)
TEXT = Form("any text", str)
COLLECTOR = Form("an http or https URL without credentials", _collector)
INSIGHTS = Form("a connection string that begins with `InstrumentationKey=` and a GUID", _insights)
GUID = matching("a GUID", r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
LABEL = matching("letters, digits, `-` and `_`, at most 32", r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
BRANCHES = Form("Git branch names with commas between them, without `refs/heads/`", _branches)
DATABASE_URL = Form("a `postgresql://` URL, or libpq's `key=value` words", _database_url)
VAULT_URL = Form("an https URL without a path, such as `https://contoso-dev.vault.azure.net`", _vault_url)
ORGANIZATION = Form("an https URL, such as `https://dev.azure.com/contoso`", _organization)
PUBLIC_URL = Form("an https URL, such as `https://contoso-dev.azurewebsites.net`", _public_url)
TOKEN = Form("ASCII characters without whitespace", _token)
GIT_URL_TEMPLATE = Form("a Git URL without credentials, or a path, with `{repository}` in it", _git_url_template)
SCHEMA = Form("a path, or an https URL, with `#sha256=` and the SHA-256 of its content behind it", str)
KEY = Form("32 to 256 ASCII characters without whitespace", _key)
NAMED_KEYS = Form("`name=key` entries with commas between them, each key 32 to 256 ASCII characters", _named_keys)
SCHEDULE = Form("an NCRONTAB expression of six fields", _schedule)
