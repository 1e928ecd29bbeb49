"""The end of an attempt: complete the job, or release it for another attempt."""

import random
from dataclasses import dataclass

import structlog

from shared.errors import DeadlineExceeded, MaskmillError, ModelNotReady, Unavailable
from shared.jobs.completion import InputDeleter, complete_in_store, complete_job
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.result import JobResult, failed_result
from shared.jobs.store import Claim, JobStore
from shared.storage.bucket import Bucket
from worker.batching.remote import JobObserver

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Completer:
    jobs: JobStore
    bucket: Bucket
    inputs: InputDeleter
    observer: JobObserver

    def complete(self, result: JobResult) -> None:
        """Complete a job.

        While the bucket is unavailable, a job with a durable input is released; any other one is completed in the job
        store alone: its caller has the reply already, or gets the failure.
        """
        request = result.request
        try:
            final = complete_job(result, jobs=self.jobs, bucket=self.bucket, inputs=self.inputs)
        except Unavailable as error:
            if request.input.is_durable:
                self._release(request, result.attempt_name, f"result not stored: {error}")
                return
            complete_in_store(result, jobs=self.jobs)
            final = result
        self._record(result, final)

    def expire(self, claim: Claim) -> None:
        """Complete a job whose deadline passed before it reached a device."""
        failure = Failure(DeadlineExceeded.code, "There was no result before the deadline.")
        self.complete(JobResult(claim.request, JobState.EXPIRED, claim.attempt, claim.attempt_name, failure=failure))

    def release(self, claim: Claim, error: Unavailable) -> None:
        """Return a job to its queue because a store is unavailable; one whose input is not durable is failed."""
        if isinstance(error, ModelNotReady):
            self._abandon(claim, error)
        elif claim.request.input.is_durable:
            self._release(claim.request, claim.attempt_name, str(error))
        else:
            self.fail(claim, error)

    def fail(self, claim: Claim, error: MaskmillError) -> None:
        """Complete a job that an error ended."""
        self.complete(failed_result(claim.request, error, attempt=claim.attempt, attempt_name=claim.attempt_name))

    def drop(self, job_id: str, reason: str) -> None:
        """Record that an attempt had no effect."""
        log.info("job_dropped", job_id=job_id, reason=reason)
        self.observer.job_dropped(reason)

    def _abandon(self, claim: Claim, error: ModelNotReady) -> None:
        """Leave a job to another worker.  It counts as a stall: its image may be what ended the engine process."""
        log.warning("job_abandoned", job_id=claim.request.id, attempt=claim.attempt_name, reason=str(error))
        self.jobs.abandon(claim.request.id, claim.attempt_name)

    def _release(self, request: JobRequest, attempt_name: str, reason: str) -> None:
        log.warning("job_released", job_id=request.id, attempt=attempt_name, reason=reason)
        self.jobs.postpone(request.id, attempt_name, jitter=random.random(), is_counted=False)  # noqa: S311

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
