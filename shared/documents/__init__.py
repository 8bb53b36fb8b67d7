"""YAML bytes -> Document, or every reason why not with line and column.

The only room that knows YAML. It holds one promise: a file that passes has one meaning, the same to a YAML 1.1 reader
(PyYAML, which Samara uses), to a YAML 1.2 reader and to JSON. It never recurses, and it stops reading once a limit is
hit, so that no file costs more than its limits allow.
"""

from shared.documents.composer import PARSER_VERSION, Limits, parse
from shared.documents.places import Place, places

__all__ = ["PARSER_VERSION", "Limits", "Place", "parse", "places"]
