"""A worker that only claims and completes jobs in the job store:  python -m tests.bench.transport_worker"""

import os
import sys

from shared.broker.app import consume, make_celery
from shared.jobs.completion import complete_in_store
from shared.jobs.messages import SEGMENT_TASK, SegmentMessage, queue_name
from shared.jobs.model import JobState, Priority
from shared.jobs.result import JobResult
from shared.jobs.store import Claim, open_job_store
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import read_settings
from tests.support.jobs import MODEL
from worker.settings import WorkerSettings


def main() -> int:
    """Serve until SIGTERM."""
    settings = read_settings(WorkerSettings)
    name = f"transport-{os.getpid()}"
    configure_logging(settings, process="worker", worker=name)
    jobs = open_job_store(connect(settings), settings)
    app = make_celery(settings)

    @app.task(name=SEGMENT_TASK)  # type: ignore[untyped-decorator]
    def claim_and_complete(wire: dict[str, str]) -> None:
        claim = jobs.claim(SegmentMessage.from_wire(wire).job_id, worker=name)
        if isinstance(claim, Claim):
            complete_in_store(JobResult(claim.request, JobState.SUCCEEDED, claim.attempt), jobs=jobs)

    queues = [queue_name(MODEL, priority) for priority in Priority]
    consume(app, queues=queues, threads=settings.worker_threads, name=name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
