"""The synchronous route, for clients of the Hugging Face task image-segmentation: one request, one JSON array."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from flask import Response, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import errors
from api.http import ignored
from api.http.bodies import ParsedBody
from api.http.connection import is_client_connected, wait_for_disconnect
from api.http.openapi import CALL_HEADERS, JOB_FAILURE, SECURITY, SUBMISSION, failures
from api.http.openapi_bodies import IMAGE_BODY, QUERY_PARAMETERS
from api.http.options import list_overridden, parse_options
from api.http.prefer import Preference, parse_prefer
from api.inference.synchronous import CacheStatus, SyncOptions
from api.jobs.admission import JobProfile, Submission
from api.model_registry import ModelStatus
from api.routes.context import get_caller, get_gateway, get_tenant_jobs
from api.routes.jobs import build_accepted, build_submission, read_parsed_body
from api.schemas.huggingface import HfSegmentView
from api.schemas.jobs import JobView
from shared.errors import (
    GatewayStopping,
    ModelNotReady,
    PayloadsFull,
    SharedJobEnded,
    TooManyWaiting,
    Unavailable,
    WaitTooLong,
)
from shared.formats.registry import select_formats
from shared.jobs.model import Priority

bp = APIBlueprint("inference", __name__, abp_tags=[Tag(name="inference")], abp_security=SECURITY)

# Some clients repeat a request immediately after a 503, without limit; this delay bounds their rate.
MIN_503_SECONDS = 1.0
_MODEL_IN_PATH = {"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}
_PARAMETERS = [*QUERY_PARAMETERS, *CALL_HEADERS]
_ARRAY = {
    "description": "The segments, in the order of the reference pipeline.",
    "content": {"application/json": {"schema": {"type": "array", "items": HfSegmentView.model_json_schema()}}},
}
_RESPONSES = {
    200: _ARRAY,
    202: JobView,
    **failures(
        *SUBMISSION,
        *JOB_FAILURE,
        GatewayStopping,
        ModelNotReady,
        SharedJobEnded,
        TooManyWaiting,
        WaitTooLong,
        PayloadsFull,
    ),
}


@bp.post("/", responses=_RESPONSES, openapi_extensions={"requestBody": IMAGE_BODY, "parameters": _PARAMETERS})
@bp.post("/predict", doc_ui=False)
@bp.post(
    "/models/<path:model_id>",
    responses=_RESPONSES,
    openapi_extensions={"requestBody": IMAGE_BODY, "parameters": [_MODEL_IN_PATH, *_PARAMETERS]},
)
@bp.post("/hf-inference/models/<path:model_id>", doc_ui=False)
@bp.post("/pipeline/image-segmentation/<path:model_id>", doc_ui=False)
def segment() -> Response:
    """Segment an image and answer with its masks."""
    # One form of the path has the task after the model, whose id may contain slashes.
    model = (request.view_args or {}).get("model_id", "").strip("/").removesuffix("/pipeline/image-segmentation")
    submission, options = _read_call(model or None)
    preference = parse_prefer(request.headers.get("Prefer"))
    if preference is not None:
        return _submit(submission, preference)
    gateway = get_gateway()
    gateway.metrics.submitted.labels(Priority.INTERACTIVE).inc()
    submission = _add_masks(submission, gateway.synchronous.profile)
    reply = gateway.synchronous.segment(submission, get_caller(), options=options, is_wanted=is_client_connected)
    return _build_array(reply.body, reply.job_id, reply.model, reply.cache_status)


@bp.errorhandler(Unavailable)
def delay_unavailable(error: Unavailable) -> Response:
    """Answer 503 after MIN_503_SECONDS at the earliest, or when the client has disconnected, or too many wait."""
    if errors.http_status(type(error)) == 503:
        with suppress(TooManyWaiting), get_gateway().slots.occupy(g.tenant):
            wait_for_disconnect(MIN_503_SECONDS - (time.perf_counter() - g.started))
    return errors.answer(error)


@bp.after_request
def name_ignored(response: Response) -> Response:
    """Name what the request has given without effect, in errors too."""
    names = g.get("ignored", ())
    if names:
        response.headers[ignored.HEADER] = ignored.format_names(names)
    return response


def _read_call(model: str | None) -> tuple[Submission, SyncOptions]:
    """Read the body, the query and the headers; a model in the path overrides one in the body."""
    parsed = read_parsed_body()
    g.ignored = tuple(_list_ignored(parsed, model))
    options = SyncOptions(**parse_options(parsed.options, request.headers))
    return build_submission(parsed, model=model), options


def _list_ignored(parsed: ParsedBody, model: str | None) -> Iterator[str]:
    yield from parsed.unknown
    yield from (f"query.{name}" for name in parsed.overridden)
    yield from list_overridden(parsed.options, request.headers)
    if model is not None and parsed.model not in (None, model):
        yield "model"


def _submit(submission: Submission, preference: Preference) -> Response:
    """Answer 202 with the job's links; or the masks, if the job succeeds within the `wait` of the preference."""
    gateway = get_gateway()
    gateway.metrics.submitted.labels(Priority.NORMAL).inc()
    idempotency_key = request.headers.get("Idempotency-Key")
    submission = _add_masks(submission, gateway.submitter.profile)
    job = gateway.submitter.submit(submission, get_caller(), idempotency_key=idempotency_key)
    tenant_jobs = get_tenant_jobs()
    job = tenant_jobs.wait(job.id, seconds=preference.wait_seconds)
    if job.state.is_final:
        model = gateway.models.find(job.request.model)
        response = _build_array(tenant_jobs.get_hf_array(job.id), job.id, model, CacheStatus.MISS)
    else:
        response = build_accepted(job)
    response.headers["Preference-Applied"] = preference.applied
    return response


def _add_masks(submission: Submission, profile: JobProfile) -> Submission:
    """Return the submission with the masks among its formats, because the array is built from them."""
    return replace(submission, formats=select_formats([*(submission.formats or profile.formats), "masks"]))


def _build_array(body: bytes, job_id: str, model: ModelStatus, cache_status: CacheStatus) -> Response:
    response = Response(body, content_type="application/json")
    response.headers["x-compute-time"] = f"{time.perf_counter() - g.started:.3f}"
    response.headers["x-compute-type"] = model.compute_type
    response.headers["x-maskmill-job-id"] = job_id
    response.headers["x-maskmill-model"] = model.id
    response.headers["x-maskmill-cache"] = cache_status
    return response
