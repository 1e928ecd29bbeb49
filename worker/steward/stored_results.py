"""Results of many jobs, read at once and for a bounded time, so that a slow object store holds up no other job."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import structlog

from shared.errors import Unavailable
from shared.jobs.completion import read_result
from shared.jobs.result import JobResult
from shared.storage.bucket import Bucket

log = structlog.get_logger()

THREADS = 8
# Of one look at any number of jobs; the object store answers each in a few milliseconds.
MAX_SECONDS = 1.0


class StoredResults:
    def __init__(self, bucket: Bucket, *, seconds: float = MAX_SECONDS) -> None:
        self._bucket = bucket
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="results")

    def read(self, job_ids: Sequence[str]) -> Mapping[str, JobResult | None]:
        """Return the results of jobs, None for one that has none.

        A job is left out if this version cannot read its result.  One is None as well if the object store did not
        answer in time: its next worker looks for the result before it runs the job.
        """
        reads = {job_id: self._threads.submit(read_result, job_id, bucket=self._bucket) for job_id in job_ids}
        wait(reads.values(), timeout=self._seconds)
        return {job_id: _get(read) for job_id, read in reads.items() if not _is_unreadable(job_id, read)}


def _get(read: Future[JobResult | None]) -> JobResult | None:
    if read.cancel() or not read.done() or read.cancelled() or read.exception() is not None:
        return None
    return read.result()


def _is_unreadable(job_id: str, read: Future[JobResult | None]) -> bool:
    """Tell whether a newer version wrote the result; a steward of that version will read it."""
    if not read.done() or read.cancelled():
        return False
    error = read.exception()
    if error is None or isinstance(error, Unavailable):
        return False
    log.error("job_unreadable", job_id=job_id, reason=str(error))
    return True
