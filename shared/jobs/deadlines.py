"""The end of a job whose deadline has passed: it is `expired`, and says which stage it had reached."""

from typing import Final

from shared.errors import DeadlineExceeded
from shared.jobs.model import Failure, JobRequest, JobState
from shared.jobs.result import JobResult

QUEUED: Final = "queued"
RUNNING: Final = "running"


def build_expired(request: JobRequest, stage: str, *, attempt: int = 0, attempt_name: str = "") -> JobResult:
    """Return the result of a job that has no result by its deadline.

    Args:
        stage: QUEUED; RUNNING, if only its worker knows more; or the stage of an attempt, as in `timings_ms`.
    """
    where = f"was {stage}" if stage in (QUEUED, RUNNING) else f"had reached the stage `{stage}`"
    failure = Failure(DeadlineExceeded.code, f"There was no result before the deadline: the job {where}.")
    return JobResult(request, JobState.EXPIRED, attempt, attempt_name, failure=failure)
