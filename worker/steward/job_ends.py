"""How jobs have ended: from the job store, and from the bucket if Redis does not know the job any more."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import UnknownJob
from shared.jobs.completion import read_result
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a job; started_at is None if no worker ran it, or Redis has lost it."""

    request: JobRequest
    state: JobState
    attempt: int
    failure: Failure | None
    started_at: float | None
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JobEnds:
    jobs: JobStore
    bucket: Bucket

    def read(self, job_id: str) -> JobEnd | None:
        """Return the end of a job; None if it was purged, or has not ended.

        Raises:
            Unavailable: a store did not answer.
            ValueError: this version cannot read the job.
        """
        try:
            job = self.jobs.get(job_id)
        except UnknownJob:
            return None if self.jobs.is_purged(job_id) else self._read_result(job_id)
        if not job.state.is_final:
            return self._read_result(job_id)
        return JobEnd(job.request, job.state, job.attempt, job.failure, job.started_at, job.timings_ms)

    def _read_result(self, job_id: str) -> JobEnd | None:
        result = read_result(job_id, bucket=self.bucket)
        if result is None:
            return None
        return JobEnd(result.request, result.state, result.attempt, result.failure, None, result.timings_ms)
