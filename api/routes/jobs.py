"""Jobs: submit, show, list, cancel, purge."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from flask import Response, jsonify, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from werkzeug.datastructures import Headers

from api.http.bodies import ParsedBody, parse_body
from api.http.filters import parse_filter, parse_ids
from api.http.form_images import FormImage
from api.http.job_options import CANCEL_AFTER, JOB_MEMBERS, parse_job_options
from api.http.members import MEMBERS, OPTIONS
from api.http.openapi import (
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    NAMED_INPUT,
    SECURITY,
    SUBMISSION,
    failures,
)
from api.http.openapi_jobs import ACCEPTED_JOBS, ENDED_JOB, JOB_BODY, JOB_PARAMETERS, PREFER
from api.http.options import parse_options
from api.http.parameters import parse_formats, parse_parameters
from api.http.prefer import parse_prefer
from api.http.references import REFERENCE_MEMBERS
from api.http.request_body import keep_reserved, parse_in_turn, read_request_body
from api.jobs import cancellation
from api.jobs.admission import Submission
from api.jobs.bundles import BundleItem, ItemOutcome, submit_bundle
from api.jobs.limits import OptionLimits
from api.jobs.upload import Upload
from api.quoting import quote
from api.routes.context import get_caller, get_gateway, get_tenant_jobs, get_tenant_listing
from api.schemas.bundles import BundleView
from api.schemas.jobs import JobListView, JobPath, JobView, PurgeQuery, WaitQuery
from api.schemas.listing import METADATA_FILTER, ListQuery
from api.schemas.results import ResultView
from shared.errors import (
    AlreadyEnded,
    BadParameter,
    ClientIdTaken,
    MetadataTooLarge,
    StorageUnavailable,
    Unavailable,
    UnknownJob,
    UnknownParameter,
)
from shared.jobs.ids import is_client_id
from shared.jobs.model import Job, JobState

bp = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_security=SECURITY)

POLL_INTERVAL_SECONDS = 1


@bp.post(
    "",
    responses={
        200: ENDED_JOB,
        202: ACCEPTED_JOBS,
        207: BundleView,
        **failures(*SUBMISSION, *NAMED_INPUT, MetadataTooLarge),
    },
    openapi_extensions={"requestBody": JOB_BODY, "parameters": [*JOB_PARAMETERS, PREFER, IDEMPOTENCY_KEY]},
)
def create_job() -> Response:
    """Queue an image for segmentation; answers before any worker has seen it.

    With `Prefer: wait=N` it answers 200 with the result if the job succeeds in that time, or with the job if it ends
    otherwise; else 202.

    A form with several images makes a job of each, and is answered with a list, at once: 202 if each has a job, else
    207.
    """
    gateway = get_gateway()
    key, submissions = request.headers.get("Idempotency-Key"), read_submissions(gateway.option_limits)
    if isinstance(submissions, Submission):
        return _answer(_submit(submissions, key))
    outcomes = submit_bundle(submissions, get_caller(), gateway.submitter, idempotency_key=key)
    return _answer_bundle(outcomes)


@bp.put(
    "/<job_id>",
    responses={200: ENDED_JOB, 202: JobView, **failures(*SUBMISSION, *NAMED_INPUT, MetadataTooLarge, ClientIdTaken)},
    openapi_extensions={"requestBody": JOB_BODY, "parameters": [*JOB_PARAMETERS, PREFER]},
)
def put_job(path: JobPath) -> Response:
    """Queue an image as a job with an id of your own, once: 1 to 64 of `A-Za-z0-9._~-`, and not 32 hex digits.

    If you have submitted the same under this id before, that job is returned, with 200 once it has ended; if it was
    something else, 409.  All routes of a job take this id, for as long as its record is kept.
    """
    submission = read_submission(get_gateway().option_limits, client_id=path.job_id)
    if not is_client_id(path.job_id):
        raise BadParameter(f"{quote(path.job_id)} is no id of your own: 1 to 64 of A-Za-z0-9._~-, not 32 hex digits.")
    if "Idempotency-Key" in request.headers:
        raise BadParameter("PUT takes no Idempotency-Key: the id in its path is one.")
    return _answer(_submit(submission, None))


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
    place, eta = get_gateway().eta.locate(job) or (None, None)
    response = build_json(JobView.of(job, place, eta))
    position = place.position if place else 0
    # A job that has ended can be kept for longer.
    changing = (job.state, job.attempt, job.stalls, position, round(job.expires_at or 0))
    response.set_etag("-".join(map(str, changing)), weak=True)
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


def _submit(submission: Submission, idempotency_key: str | None) -> Job:
    gateway = get_gateway()
    job = gateway.submitter.submit(submission, get_caller(), idempotency_key=idempotency_key)
    gateway.metrics.submitted.labels(job.request.priority).inc()
    return job


def _answer(job: Job) -> Response:
    """Answer a submission, after the time that its caller prefers to wait."""
    preference = parse_prefer(request.headers.get("Prefer"))
    if preference is None:
        return _build_ended(JobView.of(job), job) if job.state.is_final else build_accepted(job)
    job = get_tenant_jobs().wait(job.id, seconds=preference.wait_seconds)
    response = _build_ended(_find_result(job), job) if job.state.is_final else build_accepted(job)
    response.headers["Preference-Applied"] = preference.applied
    return response


def _answer_bundle(outcomes: Sequence[ItemOutcome]) -> Response:
    jobs = [one.outcome for one in outcomes if isinstance(one.outcome, Job)]
    for job in jobs:
        get_gateway().metrics.submitted.labels(job.request.priority).inc()
    status = HTTPStatus.ACCEPTED if len(jobs) == len(outcomes) else HTTPStatus.MULTI_STATUS
    response = build_json(BundleView.of((one.name, one.outcome) for one in outcomes), status)
    for one in outcomes:
        if isinstance(one.outcome, Unavailable):
            response.headers.update(one.outcome.headers())
    return response


def _build_ended(view: BaseModel, job: Job) -> Response:
    response = build_json(view)
    response.headers["Location"] = url_for("jobs.show_job", job_id=job.id)
    return response


def _find_result(job: Job) -> BaseModel:
    """Return the result of a job that succeeded, or the job: after an error the submission would be repeated."""
    if job.state is JobState.SUCCEEDED:
        with suppress(Unavailable, UnknownJob):
            return ResultView.of(get_tenant_jobs().get_result(job.id))
    return JobView.of(job)


def build_accepted(job: Job) -> Response:
    """Return a 202 with the job, its location and the poll interval."""
    response = build_json(JobView.of(job), HTTPStatus.ACCEPTED)
    response.headers["Location"] = url_for("jobs.show_job", job_id=job.id)
    response.headers["Retry-After"] = str(POLL_INTERVAL_SECONDS)
    return response


def read_submission(limits: OptionLimits, *, client_id: str | None = None) -> Submission:
    """Read the body and the query, and refuse what would have no effect.

    The options of the Hugging Face clients are checked, but change nothing: a job is computed again, and waits for its
    model.
    """
    parsed = _read_strictly()
    options = parse_job_options(parsed.job, request.headers.get(CANCEL_AFTER), limits)
    return replace(build_submission(parsed), options=replace(options, client_id=client_id))


def read_submissions(limits: OptionLimits) -> Submission | Sequence[BundleItem]:
    """Read a submission as read_submission(), or the several of a form with several images."""
    parsed = _read_strictly(max_images=limits.images)
    options = parse_job_options(parsed.job, request.headers.get(CANCEL_AFTER), limits)
    submission = replace(build_submission(parsed), options=options)
    return list(_build_items(submission, parsed.images)) if parsed.images else submission


def _build_items(submission: Submission, images: Sequence[FormImage]) -> Iterator[BundleItem]:
    """Yield the submission of each image; what a request has reserved shrinks with each that is released."""
    held = sum(len(image.content) for image in images)

    def release(nbytes: int) -> None:
        nonlocal held
        held -= nbytes
        keep_reserved(held)

    for image in images:
        upload = Upload(image.content, on_release=partial(release, len(image.content)))
        yield BundleItem(image.name, image.error or replace(submission, image=upload))


def _read_strictly(*, max_images: int = 1) -> ParsedBody:
    parsed = read_parsed_body(JOB_MEMBERS, max_images=max_images, takes_references=True)
    parse_options(parsed.options, Headers())
    _check_used(parsed)
    return parsed


def _check_used(parsed: ParsedBody) -> None:
    for name in parsed.overridden:
        raise BadParameter(f"{quote(name)} is given twice, in the query and in the body; give it once.")
    for name in parsed.unknown:
        known = OPTIONS if name.startswith("options.") else dict.fromkeys((*MEMBERS, *REFERENCE_MEMBERS, *JOB_MEMBERS))
        raise UnknownParameter(f"There is no member {quote(name)} of the body; known are {', '.join(known)}.")


def read_parsed_body(
    job_members: Collection[str] = (), *, max_images: int = 1, takes_references: bool = False
) -> ParsedBody:
    """Read the body and the query.

    Args:
        job_members: the options of a job that the route takes.
        takes_references: whether an image may be named in place of being sent.
    """
    body = read_request_body()
    with parse_in_turn(len(body)):
        parsed = parse_body(
            body,
            request.content_type or "",
            request.args,
            job_members=job_members,
            max_images=max_images,
            takes_references=takes_references,
        )
    # A body of JSON is larger than the image in it.
    del body
    keep_reserved(len(parsed.image) + sum(len(image.content) for image in parsed.images))
    return parsed


def build_submission(parsed: ParsedBody, *, model: str | None = None) -> Submission:
    """Check the parameters and the formats; `model` overrides one in the body.

    Nothing may refer to the image any longer than the upload, which releases it.
    """
    return Submission(
        parsed.reference or Upload(parsed.image, on_release=partial(keep_reserved, 0)),
        parse_parameters(parsed.parameters, beside=parsed.beside),
        model or parsed.model,
        parse_formats(parsed.formats),
    )


def build_json(view: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    response = jsonify(view.model_dump(mode="json"))
    response.status_code = status
    return response
