"""Cancellation of a tenant's job."""

from api.jobs.queries import TenantJobs
from shared.errors import AlreadyEnded, Canceled
from shared.jobs.completion import complete_job
from shared.jobs.model import Failure, Job, JobState
from shared.jobs.result import JobResult


def cancel_job(job_id: str, tenant_jobs: TenantJobs) -> Job:
    """Cancel a job that is not final; safe to repeat.

    Raises:
        UnknownJob: the tenant has no job of this id.
        AlreadyEnded: it is final, in another state.
    """
    job = tenant_jobs.get(job_id)
    if not job.state.is_final:
        canceled = JobResult(job.request, JobState.CANCELED, failure=Failure(Canceled.code, "The job was canceled."))
        complete_job(canceled, jobs=tenant_jobs.jobs, bucket=tenant_jobs.bucket)
        job = tenant_jobs.get(job_id)
    if job.state is not JobState.CANCELED:
        raise AlreadyEnded(f"The job has {job.state} already, so it cannot be canceled.", state=job.state)
    return job
