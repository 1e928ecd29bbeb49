"""The events of a job, as a stream of server-sent events."""

from http import HTTPStatus

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.http.openapi import EVENT_STREAM, LAST_EVENT_ID, SECURITY, failures
from api.http.parameters import refuse_query
from api.jobs.event_stream import is_end_known, parse_last_event
from api.routes.context import get_gateway, get_tenant_jobs
from api.schemas.jobs import JobPath
from api.server.options import STREAM_KEY
from shared.errors import StorageUnavailable, TooManyStreams, UnknownJob

bp = APIBlueprint("events", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")], abp_security=SECURITY)
bp.before_request(lambda: refuse_query(request.args))


@bp.get(
    "/<job_id>/events",
    responses={200: EVENT_STREAM, 204: None, **failures(UnknownJob, TooManyStreams, StorageUnavailable)},
    openapi_extensions={"parameters": [LAST_EVENT_ID]},
)
def stream_events(path: JobPath) -> Response:
    """Stream what happens to a job, from its submission to its end, as server-sent events.

    The events `queued`, `running`, `stage` and `requeued`, and the final state of the job, have ids, after which a
    stream goes on with `Last-Event-ID`; `position` tells the place of a queued job when it changes.  The stream ends
    after the final state, or after `deleted`; then one that is opened after its id is answered with 204.
    """
    tenant_jobs, streams = get_tenant_jobs(), get_gateway().streams
    job = tenant_jobs.get(path.job_id)
    last = parse_last_event(request.headers.get("Last-Event-ID"))
    if last.is_end and is_end_known(last, streams.read(job.id), job.state):
        # Browsers connect again after every other end.
        return Response(status=HTTPStatus.NO_CONTENT)
    response = Response(iter(()), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    # For nginx, which would collect pieces before it passes them on.
    response.headers["X-Accel-Buffering"] = "no"
    # Another server than the gateway's own sends the head alone.
    if request.method == "GET" and (slot := request.environ.get(STREAM_KEY)) is not None:
        slot.stream = streams.open(job, tenant_jobs, last)
    return response
