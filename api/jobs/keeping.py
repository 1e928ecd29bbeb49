"""Longer retention of a tenant's job."""

import structlog

from api.jobs.ends import build_gone
from api.jobs.queries import TenantJobs
from shared.errors import BadParameter, NotFinished
from shared.jobs.keeping import JobKeeper
from shared.jobs.model import Job
from shared.storage.bucket import NoSuchObject
from shared.storage.keys import result_key

log = structlog.get_logger()


def keep_job(job_id: str, seconds: float, tenant_jobs: TenantJobs, keeper: JobKeeper, *, max_seconds: int) -> Job:
    """Keep a job that has ended, with its result, files and image, for so long from now; never for less than before.

    Raises:
        BadParameter: that is in the past, or longer than a job may be kept.
        UnknownJob: the tenant has no job of this id.
        NotFinished: it has not ended.
        Gone: its result is not stored any more.
        Unavailable: a store did not answer.
    """
    if not 0 < seconds <= max_seconds:
        raise BadParameter(f"A job is kept for {max_seconds} seconds from now at most, and not into the past.")
    job = tenant_jobs.get(job_id)
    if not job.state.is_final:
        raise NotFinished(f"The job is {job.state}; keep it once it has ended.", state=job.state)
    try:
        tenant_jobs.bucket.get_metadata(result_key(job.id))
    except NoSuchObject:
        raise build_gone(f"The result of job {job.id} is not stored any more.", job) from None
    if not keeper.keep(job.id, seconds=max(1, round(seconds))):
        raise build_gone(f"The result of job {job.id} is being deleted just now; it was kept long enough.", job)
    log.info("job_kept", job_id=job.id, seconds=round(seconds))
    return tenant_jobs.get(job.id)
