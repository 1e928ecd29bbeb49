"""How every job ends: the bucket decides, and the job store follows.

`result.json` is put on condition that there is none, so of all who would end a job (its worker, a late duplicate, the
steward, somebody who cancels it) the first wins, and the end is known even if Redis forgets.
"""

from contextlib import suppress

from shared.errors import MaskmillError, Unavailable
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.result import JobResult
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import inbox_key, result_key


def complete_job(result: JobResult, *, jobs: JobStore, bucket: Bucket) -> JobResult:
    """End a job, unless it has ended already.

    Safe to call twice, from anywhere: when the bucket holds another end, that one is brought to the job store.

    Returns:
        The end that holds: `result`, or the one that came first.

    Raises:
        Unavailable: the bucket or Redis did not answer; call again, or leave it to the steward.
    """
    key = result_key(result.request.id)
    stored = bucket.put_first(key, result.to_json(), content_type="application/json")
    holds = result if stored else JobResult.from_json(bucket.get(key))
    sync_job_store(holds, jobs=jobs, bucket=bucket)
    return holds


def sync_job_store(end: JobResult, *, jobs: JobStore, bucket: Bucket) -> None:
    """Bring an end that stands in the bucket to the job store, and drop the input that is needed no more."""
    jobs.finish(end.request, end.state, failure=end.failure, timings_ms=end.timings_ms)
    # The input goes last: as long as it is there, the steward can find a job whose end Redis has not heard of.
    with suppress(Unavailable):
        bucket.delete([inbox_key(end.request.id)])


def complete_in_store(end: JobResult, *, jobs: JobStore) -> None:
    """End an interactive job while the bucket is away: its caller has had the reply, or will hear of the failure."""
    jobs.finish(end.request, end.state, failure=end.failure, timings_ms=end.timings_ms)


def read_result(job_id: str, *, bucket: Bucket) -> JobResult | None:
    """Return how a job ended, or None if it has not."""
    try:
        return JobResult.from_json(bucket.get(result_key(job_id)))
    except NoSuchObject:
        return None


def failed(request: JobRequest, error: MaskmillError, *, attempt: int = 0) -> JobResult:
    """Return the end of a job that an error brought about."""
    return JobResult(request, JobState.FAILED, attempt, failure=Failure(error.code, str(error)))
