"""Who may do what: every role, every form of a credential, and what is configured."""

import base64
import hmac
import itertools
import logging
from contextlib import suppress
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder

from shared import bootstrap
from shared.errors import Forbidden, SecretUnavailable, Unauthenticated, Unavailable
from shared.settings import load
from shared.web import access
from shared.web.access import ANONYMOUS, Access, Keys, Role
from shared.web.call import Call

HOOK, HOOK_BEFORE = "hook-" + "a" * 32, "hook-" + "b" * 32
ADMIN, ADMIN_BEFORE = "admin-" + "a" * 32, "admin-" + "b" * 32
ETL, ETL_BEFORE, BI = "etl-" + "a" * 32, "etl-" + "b" * 32, "bi-é" + "ü" * 32
KEYS = Keys(hook=(HOOK, HOOK_BEFORE), admin=(ADMIN, ADMIN_BEFORE), readers={"etl": (ETL, ETL_BEFORE), "bi": (BI,)})
NAMES = {
    HOOK: "hook",
    HOOK_BEFORE: "hook",
    ADMIN: "admin",
    ADMIN_BEFORE: "admin",
    ETL: "etl",
    ETL_BEFORE: "etl",
    BI: "bi",
}
MAY = {
    Role.HOOK: {HOOK, HOOK_BEFORE},
    Role.READER: {ADMIN, ADMIN_BEFORE, ETL, ETL_BEFORE, BI},
    Role.ADMIN: {ADMIN, ADMIN_BEFORE},
}
UNKNOWN = "x" * 40


def basic(user_and_password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(user_and_password.encode()).decode()}


def wire(text: str) -> str:
    """As WSGI hands UTF-8 bytes over."""
    return text.encode().decode("latin-1")


FORMS: dict[str, Any] = {
    "bearer": lambda key: {"headers": {"Authorization": f"Bearer {wire(key)}"}},
    "bearer in lower case": lambda key: {"headers": {"Authorization": f"bearer  {wire(key)} "}},
    "basic": lambda key: {"headers": basic(f"anybody:{key}")},
    "basic without a user": lambda key: {"headers": basic(f":{key}")},
    "functions key": lambda key: {"headers": {"x-functions-key": wire(key)}},
    "code": lambda key: {"query_string": {"a": "b", "code": key}},
}


def call(**options: Any) -> Call:
    return Call(EnvironBuilder("/", **options).get_environ())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("role", "key"), [*itertools.product(Role, NAMES)])
def test_a_key_admits_to_its_role_and_no_other(form: str, role: Role, key: str) -> None:
    subject, request = Access(lambda: KEYS), call(**FORMS[form](key))
    if key in MAY[role]:
        assert subject.admit(request, role).name == NAMES[key]
    else:
        with pytest.raises(Forbidden):
            subject.admit(request, role)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    "options",
    [
        *({**FORMS[form](UNKNOWN)} for form in FORMS),
        {"headers": basic(ADMIN)},  # a password is behind the colon
        {"headers": basic(f"{ADMIN}:")},
        {"headers": {"Authorization": "Basic %%%"}},
        {"headers": {"Authorization": "Basic"}},
        {"headers": {"Authorization": f"Digest {ADMIN}"}},
        {"headers": {"Authorization": ADMIN}},
        {"headers": {"Authorization": f"Bearer {ADMIN[:-1]}"}},
        {"headers": {"Authorization": f"Bearer {ADMIN}x"}},
        {"headers": {"Authorization": "Bearer "}},
        {"query_string": "code="},
        {"query_string": f"kode={ADMIN}"},
        {},
    ],
)
def test_anything_else_is_not_authenticated(role: Role, options: Any) -> None:
    with pytest.raises(Unauthenticated):
        Access(lambda: KEYS).admit(call(**options), role)


def test_one_right_key_among_several_credentials_is_enough() -> None:
    request = call(headers={"Authorization": f"Bearer {ETL}", "x-functions-key": ADMIN}, query_string=f"code={UNKNOWN}")
    assert Access(lambda: KEYS).admit(request, Role.ADMIN).name == "admin"
    assert Access(lambda: KEYS).admit(request, Role.READER).name in ("etl", "admin")


@pytest.mark.parametrize("role", Role)
def test_nothing_configured_is_unavailable_for_who_brings_a_key_and_401_before_that(role: Role) -> None:
    subject = Access(Keys)
    with pytest.raises(Unavailable):
        subject.admit(call(**FORMS["bearer"](UNKNOWN)), role)
    with pytest.raises(Unauthenticated):
        subject.admit(call(), role)


