"""The Celery task: take a message, run jobs.  All decisions are made elsewhere."""

from collections.abc import Callable

import structlog
from celery import Celery

from shared.errors import Unavailable
from shared.jobs.messages import SEGMENT_TASK, SegmentMessage

log = structlog.get_logger()


def register(app: Celery, run_jobs: Callable[[str], None]) -> None:
    """Register the task that runs jobs, by the queue of its message."""

    @app.task(name=SEGMENT_TASK)  # type: ignore[untyped-decorator]
    def segment(wire: dict[str, str]) -> None:
        message = SegmentMessage.from_wire(wire)
        try:
            run_jobs(message.queue)
        except Unavailable as error:
            # The lease expires, or the job is still queued: the steward requeues it, or enqueues another message.
            log.warning("job_abandoned", queue=message.queue, reason=str(error))
