"""Deadlines: a job that has not ended by then is expired, also while no worker is alive."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from shared.errors import UnknownJob
from shared.jobs.completion import EndedInputs, complete_job
from shared.jobs.deadlines import QUEUED, RUNNING, build_expired
from shared.jobs.model import Job, JobState
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket
from worker.steward.metrics import StewardMetrics
from worker.steward.parallel import run_for_each
from worker.steward.reconciler import log_unreadable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DeadlineExpiry:
    """Ends overdue jobs as any other party does: the bucket decides, so a result that is stored already counts."""

    jobs: JobStore
    bucket: Bucket
    metrics: StewardMetrics
    inputs: EndedInputs

    def expire_overdue(self, job_ids: Sequence[str]) -> None:
        """Expire the jobs that JobSurvey.find_overdue() has found; one that is left is found again.

        Raises:
            Unavailable: a store did not answer.
        """
        run_for_each(self._expire, job_ids)

    def _expire(self, job_id: str) -> None:
        with log_unreadable(job_id):
            job = self._find_unfinished(job_id)
            if job is None:
                self.jobs.forget_deadline(job_id)
                return
            stage = QUEUED if job.state is JobState.QUEUED else RUNNING
            expired = build_expired(job.request, stage, attempt=job.attempt, attempt_name=job.attempt_name)
            final = complete_job(expired, jobs=self.jobs, bucket=self.bucket, inputs=self.inputs)
            log.info("job_overdue", job_id=job_id, reached=stage, state=final.state)
            self.metrics.jobs_reconciled("expired")

    def _find_unfinished(self, job_id: str) -> Job | None:
        try:
            job = self.jobs.get(job_id)
        except UnknownJob:
            return None
        return None if job.state.is_final else job
