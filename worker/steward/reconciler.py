"""Reconciles the job store with the leases and the broker: stalled and orphaned jobs are queued and enqueued again.

Each method may run at any time, twice at once, and be interrupted: the next run continues.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from shared.broker.envelope import encode_message
from shared.broker.queues import JobQueue
from shared.errors import AttemptsExhausted
from shared.jobs.completion import complete_job, read_result, sync_job_store
from shared.jobs.outcomes import RequeueStalledOutcome
from shared.jobs.result import failed_result
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket
from worker.steward.metrics import StewardMetrics
from worker.steward.orphans import OrphanDetector

log = structlog.get_logger()


# A wave of lost messages is replaced in portions; each of them wakes a worker that then runs more than one job.
MAX_REPUBLISHED = 1000


@dataclass(frozen=True, slots=True)
class Reconciler:
    jobs: JobStore
    bucket: Bucket
    queue: JobQueue
    orphans: OrphanDetector
    metrics: StewardMetrics

    def requeue_stalled(self) -> None:
        """Requeue the running jobs whose lease has expired, or fail those that have stalled too often.

        Raises:
            Unavailable: a store did not answer.
        """
        for job_id in self.jobs.find_stalled():
            with log_unreadable(job_id):
                self._requeue(job_id)

    def requeue_delayed(self) -> None:
        """Requeue the released jobs whose delay is over.

        Raises:
            Unavailable: Redis did not answer.
        """
        for name in self.jobs.list_queues():
            for job_id in self.jobs.find_due(name):
                self.jobs.requeue_delayed(job_id, name, message=encode_message(name))

    def republish_orphaned(self) -> None:
        """Enqueue as many messages for each queue as were lost.

        Raises:
            Unavailable: Redis did not answer.
        """
        for name in self.jobs.list_queues():
            lost = self.orphans.observe(name, self.queue.missing_count(name), now=time.monotonic())
            if lost:
                self.queue.publish(name, min(lost, MAX_REPUBLISHED))
                log.info("jobs_republished", reason="orphaned", queue=name, jobs=lost)
                self.metrics.jobs_reconciled("orphaned", lost)

    def _requeue(self, job_id: str) -> None:
        result = read_result(job_id, bucket=self.bucket)
        if result is not None:
            # Its worker was lost after it had stored the result, and before the job store knew.
            sync_job_store(result, jobs=self.jobs, inputs=self.bucket)
            self._record("job_synced", "synced", job_id)
            return
        # Without a record the script only removes the lease.
        queue = self.jobs.get_queue(job_id)
        outcome = self.jobs.requeue_stalled(job_id, message=encode_message(queue) if queue else "")
        if outcome is RequeueStalledOutcome.QUEUED:
            self._record("job_requeued", "stalled", job_id)
        elif outcome is RequeueStalledOutcome.EXHAUSTED:
            self._dead_letter(job_id)

    def _dead_letter(self, job_id: str) -> None:
        """Fail a job that has used all its attempts."""
        job = self.jobs.get(job_id)
        reason = AttemptsExhausted(f"The job was given up after {job.stalls + 1} workers were lost with it.")
        result = failed_result(job.request, reason, attempt=job.attempt, attempt_name=job.attempt_name)
        complete_job(result, jobs=self.jobs, bucket=self.bucket)
        self._record("job_dead_lettered", "exhausted", job_id, last_worker=job.worker)

    def _record(self, event: str, reason: str, job_id: str, **fields: str | None) -> None:
        log.info(event, reason=reason, job_id=job_id, **fields)
        self.metrics.jobs_reconciled(reason)


@contextmanager
def log_unreadable(job_id: str) -> Iterator[None]:
    """Log a record or a result that this version cannot read, so that it does not hold up the jobs after it.

    A newer gateway may have written it; a steward of that version will read it.
    """
    try:
        yield
    except ValueError as error:
        log.error("job_unreadable", job_id=job_id, reason=str(error))
