"""The end of an attempt: complete the job, or release it for another attempt."""

from dataclasses import dataclass

import structlog

from shared.errors import DeadlineExceeded, ModelNotReady, Unavailable
from shared.jobs.completion import InputDeleter, complete_in_store, complete_job
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.result import JobResult, failed_result
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket
from worker.batching.remote import JobObserver

log = structlog.get_logger()

# A job whose worker found a store unavailable is not claimed again before this time.
RETRY_DELAY_SECONDS = 2.0


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
                self._release(request, result.attempt, f"result not stored: {error}")
                return
            complete_in_store(result, jobs=self.jobs)
            final = result
        self._record(result, final)

    def expire(self, request: JobRequest, *, attempt: int = 0) -> None:
        """Complete a job whose deadline passed before it reached a device."""
        failure = Failure(DeadlineExceeded.code, "There was no result before the deadline.")
        self.complete(JobResult(request, JobState.EXPIRED, attempt, failure=failure))

    def release(self, request: JobRequest, attempt: int, error: Unavailable) -> None:
        """Return a job to its queue because a store is unavailable; one whose input is not durable is failed."""
        if isinstance(error, ModelNotReady):
            self._abandon(request, attempt, error)
        elif request.input.is_durable:
            self._release(request, attempt, str(error))
        else:
            self.complete(failed_result(request, error, attempt=attempt))

    def drop(self, job_id: str, reason: str) -> None:
        """Record that an attempt had no effect."""
        log.info("job_dropped", job_id=job_id, reason=reason)
        self.observer.job_dropped(reason)

    def _abandon(self, request: JobRequest, attempt: int, error: ModelNotReady) -> None:
        """Leave a job to another worker.  It counts as a stall: its image may be what ended the engine process."""
        log.warning("job_abandoned", job_id=request.id, attempt=attempt, reason=str(error))
        self.jobs.abandon(request.id, attempt)

    def _release(self, request: JobRequest, attempt: int, reason: str) -> None:
        log.warning("job_released", job_id=request.id, attempt=attempt, reason=reason)
        self.jobs.postpone(request.id, attempt, seconds=RETRY_DELAY_SECONDS)

    def _record(self, result: JobResult, final: JobResult) -> None:
        """Log and count the end of an attempt; `final` is the result that counts."""
        code = final.failure.code if final.failure else ""
        is_own = final == result
        log.info(
            "job_completed" if is_own else "job_completed_elsewhere",
            state=final.state,
            job_id=result.request.id,
            attempt=result.attempt,
            segments=len(final.segments),
            error_type=code or None,
            **{f"{stage}_ms": elapsed for stage, elapsed in result.timings_ms.items()},
        )
        if is_own:
            self.observer.job_completed(result.request.priority, final.state, code, dict(result.timings_ms))
        else:
            self.observer.job_dropped("completed_elsewhere")
