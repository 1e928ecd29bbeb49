"""Finding jobs again: where they stand, what came of them, and ending them early.  No Flask here.

Redis knows where a job stands; the bucket knows how it ended, and what is still to be done, even if Redis forgets.
A job of another tenant is answered like one that does not exist.
"""

from collections.abc import Sequence

from api.services import Services
from shared.errors import (
    AlreadyEnded,
    BadParameter,
    Canceled,
    DeadlineExceeded,
    MaskmillError,
    NotFinished,
    UnknownJob,
    UnknownMask,
    build_error,
)
from shared.formats.huggingface import hf_array
from shared.jobs.completion import complete_job, read_result
from shared.jobs.ids import is_job_id
from shared.jobs.model import Failure, Job, JobRequest, JobState
from shared.jobs.result import JobResult
from shared.storage.bucket import NoSuchObject
from shared.storage.keys import inbox_key, object_key

FILTERED_PAGE = 200
# So that one request for a rare state does not walk through a list of millions.
MOST_PAGES = 5


def find_job(job_id: str, tenant: str, services: Services) -> Job:
    """Return a job as it stands.

    Raises:
        UnknownJob: there is none of this id that is this tenant's.
    """
    if not is_job_id(job_id):
        raise _unknown(job_id)
    try:
        job = services.jobs.get(job_id)
    except UnknownJob:
        job = _remembered(job_id, services)
    return _owned(job, tenant)


def wait_for_end(job_id: str, tenant: str, services: Services, *, seconds: float) -> Job:
    """Return a job when it has ended, or as it stands when the time is over.

    Raises:
        UnknownJob: there is none of this id that is this tenant's.
    """

    def look() -> Job | None:
        job = find_job(job_id, tenant, services)
        return job if job.state.is_final else None

    job = find_job(job_id, tenant, services)
    if job.state.is_final or seconds <= 0:
        return job
    seconds = min(seconds, services.limits.max_waiting_seconds)
    return services.events.wait_until(job_id, look, seconds=seconds) or find_job(job_id, tenant, services)


def result_of(job_id: str, tenant: str, services: Services) -> JobResult:
    """Return what came of a job that succeeded.

    Raises:
        UnknownJob: there is none of this id that is this tenant's.
        NotFinished: there is no result yet.
        MaskmillError: what the job failed with.
    """
    if not is_job_id(job_id):
        raise _unknown(job_id)
    end = read_result(job_id, bucket=services.bucket)
    if end is None:
        job = find_job(job_id, tenant, services)
        if not job.state.is_final:
            raise NotFinished(f"The job is {job.state}; its result comes when it has succeeded.", state=job.state)
        raise failure_of(job) or UnknownJob(f"The result of job {job_id} is not stored any more.")
    if end.request.tenant != tenant:
        raise _unknown(job_id)
    failure = failure_of(Job(end.request, end.state, failure=end.failure))
    if failure is not None:
        raise failure
    return end


def stored_object(job_id: str, tenant: str, name: str, services: Services) -> bytes:
    """Return labels.png, masks.zip or overlay.png of a job that succeeded.

    Raises:
        UnknownJob: there is no such job, or it has no such object.
        MaskmillError: as result_of().
    """
    end = result_of(job_id, tenant, services)
    try:
        return services.bucket.get(object_key(job_id, end.attempt, name))
    except NoSuchObject as error:
        raise UnknownJob(f"The job {job_id} has no {name}.") from error


def mask_of(job_id: str, tenant: str, number: int, services: Services) -> bytes:
    """Return the PNG of one segment's mask.

    Raises:
        UnknownMask: the job has no segment of this number.
        MaskmillError: as result_of().
    """
    end = result_of(job_id, tenant, services)
    found = end.masks.get(number)
    if found is None:
        raise UnknownMask(f"The job has no segment {number}; it has {len(end.segments)}, counted from 1.")
    key = object_key(job_id, end.attempt, "masks.zip")
    try:
        return services.bucket.get_range(key, offset=found.offset, length=found.length)
    except NoSuchObject as error:
        raise UnknownJob(f"The masks of job {job_id} are not stored any more.") from error


def hf_reply_of(job_id: str, tenant: str, services: Services) -> bytes:
    """Return the JSON array of a job that succeeded, as the Hugging Face task has it.

    Raises:
        UnknownJob: there is no such job, or its masks are not stored any more.
        MaskmillError: as result_of().
    """
    end = result_of(job_id, tenant, services)
    return hf_array(end.segments, stored_object(job_id, tenant, "masks.zip", services), end.masks)


def cancel(job_id: str, tenant: str, services: Services) -> Job:
    """End a job before it is done; harmless to repeat.

    Raises:
        UnknownJob: there is none of this id that is this tenant's.
        AlreadyEnded: it has ended otherwise.
    """
    job = find_job(job_id, tenant, services)
    if not job.state.is_final:
        canceled = JobResult(job.request, JobState.CANCELED, failure=Failure(Canceled.code, "The job was canceled."))
        complete_job(canceled, jobs=services.jobs, bucket=services.bucket)
        job = find_job(job_id, tenant, services)
    if job.state is not JobState.CANCELED:
        raise AlreadyEnded(f"The job has {job.state} already, so it cannot be canceled.", state=job.state)
    return job


def list_jobs(
    tenant: str, services: Services, *, limit: int, cursor: str | None = None, state: JobState | None = None
) -> tuple[Sequence[Job], str | None]:
    """Return up to `limit` of a tenant's jobs, newest first, and the cursor of the next page if there may be one.

    Raises:
        BadParameter: the cursor is none of ours.
    """
    if cursor is not None and not is_job_id(cursor):
        raise BadParameter("The cursor is not one that this service gave out.")
    if state is None:
        return services.jobs.newest(tenant, limit=limit, before=cursor)
    found: list[Job] = []
    for _ in range(MOST_PAGES):
        page, cursor = services.jobs.newest(tenant, limit=FILTERED_PAGE, before=cursor)
        found += [job for job in page if job.state is state]
        if len(found) > limit:
            return found[:limit], found[limit - 1].id
        if cursor is None:
            break
    return found, cursor


def failure_of(job: Job) -> MaskmillError | None:
    """Return why a job that has ended has no result; None for one that succeeded."""
    if job.state is JobState.SUCCEEDED:
        return None
    if job.state is JobState.CANCELED:
        return Canceled("The job was canceled, so it has no result.", state=job.state)
    if job.failure is not None:
        return build_error(job.failure.code, job.failure.message)
    if job.state is JobState.EXPIRED:
        return DeadlineExceeded("There was no result before the deadline.")
    return MaskmillError("The job failed, and nothing says why.")


def _remembered(job_id: str, services: Services) -> Job:
    """Ask the bucket about a job that Redis does not know."""
    end = read_result(job_id, bucket=services.bucket)
    if end is not None:
        return Job(end.request, end.state, attempt=end.attempt, failure=end.failure, timings_ms=end.timings_ms)
    try:
        # Redis lost its data and the steward has not rebuilt this one yet: to its owner it is still queued.
        return Job(JobRequest.from_json(services.bucket.metadata(inbox_key(job_id))["request"]))
    except (NoSuchObject, KeyError):
        raise _unknown(job_id) from None


def _owned(job: Job, tenant: str) -> Job:
    if job.request.tenant != tenant:
        raise _unknown(job.id)
    return job


def _unknown(job_id: str) -> UnknownJob:
    return UnknownJob(f"There is no job {job_id[:64]}, or it has expired.")
