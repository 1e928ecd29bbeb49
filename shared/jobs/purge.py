"""Purge: delete a job with all that is stored of it, at once, in any state.

A worker that runs the job may store files, and even a result, for a while after its lease is lost.  So an object of its
own remembers the purge first, and the steward repeats the deletion until nothing can be written any more.  It outlives
the loss of Redis, and of the process that purges.
"""

import structlog

from shared.errors import Unavailable
from shared.jobs.request_record import list_inbox_keys
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket
from shared.storage.keys import (
    dead_letter_key,
    input_key,
    kept_prefix,
    purged_key,
    recuts_prefix,
    results_prefix,
)

log = structlog.get_logger()


def purge_job(job_id: str, *, jobs: JobStore, bucket: Bucket) -> None:
    """Purge a job; safe to repeat.

    Raises:
        Unavailable: the bucket or Redis did not answer; then the steward completes what has begun.
    """
    bucket.put(purged_key(job_id), b"", content_type="application/octet-stream")
    try:
        delete_remains(job_id, jobs=jobs, bucket=bucket)
    except Unavailable as error:
        if not jobs.is_purged(job_id):
            raise
        # The job is not shown any more, and the steward deletes its objects.
        log.warning("purge_continued_by_steward", job_id=job_id, reason=str(error))


def delete_remains(job_id: str, *, jobs: JobStore, bucket: Bucket) -> int:
    """Delete everything stored of a purged job; return how many objects its attempts had left.

    Redis comes first: without its record a job is not claimed or recovered, and its worker soon loses the lease.

    Raises:
        Unavailable: the bucket or Redis did not answer.
    """
    jobs.purge(job_id)
    prefixes = results_prefix(job_id), recuts_prefix(job_id)
    found = [entry.key for prefix in prefixes for entry in bucket.list_objects(prefix)]
    kept = [entry.key for entry in bucket.list_objects(kept_prefix(job_id))]
    bucket.delete([*list_inbox_keys(job_id), input_key(job_id), dead_letter_key(job_id), *kept, *found])
    return len(found)
