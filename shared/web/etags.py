"""Conditional requests on generations, and the choice of the compressed form (RFC 9110, 8.8.3 and 13.1.2).

A set's or a config's strong ETag is its generation in quotes. The compressed form has an ETag of its own, `-gzip`
behind the generation: two different bodies never share a strong one.
"""

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from werkzeug.http import parse_accept_header

from shared.model import Generation

WORTH_COMPRESSING = 1024
"""Bytes. Below, a body fits one packet either way."""

# A quoted tag, weak or not, or a bare word. Generations are below 2^53; more digits would not fit the database's type.
_ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s,"]+)')
_GENERATION = re.compile(r"(0|[1-9][0-9]{0,17})(-gzip)?")


@dataclass(frozen=True, slots=True)
class Negotiation:
    """What a caller holds already, and the form it takes."""

    gzip: bool
    everything: bool = False
    """`If-None-Match: *`."""
    tags: frozenset[str] = frozenset()
    generations: tuple[Generation, ...] = ()

    def matching(self, generation: Generation) -> str | None:
        """The tag, without quotes, under which the caller holds this generation."""
        if not self.tags:
            return str(generation) if self.everything else None
        for form in (str(generation), f"{generation}-gzip"):
            if form in self.tags:
                return form
        return None

    def compressed(self, body: bytes) -> bytes | None:
        """The body in its compressed form, if the caller takes it and it is worth it."""
        return compressed(body) if self.gzip and len(body) >= WORTH_COMPRESSING else None


def negotiated(environ: Mapping[str, Any]) -> Negotiation:
    """Reads `Accept-Encoding` and `If-None-Match`: quoted tags, weak, bare, several, or `*`; others are passed over.

    The compressed form counts as held only for a caller who takes it now: a shared cache may ask for one who does not.
    """
    accepted = _accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
    if_none_match = environ.get("HTTP_IF_NONE_MATCH")
    if not if_none_match:
        return _NOTHING_HELD[accepted]
    if if_none_match.strip() == "*":
        return Negotiation(accepted, everything=True)
    found = [_GENERATION.fullmatch(quoted or bare) for quoted, bare in _ENTITY_TAG.findall(if_none_match)]
    held = [tag for tag in found if tag and (accepted or not tag[2])]
    generations = {Generation(int(tag[1])) for tag in held}
    return Negotiation(accepted, tags=frozenset(tag[0] for tag in held), generations=tuple(generations))


_NOTHING_HELD = (Negotiation(gzip=False), Negotiation(gzip=True))


@lru_cache(maxsize=256)
def _accepts_gzip(accept_encoding: str) -> bool:
    return bool(accept_encoding) and parse_accept_header(accept_encoding).quality("gzip") > 0


def compressed(body: bytes) -> bytes:
    """Level 1: about a third of the time of level 6. Without a time stamp, so that equal bodies stay equal."""
    return gzip.compress(body, compresslevel=1, mtime=0)
