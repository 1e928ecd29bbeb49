"""The end of an attempt: complete the job, or release it for another attempt."""

import random
from dataclasses import dataclass
from typing import Protocol

import structlog

from shared.errors import AttemptsExhausted, EngineLost, MaskmillError, ModelNotReady, Unavailable, UrlsBusy
from shared.jobs.deadlines import build_expired
from shared.jobs.model import JobRequest
from shared.jobs.outcomes import ReleaseOutcome
from shared.jobs.result import JobResult, failed_result
from shared.jobs.store import JobStore
from worker.batching.remote import JobObserver
from worker.pipeline.leases import Lease, give_back_job
from worker.pipeline.publication import Publication

log = structlog.get_logger()

# A part of what a slow server takes: many jobs of such servers are not claimed and given back all the time.
URLS_BUSY_SECONDS = 10.0


class Stores(Protocol):
    """Tells whether both stores take the end of a job; implemented by worker.pipeline.store_watch.StoreWatch."""

    def can_end_jobs(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Completer:
    jobs: JobStore
    publication: Publication
    stores: Stores
    observer: JobObserver

    def complete(self, lease: Lease, result: JobResult) -> None:
        """Complete a job.

        While the bucket is unavailable for long, a job with a durable input is released; any other one is completed in
        the job store alone: its caller has the reply already, or gets the failure.  Without its lease an attempt ends
        nothing.
        """
        if not lease.is_held:
            self.drop(result.request.id, "lease_lost")
            return
        try:
            final = self.publication.store_result(lease, result)
        except Unavailable as error:
            if result.request.input.is_durable:
                self._release_unstored(lease, result, error)
                return
            final = result
        self.publication.record(final)
        self._record(result, final)

    def expire(self, lease: Lease, stage: str) -> None:
        """Complete a job whose deadline has passed; `stage` is the one that it had reached."""
        claim = lease.claim
        expired = build_expired(claim.request, stage, attempt=claim.attempt, attempt_name=claim.attempt_name)
        self.complete(lease, expired)

    def release(self, lease: Lease, error: Unavailable) -> None:
        """Return a job to its queue because something is unavailable.

        One whose input is not durable is failed, unless the engine process has ended: another worker has one.
        """
        if isinstance(error, EngineLost):
            self._abandon(lease, error)
        elif isinstance(error, ModelNotReady):
            give_back_job(self.jobs, lease.claim, str(error))
        elif isinstance(error, UrlsBusy):
            self._postpone(lease, error, is_counted=False, seconds=URLS_BUSY_SECONDS)
        elif lease.claim.request.input.is_durable:
            self._release(lease, error)
        else:
            self.fail(lease, error)

    def fail(self, lease: Lease, error: MaskmillError) -> None:
        """Complete a job that an error ended."""
        claim = lease.claim
        self.complete(
            lease, failed_result(claim.request, error, attempt=claim.attempt, attempt_name=claim.attempt_name)
        )

    def sync(self, request: JobRequest) -> bool:
        """Complete a job in the job store if its result is stored already; return whether it is.

        Raises:
            StorageUnavailable: the bucket did not answer.
        """
        # A synchronous job goes on without the bucket.
        result = self.publication.find_result(request.id) if request.input.is_durable else None
        if result is None:
            return False
        self.publication.record(result)
        self.drop(request.id, "completed_before")
        return True

    def drop(self, job_id: str, reason: str) -> None:
        """Record that an attempt had no effect."""
        log.info("job_dropped", job_id=job_id, reason=reason)
        self.observer.job_dropped(reason)

    def _abandon(self, lease: Lease, error: EngineLost) -> None:
        """Leave a job to another worker.  It counts as a stall: its image may be what ended the engine process."""
        claim = lease.claim
        # First: a renewal would have the job wait for another lease.
        lease.lose()
        log.warning("job_abandoned", job_id=claim.request.id, attempt=claim.attempt_name, reason=str(error))
        self.jobs.attempts.abandon(claim.request.id, claim.attempt_name)

    def _release(self, lease: Lease, error: Unavailable) -> None:
        """Return a job to its queue for later; it counts while both stores take the ends of jobs, up to a bound."""
        if not lease.is_held:
            self.drop(lease.claim.request.id, "lease_lost")
        elif self._postpone(lease, error, is_counted=self.stores.can_end_jobs()) is ReleaseOutcome.EXHAUSTED:
            self.fail(lease, AttemptsExhausted(f"The job was given back too often; the last time, because: {error}"))

    def _release_unstored(self, lease: Lease, result: JobResult, error: Unavailable) -> None:
        if result.failure and result.failure.code == AttemptsExhausted.code:
            self._postpone(lease, error, is_counted=False)
        else:
            self._release(lease, error)

    def _postpone(
        self, lease: Lease, error: Unavailable, *, is_counted: bool, seconds: float | None = None
    ) -> ReleaseOutcome:
        claim = lease.claim
        outcome = self.jobs.attempts.postpone(
            claim.request.id,
            claim.attempt_name,
            jitter=random.random(),  # noqa: S311
            is_counted=is_counted,
            seconds=seconds,
        )
        log.warning(
            "job_released",
            job_id=claim.request.id,
            attempt=claim.attempt_name,
            outcome=outcome,
            is_counted=is_counted,
            reason=str(error),
        )
        return outcome

    def _record(self, result: JobResult, final: JobResult) -> None:
        """Log and count the end of an attempt; `final` is the result that counts."""
        code = final.failure.code if final.failure else ""
        is_own = final == result
        log.info(
            "job_completed" if is_own else "job_completed_elsewhere",
            state=final.state,
            job_id=result.request.id,
            attempt=result.attempt_name,
            segments=len(final.segments),
            error_type=code or None,
            **{f"{stage}_ms": elapsed for stage, elapsed in result.timings_ms.items()},
        )
        if is_own:
            self.observer.job_completed(result.request.priority, final.state, code, dict(result.timings_ms))
        else:
            self.observer.job_dropped("completed_elsewhere")
