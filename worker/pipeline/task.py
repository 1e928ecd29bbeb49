"""The Celery task: take a message, bind the log context, run the job.  All decisions are made elsewhere."""

from collections.abc import Callable

import structlog
from celery import Celery

from shared.errors import Unavailable
from shared.jobs.messages import SEGMENT_TASK, SegmentMessage

log = structlog.get_logger()


def register(app: Celery, run_job: Callable[[str], None]) -> None:
    """Register the task that runs the job of a message, by its id."""

    @app.task(name=SEGMENT_TASK)  # type: ignore[untyped-decorator]
    def segment(wire: dict[str, str]) -> None:
        message = SegmentMessage.from_wire(wire)
        with structlog.contextvars.bound_contextvars(request_id=message.request_id):
            try:
                run_job(message.job_id)
            except Unavailable as error:
                # The lease expires, or the job is still queued: the steward enqueues it again.
                log.warning("job_abandoned", job_id=message.job_id, reason=str(error))
