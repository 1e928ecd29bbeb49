"""Reconciles the job store with the leases and the broker: stalled and orphaned jobs are queued and enqueued again.

Each method may run at any time, twice at once, and be interrupted: the next run continues.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from shared.broker.queues import JobQueue
from shared.errors import AttemptsExhausted, DeadlineExceeded, UnknownJob
from shared.jobs.completion import complete_job, read_result, sync_job_store
from shared.jobs.model import Failure, JobState
from shared.jobs.outcomes import RequeueStalledOutcome
from shared.jobs.result import JobResult, failed_result
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket
from worker.steward.metrics import StewardMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reconciler:
    """orphaned_after_seconds: a job that is queued for this long without a message is orphaned."""

    jobs: JobStore
    bucket: Bucket
    queue: JobQueue
    metrics: StewardMetrics
    orphaned_after_seconds: float

    def requeue_stalled(self) -> None:
        """Requeue the running jobs whose lease has expired, or fail those that have stalled too often.

        Raises:
            Unavailable: a store did not answer.
        """
        for job_id in self.jobs.find_stalled():
            with log_unreadable(job_id):
                self._requeue(job_id)

    def republish_orphaned(self) -> None:
        """Enqueue a new message for each queued job whose message is lost.

        Raises:
            Unavailable: a store did not answer.
        """
        for name in self.jobs.list_queues():
            waiting = self.queue.waiting_count(name)
            orphaned = self.jobs.find_orphaned(
                name, grace_seconds=self.orphaned_after_seconds, waiting_messages=waiting
            )
            for job_id in orphaned:
                with log_unreadable(job_id):
                    self._republish(job_id)

    def _requeue(self, job_id: str) -> None:
        result = read_result(job_id, bucket=self.bucket)
        if result is not None:
            # Its worker was lost after it had stored the result, and before the job store knew.
            sync_job_store(result, jobs=self.jobs, bucket=self.bucket)
            self._record("job_synced", "synced", job_id)
            return
        outcome = self.jobs.requeue_stalled(job_id)
        if outcome is RequeueStalledOutcome.QUEUED:
            self.queue.publish(self.jobs.get(job_id).request)
            self._record("job_requeued", "stalled", job_id)
        elif outcome is RequeueStalledOutcome.EXHAUSTED:
            self._dead_letter(job_id)

    def _dead_letter(self, job_id: str) -> None:
        """Fail a job that has used all its attempts."""
        job = self.jobs.get(job_id)
        reason = AttemptsExhausted(
            f"The job was given up after {job.stalls + 1} workers were lost with it; the last was {job.worker}."
        )
        complete_job(failed_result(job.request, reason, attempt=job.attempt), jobs=self.jobs, bucket=self.bucket)
        self._record("job_dead_lettered", "exhausted", job_id)

    def _republish(self, job_id: str) -> None:
        try:
            request = self.jobs.get(job_id).request
        except UnknownJob:
            return
        if request.deadline_at is not None and request.deadline_at < time.time():
            failure = Failure(DeadlineExceeded.code, "There was no result before the deadline.")
            complete_job(JobResult(request, JobState.EXPIRED, failure=failure), jobs=self.jobs, bucket=self.bucket)
            self._record("job_expired", "deadline_exceeded", job_id)
            return
        self.queue.publish(request)
        self._record("job_republished", "orphaned", job_id)

    def _record(self, event: str, reason: str, job_id: str) -> None:
        log.info(event, reason=reason, job_id=job_id)
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
