"""Fragments of the OpenAPI document for bodies that are told apart by their bytes, not by their declaration.

The segmentation parameters and the formats come from their models in shared/.
"""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from api.http.parameters import get_value_schema
from api.schemas.errors import ErrorView
from shared.formats.registry import FORMAT_NAMES, Format
from shared.jobs.parameters import FIELDS


def _default(name: str) -> dict[str, Any]:
    default = FIELDS[name].default
    return {} if default in (None, PydanticUndefined) else {"default": default}


def _describe_member(name: str) -> dict[str, Any]:
    return {
        "anyOf": [get_value_schema(name), {"type": "null"}],
        **_default(name),
        "description": FIELDS[name].description,
    }


def _describe_query(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": FIELDS[name].description,
        "schema": {**get_value_schema(name), **_default(name)},
    }


PARAMETERS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "description": "null means the default of each.",
    "properties": {name: _describe_member(name) for name in FIELDS},
}
_FORMATS_TEXT = "Files to make of the result; labels is always made. Without it, the service's default formats."
_FORMATS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {"type": "string", "enum": list(FORMAT_NAMES)},
    "description": _FORMATS_TEXT,
}
_JSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"type": "string", "contentEncoding": "base64", "description": "The image, as base64."},
        "parameters": PARAMETERS_SCHEMA,
        "model": {"type": "string", "description": "Id of a model; the default one if it is missing."},
        "formats": _FORMATS_SCHEMA,
    },
}
_FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The image."},
        "parameters": {"type": "string", "contentMediaType": "application/json", "contentSchema": PARAMETERS_SCHEMA},
        "model": {"type": "string"},
        "formats": {"type": "string", "description": f"{_FORMATS_TEXT} Names, separated by commas."},
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
QUERY_PARAMETERS: list[dict[str, Any]] = [
    *(_describe_query(name) for name in FIELDS),
    {
        "name": "formats",
        "in": "query",
        "required": False,
        "description": f"{_FORMATS_TEXT} Names, separated by commas.",
        "style": "form",
        "explode": False,
        "schema": _FORMATS_SCHEMA,
    },
]
PNG = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}

Responses = dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None]

SECURITY: list[dict[str, list[str]]] = [{"bearer": []}]


def describe_file(one: Format) -> dict[str, Any]:
    """Return the response of a route that serves a format's file."""
    schema = {"type": "object"} if one.media_type == "application/json" else {"type": "string", "format": "binary"}
    return {"content": {one.media_type: {"schema": schema}}}


def failures(*statuses: int) -> Responses:
    """Return the responses of a route that can fail with these statuses, besides those that each route has."""
    return dict.fromkeys((400, 401, 403, 421, 503, *statuses), ErrorView)
