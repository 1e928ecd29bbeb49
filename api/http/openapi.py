"""OpenAPI fragments written by hand: request bodies that are recognized by their bytes, and binary responses."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from api.schemas.errors import ErrorView

_THRESHOLDS = {
    "threshold": "Minimum score of a segment.",
    "mask_threshold": "Minimum probability of a pixel of a segment's mask.",
    "overlap_mask_area_threshold": "Minimum fraction of its own mask that a segment must keep.",
}
_SWITCHES = {
    "fuse_stuff": "In panoptic, merge all segments of a stuff class, such as sky or road, into one.",
    "strict_instance_thresholds": "Apply the other two thresholds to instance, too.",
}
_DEFAULTS = {"threshold": 0.9, "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5}
_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
_SUBTASK = {"type": "string", "enum": ["panoptic", "instance", "semantic"]}

PARAMETERS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "description": "null means the default of each.",
    "properties": {
        **{
            name: {"anyOf": [_FRACTION, {"type": "null"}], "default": _DEFAULTS[name], "description": text}
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
    "description": "A raw image, JSON, or a form, recognized by its bytes and not by the Content-Type.",
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
            "description": f"{text} For a body that is a raw image.",
            "schema": {**_FRACTION, "default": _DEFAULTS[name]},
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
    """Return the error responses of a route: those of every route, and `statuses`."""
    return dict.fromkeys((400, 401, 503, *statuses), ErrorView)
