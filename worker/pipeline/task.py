"""Celery's side of the worker: take a message, bind the log context, run the job.  Nothing is plan_execution here."""

import structlog
from celery import Celery

from shared.errors import Unavailable
from shared.jobs.messages import SEGMENT_TASK, SegmentMessage
from worker.pipeline.job import Services, run_job

log = structlog.get_logger()


def register(app: Celery, services: Services) -> None:
    """Tell the app how to run a job's message."""

    @app.task(name=SEGMENT_TASK)  # type: ignore[untyped-decorator]
    def segment(wire: dict[str, str]) -> None:
        message = SegmentMessage.from_wire(wire)
        with structlog.contextvars.bound_contextvars(request_id=message.request_id):
            try:
                run_job(message.job_id, services)
            except Unavailable as error:
                # Redis is away: the lease lapses, or the job is still queued, and the steward publishes it again.
                log.warning("job_left_to_the_steward", job_id=message.job_id, reason=str(error))
