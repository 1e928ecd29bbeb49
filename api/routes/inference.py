"""The synchronous way in, for clients of the Hugging Face task image-segmentation: one request, one JSON array."""

import time

from flask import Response, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import errors
from api.context import caller, caller_is_there, services
from api.routes.documentation import IMAGE_BODY, PARAMETERS_IN_QUERY, SECURITY, failures
from api.routes.jobs import order_of_request
from api.schemas import HfSegmentView
from api.submission import segment_now
from shared.errors import Unavailable
from shared.jobs import Lane

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
    services().metrics.submitted.labels(Lane.INTERACTIVE).inc()
    reply = segment_now(order, caller(), services(), is_wanted=caller_is_there)
    response = Response(reply.body, content_type="application/json")
    response.headers["x-compute-time"] = f"{time.perf_counter() - g.started:.3f}"
    response.headers["x-compute-type"] = _compute_type(reply.model)
    response.headers["x-maskmill-job-id"] = reply.job_id
    return response


@bp.errorhandler(Unavailable)
def hold_back(error: Unavailable) -> Response:
    """Answer 503 after a second at the earliest."""
    if errors.status_of(type(error)) == 503:
        time.sleep(max(0.0, LEAST_503_SECONDS - (time.perf_counter() - g.started)))
    return errors.answer(error)


def _compute_type(model_id: str) -> str:
    devices = {worker.device for worker in services().served.find(model_id).workers}
    return "gpu" if any(device.startswith("cuda") for device in devices) else "cpu"
