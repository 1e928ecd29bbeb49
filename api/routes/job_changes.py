"""Changes of jobs beyond their submission: cancel many, redrive, keep."""

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.http.filters import parse_cancellation
from api.http.json_bodies import describe_json_body, read_json_body
from api.http.openapi import SECURITY, build_job_operation_id, failures
from api.jobs import keeping
from api.jobs.cancellation import cancel_jobs
from api.routes.context import get_caller, get_gateway, get_tenant_jobs, get_tenant_listing
from api.routes.jobs import build_accepted, build_json
from api.schemas.jobs import JobPath, JobView
from api.schemas.keeping import KeepBody
from api.schemas.listing import METADATA_FILTER, CancelQuery, CancelView
from api.schemas.query import Query
from shared.errors import (
    AlreadyEnded,
    BodyTooLarge,
    EmptyBody,
    ForbiddenInput,
    ForbiddenUrl,
    Gone,
    NotFinished,
    NotPermitted,
    QueueFull,
    StackUnconfirmed,
    StorageUnavailable,
    StoreFull,
    UnknownJob,
    UnknownModel,
    UnreadableBody,
    UnsupportedCoding,
    UploadsFull,
    WrongStores,
)

JSON_BODY = (EmptyBody, UnreadableBody, UnsupportedCoding, BodyTooLarge, UploadsFull)

bp = APIBlueprint(
    "job_changes",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="jobs")],
    abp_security=SECURITY,
    operation_id_callback=build_job_operation_id,
)


@bp.post(
    "/cancel",
    responses={200: CancelView, **failures(StorageUnavailable)},
    openapi_extensions={"parameters": [METADATA_FILTER]},
)
def cancel_many(query: CancelQuery) -> Response:
    """Cancel your jobs that match all filters and have not ended, newest first; safe to repeat.

    Jobs beside them in a batch are not affected. Repeat the call with `next_cursor` until that is null.
    """
    wanted = parse_cancellation(query, request.args)
    done = cancel_jobs(wanted, get_tenant_listing(), limit=query.limit, cursor=query.cursor)
    return build_json(
        CancelView(canceled=done.canceled, already_ended=done.already_ended, next_cursor=done.next_cursor)
    )


@bp.post(
    "/<job_id>/redrive",
    responses={
        202: JobView,
        **failures(
            UnknownJob,
            NotPermitted,
            NotFinished,
            AlreadyEnded,
            Gone,
            ForbiddenInput,
            ForbiddenUrl,
            UnknownModel,
            QueueFull,
            StoreFull,
            StorageUnavailable,
            StackUnconfirmed,
            WrongStores,
        ),
    },
)
def redrive_job(path: JobPath, query: Query) -> Response:
    """Run a job again that failed or expired: as a new job, whose `redrive_of` is this one, while its image is kept.

    Sent again within a day, it answers with the same new job.
    """
    gateway = get_gateway()
    job = gateway.redriver.redrive(path.job_id, get_caller())
    gateway.metrics.submitted.labels(job.request.priority).inc()
    return build_accepted(job)


@bp.post(
    "/<job_id>/keep",
    responses={200: JobView, **failures(*JSON_BODY, UnknownJob, NotFinished, Gone, StorageUnavailable)},
    openapi_extensions={"requestBody": describe_json_body(KeepBody)},
)
def keep_job(path: JobPath, query: Query) -> Response:
    """Keep a job that has ended, with its result, files and image, for longer; never for less than before."""
    gateway, body = get_gateway(), read_json_body(KeepBody)
    seconds = body.count_seconds(gateway.submitter.admission.now())
    job = keeping.keep_job(
        path.job_id, seconds, get_tenant_jobs(), gateway.keeper, max_seconds=gateway.max_kept_seconds
    )
    return build_json(JobView.of(job))
