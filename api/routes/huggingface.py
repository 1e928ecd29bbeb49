"""The synchronous way in, for clients of the Hugging Face task image-segmentation: one request, one JSON array."""

import time

from flask import Response, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import errors
from api.http.connection import is_client_connected
from api.http.context import caller, services
from api.http.openapi import IMAGE_BODY, PARAMETERS_IN_QUERY, SECURITY, failures
from api.http.prefer import Preference, parse_prefer
from api.inference.synchronous import Source, Terms, segment_now
from api.jobs import queries as lookup
from api.jobs.submission import Order, submit_job
from api.routes.jobs import accepted, order_of_request
from api.schemas.huggingface import HfSegmentView
from shared.errors import Unavailable
from shared.jobs.model import Priority

bp = APIBlueprint("inference", __name__, abp_tags=[Tag(name="inference")], abp_security=SECURITY)

# Some clients send a request that got a 503 again at once, and for ever: this is what slows them down.
LEAST_503_SECONDS = 1.0
_MODEL_IN_PATH = {"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}
_ANSWER = {
    "description": "The segments, in the order of the reference pipeline.",
    "content": {"application/json": {"schema": {"type": "array", "items": HfSegmentView.model_json_schema()}}},
}
_RESPONSES = {200: _ANSWER, **failures(404, 413, 429, 500, 504)}


@bp.post("/", responses=_RESPONSES, openapi_extensions={"requestBody": IMAGE_BODY, "parameters": PARAMETERS_IN_QUERY})
@bp.post("/predict", doc_ui=False)
@bp.post(
    "/models/<path:model_id>",
    responses=_RESPONSES,
    openapi_extensions={"requestBody": IMAGE_BODY, "parameters": [_MODEL_IN_PATH, *PARAMETERS_IN_QUERY]},
)
@bp.post("/hf-inference/models/<path:model_id>", doc_ui=False)
@bp.post("/pipeline/image-segmentation/<path:model_id>", doc_ui=False)
def segment() -> Response:
    """Segment an image and answer with its masks."""
    # One form of the address puts the task behind the model, whose id may itself hold slashes.
    model = (request.view_args or {}).get("model_id", "").strip("/").removesuffix("/pipeline/image-segmentation")
    order = order_of_request(model=model or None)
    preference = parse_prefer(request.headers.get("Prefer"))
    if preference is not None:
        return _as_job(order, preference)
    services().metrics.submitted.labels(Priority.INTERACTIVE).inc()
    reply = segment_now(order, caller(), services(), terms=_terms(), is_wanted=is_client_connected)
    return _array(reply.body, reply.job_id, reply.model, reply.source)


@bp.errorhandler(Unavailable)
def hold_back(error: Unavailable) -> Response:
    """Answer 503 after a second at the earliest."""
    if errors.http_status(type(error)) == 503:
        time.sleep(max(0.0, LEAST_503_SECONDS - (time.perf_counter() - g.started)))
    return errors.answer(error)


def _terms() -> Terms:
    """Read the two headers of the contract; only a plain no, or a plain yes, departs from the default."""
    return Terms(
        use_cache=request.headers.get("x-use-cache", "").strip().lower() not in ("false", "0", "no"),
        wait_for_model=request.headers.get("x-wait-for-model", "").strip().lower() in ("true", "1", "yes"),
    )


def _as_job(order: Order, preference: Preference) -> Response:
    """Answer 202 with the job's links for who prefers that; or the masks, if they come within the time he waits."""
    services().metrics.submitted.labels(Priority.NORMAL).inc()
    job = submit_job(order, caller(), services(), idempotency_key=request.headers.get("Idempotency-Key"))
    ended = lookup.wait_for_end(job.id, caller().tenant, services(), seconds=preference.wait_seconds)
    if ended.state.is_final:
        body = lookup.hf_reply_of(job.id, caller().tenant, services())
        response = _array(body, job.id, job.request.model, Source.MISS)
    else:
        response = accepted(ended)
    response.headers["Preference-Applied"] = preference.applied
    return response


def _array(body: bytes, job_id: str, model: str, source: Source) -> Response:
    response = Response(body, content_type="application/json")
    response.headers["x-compute-time"] = f"{time.perf_counter() - g.started:.3f}"
    response.headers["x-compute-type"] = services().model_registry.find(model).compute_type
    response.headers["x-maskmill-job-id"] = job_id
    response.headers["x-maskmill-cache"] = source
    return response
