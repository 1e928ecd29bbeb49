"""Cancellation and purge of a tenant's jobs."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import structlog

from api.jobs.listing import JobFilter, TenantListing
from api.jobs.queries import TenantJobs
from shared.errors import AlreadyEnded, Canceled, Unavailable, UnknownJob
from shared.jobs.completion import complete_job
from shared.jobs.model import Failure, Job, JobState
from shared.jobs.purge import purge_job as delete_job
from shared.jobs.result import JobResult

log = structlog.get_logger()

# Each cancellation takes three calls to the object store.
CANCELING_THREADS = 8


def cancel_job(job_id: str, tenant_jobs: TenantJobs) -> Job:
    """Cancel a job that is not final; safe to repeat.

    Raises:
        UnknownJob: the tenant has no job of this id.
        AlreadyEnded: it is final, in another state.
    """
    job = tenant_jobs.get(job_id)
    if not job.state.is_final:
        canceled = JobResult(job.request, JobState.CANCELED, failure=Failure(Canceled.code, "The job was canceled."))
        if complete_job(canceled, jobs=tenant_jobs.jobs, bucket=tenant_jobs.bucket) == canceled:
            log.info("job_canceled", job_id=job.id)
        job = tenant_jobs.get(job.id)
    if job.state is not JobState.CANCELED:
        raise AlreadyEnded(f"The job has {job.state} already, so it cannot be canceled.", state=job.state)
    return job


@dataclass(frozen=True, slots=True)
class BulkCancellation:
    """What one call has done: jobs that it canceled, those that ended first, and the cursor of the next call."""

    canceled: int
    already_ended: int
    next_cursor: str | None


def cancel_jobs(
    wanted: JobFilter, listing: TenantListing, *, limit: int, cursor: str | None = None
) -> BulkCancellation:
    """Cancel up to `limit` jobs that match a filter and have not ended, newest first; safe to repeat.

    Each job is canceled by itself, as by cancel_job(): after an error the jobs so far are canceled, and no other.

    Raises:
        BadParameter: the cursor is not a job id.
        Unavailable: a store did not answer.
    """
    page = listing.list_unfinished(limit=limit, cursor=cursor, wanted=wanted)
    with ThreadPoolExecutor(CANCELING_THREADS, thread_name_prefix="canceling") as pool:
        outcomes = list(pool.map(partial(_is_canceled, tenant_jobs=listing.tenant_jobs), page.jobs))
    return BulkCancellation(outcomes.count(True), outcomes.count(False), page.next_cursor)


def _is_canceled(job: Job, tenant_jobs: TenantJobs) -> bool:
    try:
        cancel_job(job.id, tenant_jobs)
    except (AlreadyEnded, UnknownJob):
        # It ended, or was purged, since it was listed.
        return False
    return True


def purge_job(job_id: str, tenant_jobs: TenantJobs) -> None:
    """Delete a job, in any state, with its input, its results and its record; afterwards it is unknown.

    Raises:
        UnknownJob: the tenant has no job of this id, or it was purged already.
        Unavailable: a store did not answer.
    """
    job_id = tenant_jobs.get(job_id).id
    try:
        delete_job(job_id, jobs=tenant_jobs.jobs, bucket=tenant_jobs.bucket)
    except Unavailable as error:
        log.warning("job_purge_interrupted", job_id=job_id, reason=str(error))
        raise
    log.info("job_purged", job_id=job_id)
