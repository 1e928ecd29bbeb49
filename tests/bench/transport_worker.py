"""A worker that only claims and completes jobs in the job store:  python -m tests.bench.transport_worker"""

import os
import sys

from shared.broker.app import consume, make_celery
from shared.broker.envelope import encode_message
from shared.jobs.completion import complete_in_store
from shared.jobs.messages import SEGMENT_TASK, SegmentMessage, queue_name
from shared.jobs.model import JobState, Priority
from shared.jobs.result import JobResult
from shared.jobs.store import Claim, JobStore, TakenMessage, open_job_store
from shared.logs import configure_logging
from shared.redis_client import connect
from shared.settings import read_settings
from tests.support.jobs import MODEL
from worker.pipeline.slots import Slots
from worker.settings import WorkerSettings

THREADS = 2


def main() -> int:
    """Serve until SIGTERM."""
    settings = read_settings(WorkerSettings)
    name = f"transport-{os.getpid()}"
    configure_logging(settings, process="worker", worker=name)
    jobs = open_job_store(connect(settings), settings)
    slots = Slots(settings.worker_threads or THREADS, 0, 0)
    app = make_celery(settings)

    @app.task(name=SEGMENT_TASK)  # type: ignore[untyped-decorator]
    def claim_and_complete(wire: dict[str, str]) -> None:
        with slots.occupy() as slot:
            if slot is not None:
                complete_all(jobs, SegmentMessage.from_wire(wire).queue, name)

    queues = [queue_name(MODEL, priority) for priority in Priority]
    consume(app, queues=queues, slots=slots, name=name)
    return 0


def complete_all(jobs: JobStore, queue: str, worker: str) -> None:
    """Claim and complete jobs, from the message of a queue on, until none is left."""
    message: TakenMessage | None = TakenMessage(queue, encode_message(queue))
    while isinstance(claim := jobs.attempts.claim(MODEL, worker=worker, message=message), Claim):
        complete_in_store(JobResult(claim.request, JobState.SUCCEEDED, claim.attempt, claim.attempt_name), jobs=jobs)
        message = None


if __name__ == "__main__":
    sys.exit(main())
