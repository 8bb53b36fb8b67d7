"""What can be told from the bytes, before libyaml sees them."""

import re
from typing import Final

from shared.documents.scalars import Refusal
from shared.documents.syntax import locate_byte

BOM: Final = b"\xef\xbb\xbf"

_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_MAX_TAG_DIRECTIVES: Final = 8
"""libyaml compares each with all before it: a megabyte of them takes seconds, inside one call."""
_BREAKS_OF_1_1: Final = re.compile(b"\xc2\x85|\xe2\x80[\xa8\xa9]")
"""NEL, LS and PS end a line in YAML 1.1 and do not in 1.2."""


def check(data: bytes) -> tuple[Refusal, tuple[int, int]] | None:
    """Why libyaml must not read this, and where; None when it may."""
    if data.count(b"\n%TAG") > _MAX_TAG_DIRECTIVES:
        place = locate_byte(data, data.find(b"\n%TAG") + 1)
        return Refusal("directive", "Lines that begin with % are not supported: remove them."), place
    if data.isascii():
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"The byte 0x{data[error.start]:02X} is not UTF-8: save the file as UTF-8."
        if data.startswith(_UTF_16):
            message = "The file is UTF-16: save it as UTF-8."
        return Refusal("not-utf-8", message), locate_byte(data, error.start)
    if found := _BREAKS_OF_1_1.search(data):
        name = f"{ord(found[0].decode()):04X}"
        message = f"U+{name} ends the line for YAML 1.1, and does not for 1.2: write it as \\u{name} in double quotes."
        return Refusal("ambiguous-line-break", message), locate_byte(data, found.start())
    return None
