"""Documents x schema -> findings with line, column and what was expected.

The only room that knows JSON Schema. One library decides and another explains: `jsonschema-rs` says yes 240 times
faster, `jsonschema` says best why not. A verdict is only ever the first one's, also about a part of a document.
"""

from shared.validation.validator import Locate, Validator

__all__ = ["Locate", "Validator"]
