"""The errors of jobs that have ended: why there is no result, or until when there was one.  No I/O."""

from shared.errors import Canceled, DeadlineExceeded, Gone, JobExpired, MaskmillError, build_error
from shared.jobs.model import Job, JobState
from shared.rfc3339 import format_timestamp


def get_failure(job: Job) -> MaskmillError | None:
    """Return why a final job has no result; None for one that succeeded."""
    if job.state is JobState.SUCCEEDED:
        return None
    if job.state is JobState.CANCELED:
        return Canceled("The job was canceled, so it has no result.", state=job.state)
    if job.failure is not None:
        return build_error(job.failure.code, job.failure.message)
    if job.state is JobState.EXPIRED:
        return DeadlineExceeded("There was no result before the deadline.")
    return MaskmillError("The job failed without a recorded reason.")


def explain_end(job: Job) -> MaskmillError | None:
    """Return the error for a later request for the result of a final job; None if the job succeeded.

    A job that has expired will never have a result, so this is no timeout, after which clients repeat a request.
    """
    failure = get_failure(job)
    return JobExpired(str(failure), state=job.state) if job.state is JobState.EXPIRED else failure


def build_gone(message: str, job: Job) -> Gone:
    """Return the error for something that was kept as long as a job."""
    return Gone(message, kept_until=format_end(job))


def format_end(job: Job) -> str | None:
    """Return until when a job is kept, RFC 3339; None until it has ended."""
    return None if job.expires_at is None else format_timestamp(job.expires_at)
