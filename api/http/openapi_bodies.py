"""Fragments of the OpenAPI document for requests with an image: bodies, which are told apart by their bytes and not by
their declaration, and the query.

The segmentation parameters and the formats come from their models in shared/.
"""

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticUndefined

from api.http.members import OPTIONS
from api.http.parameters import get_value_schema
from shared.formats.registry import FORMAT_NAMES
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
        # Pages send an empty text for a field that was left alone; it is none.
        "schema": {"anyOf": [get_value_schema(name), {"type": "string", "maxLength": 0}], **_default(name)},
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
# Besides booleans, the spellings of older clients: 0, 1, and texts.
_SWITCH: dict[str, Any] = {
    "anyOf": [{"type": "boolean"}, {"type": "integer", "enum": [0, 1]}, {"type": "string"}, {"type": "null"}]
}
OPTIONS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "Of older Hugging Face clients. They change no job of `/v1/jobs`: it is always computed, and waits.",
    "properties": {
        **{name: {"description": "No effect."} for name in OPTIONS},
        "use_cache": {**_SWITCH, "description": "The header `x-use-cache`, which it overrides."},
        "wait_for_model": {**_SWITCH, "description": "The header `x-wait-for-model`, which it overrides."},
    },
}
JSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {
            "type": "string",
            "minLength": 1,
            "contentEncoding": "base64",
            "description": "The image, as base64.",
        },
        "parameters": PARAMETERS_SCHEMA,
        "model": {"type": "string", "description": "Id of a model; the default one if it is missing."},
        "formats": _FORMATS_SCHEMA,
        "options": OPTIONS_SCHEMA,
    },
}
# Members and fields that name an image, of which a submission of a job has one in place of the image itself.
REFERENCE_SCHEMAS: dict[str, Any] = {
    "image_url": {
        "type": "string",
        "maxLength": 2048,
        "description": "URL of the image, which a worker fetches; if the operator has turned this on.  "
        "`s3://bucket/key`: an object of a bucket that the operator has listed.",
        "examples": ["https://photos.example/street.jpg", "s3://scans/2026/street.jpg"],
    },
    "upload_id": {
        "type": "string",
        "pattern": "^[0-9a-f]{32}$",
        "description": "Id of a file that was uploaded before: `POST /v1/uploads`.",
    },
}
FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The image."},
        "parameters": {"type": "string", "contentMediaType": "application/json", "contentSchema": PARAMETERS_SCHEMA},
        "model": {"type": "string"},
        "formats": {"type": "string", "description": f"{_FORMATS_TEXT} Names, separated by commas."},
    },
}


def describe_body(json_schema: Mapping[str, Any], form_schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """Return a request body that is an image, JSON or a form."""
    return {
        "required": True,
        "description": "A raw image, JSON, or a form, recognized by its bytes and not by the Content-Type. "
        f"It may be compressed, with `Content-Encoding: gzip` or `deflate`. {description}",
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": json_schema},
            "multipart/form-data": {"schema": form_schema},
        },
    }


RECUT_BODY: dict[str, Any] = {
    "required": True,
    "description": "A JSON object of at most 16 KB. Absent members have the defaults of a new job.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **{name: _describe_member(name) for name in FIELDS},
                    "formats": {
                        "anyOf": [
                            {"type": "array", "items": {"type": "string", "enum": list(FORMAT_NAMES)}},
                            {"type": "null"},
                        ],
                        "description": "Files to put into the answer; labels is always there.",
                    },
                    "max_side": {
                        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 4096}, {"type": "null"}],
                        "description": "Longest side of the label map of a preview; null: as large as the image.",
                    },
                    "store": {
                        "anyOf": [{"type": "boolean"}, {"type": "null"}],
                        "default": False,
                        "description": "Store the result as a job of its own, with `recut_of`; not a preview.",
                    },
                },
            },
            "examples": {
                "more segments": {"value": {"threshold": 0.5}},
                "preview": {"value": {"threshold": 0.5, "fuse_stuff": True, "max_side": 1024}},
                "stored": {"value": {"threshold": 0.7, "formats": ["masks"], "store": True}},
            },
        }
    },
}
IMAGE_BODY = describe_body(
    JSON_SCHEMA,
    FORM_SCHEMA,
    "Parameters in JSON override those of the query.  Other members of JSON have no effect, and are named "
    "in the response header `x-maskmill-ignored`.",
)
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
IMAGE_UPLOAD: dict[str, Any] = {
    "required": True,
    "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
}
