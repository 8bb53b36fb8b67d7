"""Documents x schema -> findings with line, column and what was expected.

The only room that knows JSON Schema. One library decides and another explains: `jsonschema-rs` says yes 240 times
faster, `jsonschema` says best why not. A verdict is only ever the first one's, also about a part of a document.
"""

from shared.validation.source import load
from shared.validation.validator import VALIDATION_VERSION, Locate, Validator

__all__ = ["VALIDATION_VERSION", "Locate", "Validator", "load"]
