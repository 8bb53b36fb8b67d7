"""One request of the API, as its handlers see it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from emulators.azure_devops.answers import bad_argument

_TRUE = ("true", "1")


@dataclass
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case: the service does not tell `$Top` from `$top`."""
    body: bytes = b""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What the route's template names."""
    is_altered: bool = False
    """Contents are to come out wrong."""
    is_partial: bool = False
    """Lists are to lack their last element."""
    is_stale: bool = False
    """Refs are to be as they were before the last push."""

    def flag(self, name: str) -> bool:
        return self.query.get(name.lower(), "").lower() in _TRUE

    def text(self, name: str, default: str = "") -> str:
        return self.query.get(name.lower(), default)

    def number(self, name: str) -> int | None:
        value = self.query.get(name.lower())
        if value is None:
            return None
        try:
            return int(value)
        except ValueError as error:
            raise bad_argument(f"The value '{value}' is not valid for {name}.") from error

    def json(self) -> object:
        try:
            return json.loads(self.body)
        except ValueError as error:
            message = "The body of the request is not JSON."
            raise bad_argument(message, "VssPropertyValidationException") from error

    def object(self) -> dict[str, object]:
        body = self.json()
        if not isinstance(body, dict):
            raise bad_argument("Value cannot be null.", "VssPropertyValidationException")
        return body

    @property
    def accepts(self) -> str:
        """The first media type asked for, without parameters; `$format` wins over the header."""
        formats = {"zip": "application/zip", "octetstream": "application/octet-stream", "text": "text/plain"}
        asked = self.text("$format").lower()
        if asked:
            return formats.get(asked, "application/json")
        return self.headers.get("accept", "*/*").split(",")[0].split(";")[0].strip().lower()


def parse_query(text: str) -> dict[str, str]:
    return {name.lower(): value for name, value in parse_qsl(text, keep_blank_values=True)}
