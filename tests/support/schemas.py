"""A schema in the shape in which Samara exports its own: what Pydantic makes of models, smaller than the real one."""

from typing import Any

_ID: dict[str, Any] = {"title": "Id", "type": "string", "minLength": 1}


def _function(name: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    kind = {"const": name, "type": "string", **more}
    required = ["arguments"] if more else ["arguments", "function_type"]
    return {"type": "object", "properties": {"arguments": arguments, "function_type": kind}, "required": required}


def _object(properties: dict[str, Any], *optional: str, **more: Any) -> dict[str, Any]:
    required = [key for key in properties if key not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


_COLUMNS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}

EXPORTED: dict[str, Any] = {
    **_object({"id": _ID, "enabled": {"type": "boolean"}, "jobs": {"type": "array", "items": {"$ref": "#/$defs/Job"}}}),
    "title": "WorkflowController",
    "$defs": {
        "Engine": {"enum": ["spark"], "type": "string", "title": "Engine"},
        "Method": {"enum": ["batch", "streaming"], "type": "string"},
        "Job": _object(
            {
                "id": _ID,
                "engine_type": {"$ref": "#/$defs/Engine", "default": "spark"},
                "extracts": {"type": "array", "items": {"$ref": "#/$defs/Extract"}},
                "transforms": {"type": "array", "items": {"$ref": "#/$defs/Transform"}},
                "retry": {"anyOf": [{"$ref": "#/$defs/Retry"}, {"type": "null"}], "default": None},
            },
            "engine_type",
            "retry",
        ),
        "Retry": _object({"seconds": {"type": "integer", "minimum": 1, "exclusiveMinimum": 0, "maximum": 30}}),
        "Extract": _object(
            {
                "id": _ID,
                "method": {"$ref": "#/$defs/Method"},
                "schema": {"anyOf": [{"type": "string"}, {"type": "string", "format": "file-path"}]},
                "options": {"type": "object", "additionalProperties": True},
            },
            additionalProperties=True,
        ),
        "Transform": _object(
            {"id": _ID, "upstream_id": _ID, "functions": {"type": "array", "items": {"$ref": "#/$defs/Functions"}}}
        ),
        "Functions": {
            "discriminator": {
                "propertyName": "function_type",
                "mapping": {"drop": "#/$defs/Drop", "select": "#/$defs/Select", "join": "#/$defs/Join"},
            },
            "oneOf": [{"$ref": "#/$defs/Drop"}, {"$ref": "#/$defs/Select"}, {"$ref": "#/$defs/Join"}],
        },
        "Drop": _function("drop", {"$ref": "#/$defs/Columns"}, default="drop"),
        "Select": _function("select", {"$ref": "#/$defs/Columns"}, default="select"),
        "Join": _function("join", {"$ref": "#/$defs/JoinArgs"}),
        "Columns": _object({"columns": {**_COLUMNS, "minItems": 1}}),
        "JoinArgs": _object(
            {
                "other_upstream_id": _ID,
                "on": {"anyOf": [{"type": "string"}, _COLUMNS]},
                "how": {"type": "string", "default": "inner"},
            },
            "how",
        ),
    },
}
