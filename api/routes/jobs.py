"""Jobs: submit, show, list, cancel, purge."""

from functools import partial
from http import HTTPStatus

from flask import Response, jsonify, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from werkzeug.datastructures import Headers

from api.http.bodies import ParsedBody, parse_body
from api.http.filters import parse_filter, parse_ids
from api.http.members import MEMBERS, OPTIONS
from api.http.openapi import (
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    JOB_BODY,
    NAMED_INPUT,
    QUERY_PARAMETERS,
    SECURITY,
    SUBMISSION,
    failures,
)
from api.http.options import parse_options
from api.http.parameters import parse_formats, parse_parameters, quote
from api.http.references import REFERENCE_MEMBERS
from api.http.request_body import keep_reserved, parse_in_turn, read_request_body
from api.jobs import cancellation
from api.jobs.admission import Submission
from api.jobs.upload import Upload
from api.routes.context import get_caller, get_gateway, get_tenant_jobs, get_tenant_listing
from api.schemas.jobs import JobListView, JobPath, JobView, PurgeQuery, WaitQuery
from api.schemas.listing import METADATA_FILTER, ListQuery
from shared.errors import AlreadyEnded, BadParameter, StorageUnavailable, UnknownJob, UnknownParameter
from shared.jobs.model import Job, Priority

bp = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_security=SECURITY)

POLL_INTERVAL_SECONDS = 1


@bp.post(
    "",
    responses={202: JobView, **failures(*SUBMISSION, *NAMED_INPUT)},
    openapi_extensions={"requestBody": JOB_BODY, "parameters": [*QUERY_PARAMETERS, IDEMPOTENCY_KEY]},
)
def create_job() -> Response:
    """Queue an image for segmentation; answers before any worker has seen it."""
    gateway = get_gateway()
    idempotency_key = request.headers.get("Idempotency-Key")
    job = gateway.submitter.submit(read_submission(), get_caller(), idempotency_key=idempotency_key)
    gateway.metrics.submitted.labels(Priority.NORMAL).inc()
    return build_accepted(job)


@bp.get(
    "",
    responses={200: JobListView, **failures(StorageUnavailable)},
    openapi_extensions={"parameters": [METADATA_FILTER]},
)
def list_jobs(query: ListQuery) -> Response:
    """List your jobs, newest first: those that match all filters; or, with `ids`, these.

    Dead letters, the jobs that were given up because workers were lost with them, are
    `?state=failed&error_type=attempts_exhausted`.
    """
    listing = get_tenant_listing()
    if query.ids is not None:
        found = listing.find(parse_ids(query.ids, request.args))
        return build_json(JobListView(jobs=[JobView.of(job) for job in found.jobs], missing=list(found.missing)))
    page = listing.list_newest(limit=query.limit, cursor=query.cursor, wanted=parse_filter(query, request.args))
    return build_json(JobListView(jobs=[JobView.of(job) for job in page.jobs], next_cursor=page.next_cursor))


@bp.get(
    "/<job_id>",
    responses={200: JobView, 304: None, **failures(UnknownJob)},
    openapi_extensions={"parameters": [IF_NONE_MATCH]},
)
def show_job(path: JobPath, query: WaitQuery) -> Response:
    """Show the current state of a job; with `wait`, once it is final."""
    job = get_tenant_jobs().wait(path.job_id, seconds=query.wait)
    response = build_json(JobView.of(job))
    response.set_etag(f"{job.state}-{job.attempt}-{job.stalls}", weak=True)
    response.headers["Cache-Control"] = "no-cache"
    if not job.state.is_final:
        response.headers["Retry-After"] = str(POLL_INTERVAL_SECONDS)
    response.make_conditional(request)
    return response


@bp.delete("/<job_id>", responses={200: JobView, 204: None, **failures(UnknownJob, AlreadyEnded, StorageUnavailable)})
def cancel_job(path: JobPath, query: PurgeQuery) -> Response:
    """Cancel a job that is not final; nothing of its image is kept.  With `purge`, delete a job of any state."""
    if query.purge:
        cancellation.purge_job(path.job_id, get_tenant_jobs())
        return Response(status=HTTPStatus.NO_CONTENT)
    return build_json(JobView.of(cancellation.cancel_job(path.job_id, get_tenant_jobs())))


def build_accepted(job: Job) -> Response:
    """Return a 202 with the job, its location and the poll interval."""
    response = build_json(JobView.of(job), HTTPStatus.ACCEPTED)
    response.headers["Location"] = url_for("jobs.show_job", job_id=job.id)
    response.headers["Retry-After"] = str(POLL_INTERVAL_SECONDS)
    return response


def read_submission() -> Submission:
    """Read the body and the query, and refuse what would have no effect.

    The options of the Hugging Face clients are checked, but change nothing: a job is computed again, and waits for its
    model.
    """
    parsed = read_parsed_body(takes_references=True)
    parse_options(parsed.options, Headers())
    _check_used(parsed)
    return build_submission(parsed)


def _check_used(parsed: ParsedBody) -> None:
    for name in parsed.overridden:
        raise BadParameter(f"{quote(name)} is given twice, in the query and in the body; give it once.")
    for name in parsed.unknown:
        known = OPTIONS if name.startswith("options.") else (*MEMBERS, *REFERENCE_MEMBERS)
        raise UnknownParameter(f"There is no member {quote(name)} of the body; known are {', '.join(known)}.")


def read_parsed_body(*, takes_references: bool = False) -> ParsedBody:
    """Read the body and the query; an image may be named in place of being sent if `takes_references`."""
    body = read_request_body()
    with parse_in_turn(len(body)):
        parsed = parse_body(body, request.content_type or "", request.args, takes_references=takes_references)
    # A body of JSON is larger than the image in it.
    del body
    keep_reserved(len(parsed.image))
    return parsed


def build_submission(parsed: ParsedBody, *, model: str | None = None) -> Submission:
    """Check the parameters and the formats; `model` overrides one in the body.

    Nothing may refer to the image any longer than the upload, which releases it.
    """
    return Submission(
        parsed.reference or Upload(parsed.image, on_release=partial(keep_reserved, 0)),
        parse_parameters(parsed.parameters),
        model or parsed.model,
        parse_formats(parsed.formats),
    )


def build_json(view: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    response = jsonify(view.model_dump(mode="json"))
    response.status_code = status
    return response
