"""Conditional requests and the compressed form."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model import Generation
from shared.web.etags import negotiated

SEVEN = Generation(7)


def environ(held: str | None = None, accepted: str | None = None) -> dict[str, Any]:
    given = {"HTTP_IF_NONE_MATCH": held, "HTTP_ACCEPT_ENCODING": accepted}
    return {name: value for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    "held", ["7", '"7"', 'W/"7"', '"6","7"', ' "6" ,  W/"7"', "6, 7", '"a,b", "7"', '"", "7"', '"é", "7"', "*", " * "]
)
def test_held(held: str) -> None:
    assert negotiated(environ(held)).matching(SEVEN) == "7"


@pytest.mark.parametrize(
    "held",
    [None, "", " ", '"6"', '"77"', '"07"', '"7-gzip"', '"7-br"', '"a7"', '"1,7,2"', '"*"', "W/", '"-7"', '"\u0667"'],
)
def test_not_held(held: str | None) -> None:
    assert negotiated(environ(held)).matching(SEVEN) is None


def test_the_compressed_form_counts_for_who_takes_it() -> None:
    assert negotiated(environ('"7-gzip"', "gzip")).matching(SEVEN) == "7-gzip"
    assert negotiated(environ('"7-gzip"', "gzip")).generations == (7,)
    assert negotiated(environ('"7-gzip"')).generations == ()
    assert negotiated(environ('"7-gzip", "7"', "gzip")).matching(SEVEN) == "7"


@pytest.mark.parametrize(
    ("accepted", "gzip"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip;q=0.1", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("gzip;q=x", False),
        ("deflate, br", False),
        ("gzipped", False),
    ],
)
def test_gzip_is_for_who_accepts_it(accepted: str | None, gzip: bool) -> None:
    assert negotiated(environ(accepted=accepted)).gzip is gzip


def test_a_body_is_compressed_when_it_is_worth_it() -> None:
    assert negotiated(environ(accepted="gzip")).compressed(b"x" * 1023) is None
    assert negotiated(environ(accepted="gzip")).compressed(b"x" * 1024)
    assert negotiated(environ()).compressed(b"x" * 1024) is None


@given(st.text(), st.text())
def test_any_header_can_be_read_and_names_only_what_a_database_can_compare(held: str, accepted: str) -> None:
    found = negotiated(environ(held, accepted))
    assert all(0 <= generation < 2**63 for generation in found.generations)
    assert found.matching(SEVEN) in (None, "7", "7-gzip")
