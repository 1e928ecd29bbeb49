"""Fragments of the OpenAPI document that several routes have: headers, files, and responses by their errors."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from flask_openapi3.utils import get_operation_id_for_path
from pydantic import BaseModel

from api.errors import http_status
from api.schemas.errors import ErrorView
from shared import errors
from shared.formats.registry import Format

IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Submitting again under the same key within a day returns the earlier job, as long as anything of "
    "it is kept. If the service has lost its job store, this is so for a job that had not ended, once it is recovered; "
    "before, a second job is made.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
RECUT_KEY: dict[str, Any] = {
    **IDEMPOTENCY_KEY,
    "description": "With `store` alone. The same recut under the same key is the same job, for a day, or until that is "
    "purged.",
}
IF_NONE_MATCH: dict[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of an earlier answer; 304 if the job is still in that state.",
    "schema": {"type": "string"},
}
LAST_EVENT_ID: dict[str, Any] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event that was seen: the stream goes on after it.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,15}(-end)?$"},
    "example": "1795908693123",
}
_EVENTS_EXAMPLE = """retry: 1000

id: 1795908693123
event: queued
data: {"id":"019e0c3f6c8b7a1fa0c2d6b7f3a1e5d4","at":"2026-11-28T23:31:33.123Z"}

event: position
data: {"id":"019e0c3f6c8b7a1fa0c2d6b7f3a1e5d4","position":3,"eta":{"earliest":"2026-11-28T23:31:34.000Z",\
"latest":"2026-11-28T23:31:35.500Z"}}

id: 1795908694002
event: running
data: {"id":"019e0c3f6c8b7a1fa0c2d6b7f3a1e5d4","at":"2026-11-28T23:31:34.002Z","attempt":1}

id: 1795908694310-end
event: succeeded
data: {"id":"019e0c3f6c8b7a1fa0c2d6b7f3a1e5d4","at":"2026-11-28T23:31:34.310Z","state":"succeeded","attempt":1,\
"error":null,"error_type":null,"timings_ms":{"queue":879.0,"device":210.5}}

