"""A worker that claims each job and ends it in the job store:  python -m tests.bench.transport_worker"""

import os
import sys

from shared.broker import consume, make_celery
from shared.endings import end_in_store
from shared.job_store import JobStore
from shared.jobs import JobState, Lane
from shared.logs import configure_logging
from shared.messages import SEGMENT_TASK, SegmentMessage, queue_name
from shared.redis_client import connect
from shared.results import JobResult
from shared.settings import read_settings
from tests.jobs import MODEL
from worker.settings import WorkerSettings


def main() -> int:
    """Serve until SIGTERM."""
    settings = read_settings(WorkerSettings)
    name = f"transport-{os.getpid()}"
    configure_logging(settings, process="worker", worker=name)
    jobs = JobStore(
        connect(settings),
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        result_ttl_seconds=settings.result_ttl_seconds,
    )
    app = make_celery(settings)

    @app.task(name=SEGMENT_TASK)  # type: ignore[untyped-decorator]
    def claim_and_end(wire: dict[str, str]) -> None:
        claim = jobs.claim(SegmentMessage.from_wire(wire).job_id, worker=name)
        if not isinstance(claim, str):
            end_in_store(JobResult(claim.request, JobState.SUCCEEDED, claim.attempt), jobs=jobs)

    queues = [queue_name(MODEL, lane) for lane in Lane]
    consume(app, queues=queues, threads=settings.worker_threads, name=name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
