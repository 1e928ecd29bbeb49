"""What OpenAPI has to be told about bodies that are read by sniffing and not by declaration."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from api.schemas.errors import ErrorView

_THRESHOLDS = {
    "threshold": "Least score of a segment.",
    "mask_threshold": "Least probability of a pixel to count for its segment.",
    "overlap_mask_area_threshold": "Least share of its own mask that a segment must keep.",
}
_SWITCHES = {
    "fuse_stuff": "In panoptic, one segment for all that a class such as sky or road has.",
    "strict_instance_thresholds": "Let the other two thresholds count for instance, too.",
}
_DEFAULTS = {"threshold": 0.9, "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_SUBTASK = {"type": "string", "enum": ["panoptic", "instance", "semantic"]}

PARAMETERS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "description": "null stands for the default of each.",
    "properties": {
        **{
            name: {"anyOf": [_SHARE, {"type": "null"}], "default": _DEFAULTS[name], "description": text}
            for name, text in _THRESHOLDS.items()
        },
        **{
            name: {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": False, "description": text}
            for name, text in _SWITCHES.items()
        },
        "subtask": {"anyOf": [_SUBTASK, {"type": "null"}], "description": "Default: the model's own first choice."},
    },
}
_JSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"type": "string", "contentEncoding": "base64", "description": "The image, as base64."},
        "parameters": PARAMETERS_SCHEMA,
        "model": {"type": "string", "description": "Id of a model; the default one if it is missing."},
    },
}
_FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The image."},
        "parameters": {"type": "string", "contentMediaType": "application/json", "contentSchema": PARAMETERS_SCHEMA},
        "model": {"type": "string"},
    },
}
IMAGE_BODY: dict[str, Any] = {
    "required": True,
    "description": "An image as it is, JSON, or a form; its bytes tell which, whatever the Content-Type says.",
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {"schema": _JSON_SCHEMA},
        "multipart/form-data": {"schema": _FORM_SCHEMA},
    },
}
PARAMETERS_IN_QUERY: list[dict[str, Any]] = [
    *(
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"{text} For a body that is an image as it is.",
            "schema": {**_SHARE, "default": _DEFAULTS[name]},
        }
        for name, text in _THRESHOLDS.items()
    ),
    *(
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": text,
            "schema": {"type": "boolean", "default": False},
        }
        for name, text in _SWITCHES.items()
    ),
    {"name": "subtask", "in": "query", "required": False, "schema": _SUBTASK},
]
PNG = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
ZIP = {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}

Responses = dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None]

SECURITY: list[dict[str, list[str]]] = [{"bearer": []}]


def failures(*statuses: int) -> Responses:
    """Return the responses of a route that can fail with these."""
    return dict.fromkeys((400, 401, 503, *statuses), ErrorView)