"""
EVENT_STREAM: dict[str, Any] = {
    "description": "Server-sent events, until the job has ended.",
    "content": {
        "text/event-stream": {
            # Of one event.
            "schema": {
                "type": "object",
                "required": ["data"],
                "properties": {
                    "id": {"type": "string", "description": "Send it as Last-Event-ID to go on after this event."},
                    "event": {"type": "string"},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                    "retry": {"type": "integer"},
                },
            },
            "examples": {"succeeded": {"value": _EVENTS_EXAMPLE.replace("\\\n", "")}},
        }
    },
    "headers": {"Cache-Control": {"schema": {"type": "string"}}, "X-Accel-Buffering": {"schema": {"type": "string"}}},
}
# Of a file.
FILE_HEADERS: list[dict[str, Any]] = [
    {**IF_NONE_MATCH, "description": "The ETag of an earlier answer; 304 if the file is the same."},
    {
        "name": "Range",
        "in": "header",
        "required": False,
        "description": "One range, as in `bytes=0-99`: 206, or 416 if it is behind the end. Several: the whole file.",
        "schema": {"type": "string"},
    },
    {
        "name": "If-Range",
        "in": "header",
        "required": False,
        "description": "The ETag of an earlier answer: `Range` counts only if the file is the same.",
        "schema": {"type": "string"},
    },
]
# Of the Hugging Face routes.
CALL_HEADERS: list[dict[str, Any]] = [
    {
        **IDEMPOTENCY_KEY,
        "description": f"With `Prefer` alone. {IDEMPOTENCY_KEY['description']}",
        "schema": {"type": "string"},
    },
    {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "description": "`respond-async`, `wait=<seconds>`: a job instead of the masks, at once or if they take longer.",
        "schema": {"type": "string"},
        "examples": {"async": {"value": "respond-async"}, "wait": {"value": "wait=1"}},
    },
    {
        "name": "x-use-cache",
        "in": "header",
        "required": False,
        "description": "`false`: compute again, even if an identical request was answered before.",
        "schema": {"type": "string"},
    },
    {
        "name": "x-wait-for-model",
        "in": "header",
        "required": False,
        "description": "`true`: wait for a model that is still loading until the deadline, instead of a 503.",
        "schema": {"type": "string"},
    },
]
# As it was submitted.
IMAGE = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
PNG = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}

FILE_RESPONSES: dict[str | int | HTTPStatus, Any] = {
    206: {"description": "The range that was asked for."},
    304: None,
    416: {"description": "The range is behind the end."},
}

Errors = tuple[type[errors.MaskmillError], ...]
# The errors that a route declares give the statuses of its responses.  An error of all routes is added here alone.
EVERY_ROUTE: Final[Errors] = (
    errors.BadParameter,
    errors.UnknownParameter,
    errors.Unauthorized,
    errors.MissingScope,
    errors.ForeignOrigin,
    errors.UnknownHost,
    errors.BadPrefix,
    errors.RequestTimeout,
    errors.StoreUnavailable,
    errors.TooManyRequests,
)
# The HTTP server answers these before the gateway sees a request: its line or its headers are too long.
SERVER_STATUSES: Final = (HTTPStatus.REQUEST_URI_TOO_LONG, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
# Of a request with an image.
SUBMISSION: Final[Errors] = (
    errors.EmptyBody,
    errors.UnreadableBody,
    errors.UnsupportedCoding,
    errors.NotAnImage,
    errors.TruncatedImage,
    errors.BodyTooLarge,
    errors.ImageTooLarge,
    errors.ImageTooCostly,
    errors.UnknownModel,
    errors.NotPermitted,
    errors.IdempotencyConflict,
    errors.UploadsFull,
    errors.QueueFull,
    errors.QuotaExceeded,
    errors.StoreFull,
    errors.StorageUnavailable,
    errors.StackUnconfirmed,
    errors.WrongStores,
)
# Of a request that may name an image in place of sending it.
NAMED_INPUT: Final[Errors] = (
    errors.ForbiddenUrl,
    errors.ForbiddenInput,
    errors.InputNotFound,
    errors.UnknownUpload,
)
# Why a job failed.
JOB_FAILURE: Final[Errors] = (
    errors.TruncatedImage,
    errors.NotAnImage,
    errors.ImageTooLarge,
    errors.ImageTooCostly,
    errors.ImageTooNarrow,
    errors.Canceled,
    errors.DeadlineExceeded,
    errors.OutOfMemory,
    errors.DecoderLost,
    errors.EngineFailed,
    errors.RenderingFailed,
    errors.InputMissing,
    errors.AttemptsExhausted,
    errors.MaskmillError,
)
# Of a request for something that a job has made.
RESULT: Final[Errors] = (
    errors.ForbiddenUrl,
    errors.UrlRefused,
    errors.UrlUnreachable,
    errors.UrlTooLarge,
    errors.UnknownJob,
    errors.Gone,
    errors.NotFinished,
    errors.ResultOverwritten,
    errors.StorageUnavailable,
    errors.JobExpired,
    *(kind for kind in JOB_FAILURE if kind is not errors.DeadlineExceeded),
)

# Of a recut.
RECUT: Final[Errors] = (
    errors.IdempotencyConflict,
    errors.EmptyBody,
    errors.UnreadableBody,
    errors.UnsupportedCoding,
    errors.BodyTooLarge,
    errors.UploadsFull,
    errors.RecutGone,
    errors.RecutUnsupported,
    errors.ThresholdBelowFloor,
    errors.AllQueriesNeeded,
    errors.RendererUnavailable,
    errors.TooManyWaiting,
    errors.GatewayStopping,
    errors.StoreFull,
    errors.ImageGone,
    errors.DecodersBusy,
    errors.SharedMemoryFull,
    *RESULT,
)
# Besides those of RESULT, of a request for a file that is rendered if it is not stored.
RENDERED: Final[Errors] = (
    errors.TooManyCorners,
    errors.RendererUnavailable,
    errors.TooManyWaiting,
    errors.GatewayStopping,
    errors.ImageGone,
    errors.StoreFull,
    errors.DecodersBusy,
    errors.SharedMemoryFull,
)

Responses = dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None]

_JSON_ARRAYS: Final = frozenset({"hf", "labelstudio"})  # formats; the others in JSON are objects
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}]


def build_job_operation_id(*, name: str, path: str, method: str) -> str:
    """Return the id of an operation of the resource /v1/jobs, under whose name generated clients have it."""
    return get_operation_id_for_path(bp_name="jobs", name=name, path=path, method=method)


def describe_file(one: Format) -> dict[str, Any]:
    """Return the response of a route that serves a format's file."""
    media_types = [kind for kind in (one.media_type, one.other_media_type) if kind]
    return {"content": {kind: {"schema": _describe_content(one, kind)} for kind in media_types}}


def _describe_content(one: Format, media_type: str) -> dict[str, Any]:
    if one.name in _JSON_ARRAYS:
        return {"type": "array", "items": {"type": "object"}}
    if media_type.endswith("json"):
        return {"type": "object"}
    return {"type": "string", "format": "binary"}


def failures(*kinds: type[errors.MaskmillError]) -> Responses:
    """Return the responses of a route that can fail with these errors, besides those of EVERY_ROUTE, by status."""
    by_status: dict[int, list[type[errors.MaskmillError]]] = {}
    for kind in dict.fromkeys((*EVERY_ROUTE, *kinds)):
        by_status.setdefault(http_status(kind), []).append(kind)
    by_status |= {status: [errors.UnreadableBody] for status in SERVER_STATUSES}
    return {status: _describe_errors(by_status[status]) for status in sorted(by_status)}


def _describe_errors(kinds: Sequence[type[errors.MaskmillError]]) -> dict[str, Any]:
    headers = sorted({name for kind in kinds for name in kind().headers()})
    return {
        "description": f"error_type: {', '.join(sorted({f'`{kind.code}`' for kind in kinds}))}",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorView.__name__}"}}},
        "headers": {name: {"schema": {"type": "string"}} for name in headers},
    }
