"""Jobs: submit, look, fetch what came of them, cancel."""

from http import HTTPStatus

from flask import Response, jsonify, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from api.http.bodies import parse_body, parse_parameters
from api.http.context import caller, services
from api.http.openapi import IMAGE_BODY, PARAMETERS_IN_QUERY, PNG, SECURITY, ZIP, failures
from api.http.request_body import read_request_body
from api.jobs import queries as lookup
from api.jobs.submission import Order, submit_job
from api.schemas.jobs import JobListView, JobPath, JobView, ListQuery, WaitQuery
from api.schemas.results import MaskPath, ResultView
from shared.jobs.model import Job, Priority

bp = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_security=SECURITY)

POLL_SECONDS = 1
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Submitting again under the same key within a day returns the earlier job.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
# What a job has made never changes; only its owner may keep it.
_CACHE_CONTROL = "private, max-age=3600, immutable"


@bp.post(
    "",
    responses={202: JobView, **failures(413, 404, 422, 429)},
    openapi_extensions={"requestBody": IMAGE_BODY, "parameters": [*PARAMETERS_IN_QUERY, _IDEMPOTENCY_KEY]},
)
def create_job() -> Response:
    """Queue an image for segmentation; answers before any worker has seen it."""
    order = order_of_request()
    job = submit_job(order, caller(), services(), idempotency_key=request.headers.get("Idempotency-Key"))
    services().metrics.submitted.labels(Priority.NORMAL).inc()
    return accepted(job)


@bp.get("", responses={200: JobListView, **failures()})
def list_jobs(query: ListQuery) -> Response:
    """List your jobs, newest first."""
    found, cursor = lookup.list_jobs(
        caller().tenant, services(), limit=query.limit, cursor=query.cursor, state=query.state
    )
    return _answer(JobListView(jobs=[JobView.of(job) for job in found], next_cursor=cursor))


@bp.get("/<job_id>", responses={200: JobView, **failures(404)})
def show_job(path: JobPath, query: WaitQuery) -> Response:
    """Show where a job stands; with `wait`, once it has ended."""
    return _show(lookup.wait_for_end(path.job_id, caller().tenant, services(), seconds=query.wait))


@bp.delete("/<job_id>", responses={200: JobView, **failures(404, 409)})
def cancel_job(path: JobPath) -> Response:
    """Cancel a job that has not ended; nothing of it is kept."""
    return _answer(JobView.of(lookup.cancel(path.job_id, caller().tenant, services())))


@bp.get("/<job_id>/result", responses={200: ResultView, **failures(404, 409, 413, 500, 504)})
def show_result(path: JobPath) -> Response:
    """Show the segments of a job that succeeded, or the error of one that did not."""
    response = _answer(ResultView.of(lookup.result_of(path.job_id, caller().tenant, services())))
    response.headers["Cache-Control"] = _CACHE_CONTROL
    return response


@bp.get("/<job_id>/labels.png", responses={200: PNG, **failures(404, 409)})
def show_labels(path: JobPath) -> Response:
    """Fetch the label map: 0 is nothing, n is the segment of id n; 8 or 16 bit."""
    return _stored(path.job_id, "labels.png", "image/png")


@bp.get("/<job_id>/overlay.png", responses={200: PNG, **failures(404, 409)})
def show_overlay(path: JobPath) -> Response:
    """Fetch the photo with its segments drawn over it; not kept of synchronous requests."""
    return _stored(path.job_id, "overlay.png", "image/png")


@bp.get("/<job_id>/masks.zip", responses={200: ZIP, **failures(404, 409)})
def show_masks(path: JobPath) -> Response:
    """Fetch every mask: 1.png, 2.png, ... by the ids of the segments."""
    return _stored(path.job_id, "masks.zip", "application/zip")


@bp.get("/<job_id>/masks/<int:number>.png", responses={200: PNG, **failures(404, 409)})
def show_mask(path: MaskPath) -> Response:
    """Fetch the mask of one segment: 8-bit grey, 0 or 255, as large as the upright image."""
    mask = lookup.mask_of(path.job_id, caller().tenant, path.number, services())
    return _immutable(mask, "image/png")


def accepted(job: Job) -> Response:
    """Answer 202: where the job will be found, and when to look."""
    response = _answer(JobView.of(job), HTTPStatus.ACCEPTED)
    response.headers["Location"] = url_for("jobs.show_job", job_id=job.id)
    response.headers["Retry-After"] = str(POLL_SECONDS)
    return response


def order_of_request(*, model: str | None = None) -> Order:
    """Read the body and the query; a model in the address wins over one in the body."""
    submission = parse_body(read_request_body(), request.content_type or "", request.args)
    return Order(submission.image, parse_parameters(submission.parameters), model or submission.model)


def _answer(view: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    response = jsonify(view.model_dump(mode="json"))
    response.status_code = status
    return response


def _show(job: Job) -> Response:
    response = _answer(JobView.of(job))
    response.set_etag(f"{job.state}-{job.attempt}-{job.lapses}", weak=True)
    response.headers["Cache-Control"] = "no-cache"
    if not job.state.is_final:
        response.headers["Retry-After"] = str(POLL_SECONDS)
    response.make_conditional(request)
    return response


def _stored(job_id: str, name: str, content_type: str) -> Response:
    return _immutable(lookup.stored_object(job_id, caller().tenant, name, services()), content_type)


def _immutable(content: bytes, content_type: str) -> Response:
    response = Response(content, content_type=content_type)
    response.headers["Cache-Control"] = _CACHE_CONTROL
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
