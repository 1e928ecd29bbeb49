"""A worker whose jobs wait for a key in Redis:  python -m tests.support.gated_worker [--die-at-message]

Celery, claims, slots and completion are those of the real worker; only the work of an attempt is left out.  It does not
listen for cancellations, as if each message were lost, so that it completes jobs that were canceled or purged.
"""

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import structlog
from celery import signals
from prometheus_client import CollectorRegistry

from shared.broker.app import consume, make_celery
from shared.broker.queues import JobQueue
from shared.jobs.inputs import InputMover
from shared.jobs.messages import queue_name
from shared.jobs.model import JobState, Priority
from shared.jobs.result import JobResult
from shared.jobs.store import open_job_store
from shared.logs import configure_logging
from shared.redis_client import RedisClient, connect
from shared.settings import read_settings
from shared.storage.bucket import open_bucket
from shared.store_health import open_store_health
from tests.support.jobs import MODEL
from tests.support.polling import wait_until
from tests.support.worker import ImmediateFollowUp
from worker.pipeline.completer import Completer
from worker.pipeline.isolation import Isolation
from worker.pipeline.job import JobRunner
from worker.pipeline.leases import Lease, LeaseKeeper
from worker.pipeline.publication import Publication
from worker.pipeline.slots import Slots
from worker.pipeline.store_watch import StoreWatch
from worker.pipeline.task import register
from worker.runtime.metrics import WorkerMetrics
from worker.settings import WorkerSettings

STARTED, GATE = "test:started:", "test:gate:"
log = structlog.get_logger()

# The request id of a job that lends its slot.
LENDING = "lending"
DEATH_EXIT_CODE = 9


@dataclass(frozen=True)
class GatedAttempts:
    """Attempts that end when the gate of their job is open."""

    client: RedisClient

    def segment(self, lease: Lease) -> Lease:
        request = lease.claim.request
        if request.request_id == LENDING:
            lease.lend_slot()
        self.client.set(STARTED + request.id, "")
        wait_until(lambda: self.client.exists(GATE + request.id), seconds=60)
        return lease

    def store(self, lease: Lease) -> JobResult:
        return JobResult(lease.claim.request, JobState.SUCCEEDED, lease.claim.attempt, lease.claim.attempt_name)


def main() -> int:
    """Serve until SIGTERM, with one slot for interactive jobs and one to lend beside the regular ones."""
    settings = read_settings(WorkerSettings)
    name = f"gated-{os.getpid()}"
    configure_logging(settings, process="worker", worker=name)
    signals.worker_shutting_down.connect(report_draining)
    app = make_celery(settings)
    slots = Slots(settings.worker_threads, 1, 1)
    with ExitStack() as stack:
        runner = build_runner(settings, slots, name, stack)
        register(app, die if "--die-at-message" in sys.argv else runner.run_jobs)
        consume(app, queues=[queue_name(MODEL, priority) for priority in Priority], slots=slots, name=name)
    return 0


def build_runner(settings: WorkerSettings, slots: Slots, name: str, stack: ExitStack) -> JobRunner:
    jobs = open_job_store(connect(settings), settings)
    leases = LeaseKeeper(jobs, lease_seconds=settings.lease_seconds)
    leases.start()
    bucket = open_bucket(settings)
    stack.callback(leases.stop)
    stores = StoreWatch(open_store_health(settings), slots)
    stores.start()
    stack.callback(stores.stop)
    inputs = InputMover(bucket, settings.input_ttl_seconds)
    publication = Publication(jobs, bucket, inputs, stores, settings.keep_result_seconds)
    return JobRunner(
        MODEL,
        jobs,
        JobQueue(connect(settings)),
        slots,
        leases,
        Isolation(jobs, slots, leases),
        GatedAttempts(connect(settings)),
        Completer(jobs, publication, stores, WorkerMetrics(CollectorRegistry())),
        stores,
        ImmediateFollowUp(),
        name,
        settings.keep_result_seconds,
    )


def report_draining(**_: Any) -> None:
    log.info("worker_draining")


def die(_: str) -> None:
    """End the process between a message and its claim."""
    os._exit(DEATH_EXIT_CODE)


if __name__ == "__main__":
    sys.exit(main())