def test_a_role_without_keys_is_unavailable_while_others_have_some() -> None:
    subject = Access(lambda: Keys(hook=(HOOK,)))
    with pytest.raises(Unavailable, match="admin"):
        subject.admit(call(**FORMS["bearer"](UNKNOWN)), Role.ADMIN)
    with pytest.raises(Unauthenticated):
        subject.admit(call(**FORMS["bearer"](UNKNOWN)), Role.HOOK)


@pytest.mark.parametrize("short", ["", "x", "x" * 31])
def test_a_short_key_is_none(short: str, caplog: pytest.LogCaptureFixture) -> None:
    subject = Access(lambda: Keys(admin=(short,)))
    with pytest.raises(Unavailable), caplog.at_level(logging.ERROR):
        subject.admit(call(headers=basic(f"me:{short or 'x'}")), Role.ADMIN)
    assert [record.__dict__["key"] for record in caplog.records] == ["admin"]


def test_without_a_credential_the_keys_are_not_even_read() -> None:
    def unavailable() -> Keys:
        raise SecretUnavailable("the vault is down")

    with pytest.raises(Unauthenticated):
        Access(unavailable).admit(call(), Role.ADMIN)
    with pytest.raises(SecretUnavailable):
        Access(unavailable).admit(call(**FORMS["bearer"](ADMIN)), Role.ADMIN)
    assert Access(unavailable).admit(call(**FORMS["bearer"](ADMIN)), None) == ANONYMOUS


def test_a_key_that_cannot_be_read_is_told_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(bootstrap, "monotonic", lambda: now[0])

    class Down:
        def get(self, name: str) -> str | None:
            raise SecretUnavailable("the vault is down")

        refresh = get

    subject = bootstrap.access_from(load({"DATABASE_URL": "postgresql://localhost/x"}), Down())

    def told() -> list[str]:
        caplog.clear()
        with pytest.raises(Unavailable):
            subject.admit(call(**FORMS["bearer"](ADMIN)), Role.ADMIN)
        return sorted(record.__dict__["secret"] for record in caplog.records)

    names = sorted(
        f"{key}{form}" for key in ("webhook-secret", "admin-key", "reader-keys") for form in ("", "-previous")
    )
    assert told() == names
    now[0] += 59
    assert told() == []
    now[0] += 1
    assert told() == names


def test_a_rotated_key_is_found_by_asking_again() -> None:
    new = "new-" + "n" * 32
    asked = []

    def refreshed() -> Keys:
        asked.append(1)
        return Keys(admin=(new, ADMIN))

    subject = Access(lambda: Keys(admin=(ADMIN,)), refreshed)
    assert subject.admit(call(**FORMS["bearer"](ADMIN)), Role.ADMIN).name == "admin"
    assert not asked
    assert subject.admit(call(**FORMS["bearer"](new)), Role.ADMIN).name == "admin"
    with pytest.raises(Unauthenticated):
        subject.admit(call(**FORMS["bearer"](UNKNOWN)), Role.ADMIN)
    assert len(asked) == 2


def test_a_key_that_was_taken_away_is_refused_at_once() -> None:
    keys = [Keys(admin=(ADMIN, ADMIN_BEFORE))]
    subject = Access(lambda: keys[0])
    assert subject.admit(call(**FORMS["bearer"](ADMIN_BEFORE)), Role.ADMIN)
    keys[0] = Keys(admin=(ADMIN,))
    with pytest.raises(Unauthenticated):
        subject.admit(call(**FORMS["bearer"](ADMIN_BEFORE)), Role.ADMIN)


def test_anonymous_reads_open_reading_and_nothing_else() -> None:
    subject = Access(lambda: KEYS, anonymous_reads=True)
    assert subject.admit(call(), Role.READER) == ANONYMOUS
    assert subject.admit(call(**FORMS["bearer"](UNKNOWN)), Role.READER) == ANONYMOUS
    assert subject.admit(call(**FORMS["bearer"](ADMIN)), Role.READER).role is Role.ADMIN
    for role in (Role.ADMIN, Role.HOOK):
        with pytest.raises(Unauthenticated):
            subject.admit(call(), role)


def test_every_key_is_compared_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first key's caller waits as long as the last one's, and as nobody's."""
    compared = []

    def counted(one: bytes, other: bytes) -> bool:
        assert len(one) == len(other)
        compared.append(one)
        return hmac.compare_digest(one, other)

    class Hmac:
        compare_digest = staticmethod(counted)

    monkeypatch.setattr(access, "hmac", Hmac)
    for key in [*NAMES, UNKNOWN, "x"]:
        compared.clear()
        for role in Role:
            with suppress(Forbidden, Unauthenticated):
                Access(lambda: KEYS).admit(call(**FORMS["bearer"](key)), role)
        assert len(compared) == len(NAMES) * len(Role)


def test_keys_do_not_show_in_text() -> None:
    assert all(key not in repr(KEYS) for key in NAMES)
