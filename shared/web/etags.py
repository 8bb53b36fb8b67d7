"""Conditional requests on generations, and the choice of the compressed form (RFC 9110, 8.8.3 and 13.1.2).

A set's or a config's strong ETag is its generation in quotes. The compressed form has an ETag of its own, `-gzip`
behind the generation: two different bodies never share a strong one.
"""

import gzip
import re
from dataclasses import dataclass
from functools import lru_cache

from werkzeug.http import parse_accept_header

from shared.model import Generation

WORTH_COMPRESSING = 1024
"""Bytes. Below, a body fits one packet either way."""

# A quoted tag, weak or not, or a bare word. Generations are below 2^53; more digits would not fit the database's type.
ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s,"]+)')
GENERATION = re.compile(r"([0-9]{1,18})(-gzip)?")


@dataclass(frozen=True, slots=True)
class Known:
    """What a caller says to hold already."""

    everything: bool = False
    """`If-None-Match: *`."""
    tags: frozenset[str] = frozenset()
    generations: tuple[Generation, ...] = ()

    def matching(self, generation: Generation) -> str | None:
        """The tag, without quotes, under which the caller holds this generation."""
        for form in (str(generation), f"{generation}-gzip"):
            if form in self.tags:
                return form
        return str(generation) if self.everything else None


NOTHING = Known()


def known(if_none_match: str | None, *, gzip_accepted: bool) -> Known:
    """What `If-None-Match` names: quoted, weak, bare, several, or `*`. Tags that cannot be ours are passed over.

    The compressed form counts only for a caller who takes it now: a shared cache may ask for one who does not.
    """
    if not if_none_match:
        return NOTHING
    if if_none_match.strip() == "*":
        return Known(everything=True)
    tags, generations = set(), set()
    for quoted, bare in ENTITY_TAG.findall(if_none_match):
        tag = quoted or bare
        ours = GENERATION.fullmatch(tag)
        if ours and (gzip_accepted or not ours[2]):
            tags.add(tag)
            generations.add(Generation(int(ours[1])))
    return Known(tags=frozenset(tags), generations=tuple(generations))


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    return bool(accept_encoding) and parse_accept_header(accept_encoding).quality("gzip") > 0


def compressed(body: bytes) -> bytes:
    """Level 1: a tenth of the size in a third of the time of level 6. Without a time stamp, so that equal bodies are equal."""
    return gzip.compress(body, compresslevel=1, mtime=0)
