"""Fragments of the OpenAPI document for the submission of a job: its options, in a query, a form and JSON."""

from collections.abc import Mapping
from typing import Any, Final

from api.http.job_options import (
    CANCEL_AFTER,
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    MAX_WEBHOOK_CHARACTERS,
    RECUT_KINDS,
)
from api.http.openapi_bodies import (
    FORM_SCHEMA,
    JSON_SCHEMA,
    OPTIONS_SCHEMA,
    QUERY_PARAMETERS,
    REFERENCE_SCHEMAS,
    describe_body,
)
from shared.jobs.format_options import FORMAT_OPTIONS
from shared.jobs.model import Priority

_FORMAT_MEMBERS: Final[Mapping[str, Any]] = FORMAT_OPTIONS.json_schema()["properties"]
_LABELS_TEXT = (
    "Only segments of these labels are in the result and its files; without it, all. One that the model does not have "
    "is refused; `GET /v1/models/{id}` shows the others."
)
_METADATA_TEXT = "Your own data, returned with the job as they are: at most 4 KiB as JSON, by default."

MODEL: Final[Mapping[str, Any]] = {"type": "string", "description": "Id of a model; the default one without it."}
# The other options, as JSON has them, most with an example.
OPTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "priority": {
        "type": "string",
        "enum": list(Priority),
        "description": "Which jobs come first; `low` still moves. Without it, `normal`.",
        "example": "low",
    },
    "deadline_seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "The job is `expired` if it has not ended so many seconds after its submission, and says which "
        "stage it had reached. The header `Cancel-After` says the same: `30s`, `1h30m`. At most a week, by default.",
        "example": 60,
    },
    "labels": {
        "type": "array",
        "maxItems": MAX_LABELS,
        "items": {"type": "string", "maxLength": MAX_LABEL_CHARACTERS},
        "description": _LABELS_TEXT,
        "example": ["person", "car"],
    },
    "metadata": {"type": "object", "description": _METADATA_TEXT, "example": {"order": 17}},
    "webhook": {
        "type": "string",
        "maxLength": MAX_WEBHOOK_CHARACTERS,
        "description": "The id of an endpoint that is told of the end, or a URL where those are allowed.",
    },
    **{name: _FORMAT_MEMBERS[name] for name in ("polygon_tolerance", "coco_polygons")},
    "recut": {
        "type": "string",
        "enum": list(RECUT_KINDS),
        "description": "Keep what a later recut of this subtask needs; those of the others need nothing.",
    },
}
# As texts have them.
_TEXTS: Final[Mapping[str, dict[str, Any]]] = {
    **OPTIONS,
    "labels": {"type": "string", "description": f"{_LABELS_TEXT} Separated by commas.", "example": "person,car"},
    "metadata": {
        "type": "string",
        "contentMediaType": "application/json",
        "description": f"{_METADATA_TEXT} A JSON object.",
        "example": '{"order": 17}',
    },
}
_OUTER: Final = ("description", "example", "title", "default")


def _describe_query(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    # An empty text is none.
    values = {"anyOf": [_select_rules(schema), {"type": "string", "maxLength": 0}]}
    described = {key: schema[key] for key in ("description", "example") if key in schema}
    return {"name": name, "in": "query", "required": False, "schema": values, **described}


def _allow_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    described = {key: schema[key] for key in ("description", "example") if key in schema}
    return {"anyOf": [_select_rules(schema), {"type": "null"}], **described}


def _select_rules(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in _OUTER}


_STRICT_JSON_SCHEMA: dict[str, Any] = {
    **{name: value for name, value in JSON_SCHEMA.items() if name != "required"},
    "additionalProperties": False,
    "oneOf": [{"required": [name]} for name in ("inputs", *REFERENCE_SCHEMAS)],
    "properties": {
        **JSON_SCHEMA["properties"],
        **REFERENCE_SCHEMAS,
        "inputs": {
            "type": "string",
            "minLength": 1,
            "description": "The image, as base64; or where it is, as in `image_url`.",
        },
        **{name: _allow_null(schema) for name, schema in OPTIONS.items()},
        "options": {**OPTIONS_SCHEMA, "additionalProperties": False},
    },
}
_FILE = {
    **FORM_SCHEMA["properties"]["file"],
    "description": "The image.  With POST the field may be repeated: each image becomes a job of its own.",
}
_JOB_FORM_SCHEMA: dict[str, Any] = {
    **{name: value for name, value in FORM_SCHEMA.items() if name != "required"},
    "oneOf": [{"required": [name]} for name in ("file", *REFERENCE_SCHEMAS)],
    "properties": {**FORM_SCHEMA["properties"], **REFERENCE_SCHEMAS, **_TEXTS, "file": _FILE},
}
JOB_BODY = describe_body(_STRICT_JSON_SCHEMA, _JOB_FORM_SCHEMA, "A parameter in the query and in the body is refused.")
# A PNG of 8 x 8 pixels.
_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGNkaGhgwAaYsIoOWgkAzIgBEFCQDcoAAAAASUVORK5CYII="
JOB_BODY["content"]["application/json"]["examples"] = {
    "options": {
        "value": {
            "inputs": _IMAGE,
            "parameters": {"threshold": 0.7},
            "formats": ["masks"],
            "labels": ["person"],
            "priority": "low",
            "metadata": {"order": 17},
        }
    },
    "url": {"value": {"inputs": "https://photos.example/street.jpg", "parameters": {"threshold": 0.7}}},
    "object": {"value": {"inputs": "s3://scans/2026/street.jpg"}},
    "upload": {"value": {"upload_id": "01a2249c052c7737b389209ffa4d7db7"}},
}
JOB_PARAMETERS: list[dict[str, Any]] = [
    *QUERY_PARAMETERS,
    _describe_query("model", MODEL),
    *(_describe_query(name, schema) for name, schema in _TEXTS.items()),
    {
        "name": CANCEL_AFTER,
        "in": "header",
        "required": False,
        "description": "The deadline of the job, in place of `deadline_seconds`: `30s`, `1m`, `1h30m`, or seconds.",
        "schema": {"type": "string"},
        "example": "1m",
    },
]
PREFER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=<seconds>`: answer with the result if the job succeeds so soon.",
    "schema": {"type": "string"},
    "example": "wait=10",
}
ACCEPTED_JOBS: dict[str, Any] = {
    "description": "The job; or, for a form with several images, the job of each.",
    "content": {
        "application/json": {
            "schema": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("JobView", "BundleView")]}
        }
    },
}
ENDED_JOB: dict[str, Any] = {
    "description": "With `Prefer: wait=N`: the result of a job that has succeeded; or the job, if it has ended "
    "otherwise.  Without: the job, which was submitted before and has ended.",
    "content": {
        "application/json": {
            "schema": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("ResultView", "JobView")]}
        }
    },
}
