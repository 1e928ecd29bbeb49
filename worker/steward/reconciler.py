"""Reconciles the job store with the leases and the broker: stalled and orphaned jobs are queued and enqueued again.

Each method may run at any time, twice at once, and be interrupted: the next run continues.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import structlog

from shared.broker.envelope import encode_message
from shared.broker.queues import JobQueue
from shared.errors import AttemptsExhausted, Unavailable, UnknownJob
from shared.jobs.completion import EndedInputs, complete_job, sync_job_store
from shared.jobs.outcomes import RequeueStalledOutcome
from shared.jobs.result import JobResult, failed_result
from shared.jobs.store import JobStore
from shared.jobs.survey import DelayedJob, JobSurvey
from shared.storage.bucket import Bucket
from worker.steward.metrics import StewardMetrics
from worker.steward.orphans import OrphanDetector
from worker.steward.outages import OutageGrace
from worker.steward.parallel import run_for_each
from worker.steward.stored_results import StoredResults

log = structlog.get_logger()


# A wave of lost messages is replaced in portions; each of them wakes a worker that then runs more than one job.
MAX_REPUBLISHED = 1000


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Methods that find work need no lease; those that do it get what was found."""

    jobs: JobStore
    survey: JobSurvey
    bucket: Bucket
    queue: JobQueue
    orphans: OrphanDetector
    metrics: StewardMetrics
    inputs: EndedInputs
    results: StoredResults
    grace: OutageGrace
    exhausted: SimpleQueue[str] = field(default_factory=SimpleQueue, init=False)

    def find_stalled(self) -> Sequence[str]:
        """Return the running jobs whose lease has expired; none while their workers may have to renew it yet.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        try:
            stalled = self.survey.find_stalled()
            return stalled.job_ids if self.grace.note_answer(stalled.now) else ()
        except Unavailable:
            self.grace.note_failure()
            raise

    def requeue_stalled(self, job_ids: Sequence[str]) -> None:
        """Requeue stalled jobs; complete those whose result is stored, and set those aside that have stalled too often.

        Without an answer from the bucket a job is requeued: its next worker looks for the result first.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        for job_id, result in self.results.read(job_ids).items():
            with log_unreadable(job_id):
                if result is not None:
                    self._sync(result)
                elif self._requeue(job_id) is RequeueStalledOutcome.EXHAUSTED:
                    # Its end needs the bucket, for which no other job waits.
                    self.exhausted.put(job_id)

    def find_exhausted(self) -> Sequence[str]:
        """Return the jobs that were set aside since the last call."""
        found: dict[str, None] = {}
        while True:
            try:
                found[self.exhausted.get_nowait()] = None
            except Empty:
                return list(found)

    def fail_exhausted(self, job_ids: Sequence[str]) -> None:
        """Fail jobs that have used all their attempts; one that is not failed now is found stalled again.

        Raises:
            Unavailable: a store did not answer.
        """
        run_for_each(self._dead_letter, job_ids)

    def requeue_delayed(self, delayed: Sequence[DelayedJob]) -> None:
        """Requeue released jobs.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        for one in delayed:
            self.jobs.attempts.requeue_delayed(one.job_id, one.queue, message=encode_message(one.queue))

    def find_orphaned(self) -> Mapping[str, int]:
        """Return how many messages of each queue were lost, without the queues that lost none.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        lost = {
            name: self.orphans.observe(name, self.queue.missing_count(name), now=time.monotonic())
            for name in self.jobs.queues.list_names()
        }
        return {name: count for name, count in lost.items() if count}

    def republish_orphaned(self, orphaned: Mapping[str, int]) -> None:
        """Enqueue as many messages for each queue as were lost, unless another steward did so meanwhile.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        for name, count in orphaned.items():
            lost = min(count, self.queue.missing_count(name))
            if lost:
                self.queue.publish(name, min(lost, MAX_REPUBLISHED))
                log.info("jobs_republished", reason="orphaned", queue=name, jobs=lost)
                self.metrics.jobs_reconciled("orphaned", lost)

    def _sync(self, result: JobResult) -> None:
        """Complete a job whose worker was lost after it had stored the result, and before the job store knew."""
        sync_job_store(result, jobs=self.jobs, inputs=None)
        self._record("job_synced", "synced", result.request.id)

    def _requeue(self, job_id: str) -> RequeueStalledOutcome:
        # Without a record the script only removes the lease.
        queue = self.jobs.get_queue(job_id)
        outcome = self.jobs.attempts.requeue_stalled(job_id, message=encode_message(queue) if queue else "")
        if outcome is RequeueStalledOutcome.QUEUED:
            self._record("job_requeued", "stalled", job_id)
        return outcome

    def _dead_letter(self, job_id: str) -> None:
        """Fail a job that has used all its attempts, unless it is not stalled any more: its worker was frozen."""
        if self._requeue(job_id) is not RequeueStalledOutcome.EXHAUSTED:
            return
        # It may have been purged meanwhile.
        with log_unreadable(job_id), suppress(UnknownJob):
            job = self.jobs.get(job_id)
            reason = AttemptsExhausted(f"The job was given up after {job.stalls + 1} workers were lost with it.")
            result = failed_result(job.request, reason, attempt=job.attempt, attempt_name=job.attempt_name)
            complete_job(result, jobs=self.jobs, bucket=self.bucket, inputs=self.inputs)
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
