"""Regular expressions of a schema, as the library reads them that decides.

Python's `re` reads some otherwise (`$` before a line's end, `\\d` beyond ASCII), and one that it takes can keep it busy
for ever.
"""

from collections.abc import Callable
from functools import lru_cache

import jsonschema_rs


@lru_cache(maxsize=1024)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether the pattern is found somewhere in a text."""
    return jsonschema_rs.Draft202012Validator({"type": "string", "pattern": pattern}).is_valid
