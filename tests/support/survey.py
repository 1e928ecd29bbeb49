"""What a steward finds in the job store, for tests that have no steward."""

from collections.abc import Sequence

from shared.jobs.store import JobStore
from shared.jobs.survey import JobSurvey


def find_stalled(jobs: JobStore) -> Sequence[str]:
    """Return the ids of running jobs whose lease has expired."""
    return JobSurvey(jobs._redis).find_stalled().job_ids


def find_delayed(jobs: JobStore, queue: str) -> Sequence[str]:
    """Return the ids of the released jobs of a queue whose delay is over."""
    return [found.job_id for found in JobSurvey(jobs._redis).find_delayed() if found.queue == queue]
