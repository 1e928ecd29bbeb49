"""Cancellation and purge of a tenant's job."""

import structlog

from api.jobs.queries import TenantJobs
from shared.errors import AlreadyEnded, Canceled, Unavailable
from shared.jobs.completion import complete_job
from shared.jobs.model import Failure, Job, JobState
from shared.jobs.purge import purge_job as delete_job
from shared.jobs.result import JobResult

log = structlog.get_logger()


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
