"""Recovery of jobs that Redis does not know any more, from their inputs in the bucket."""

import time
from dataclasses import dataclass

import structlog

from shared.broker.envelope import encode_message
from shared.errors import UnknownJob
from shared.jobs.completion import read_result
from shared.jobs.ids import is_job_id
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest
from shared.jobs.outcomes import CreateOutcome
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import INBOX_PREFIX
from worker.steward.metrics import StewardMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InboxRecovery:
    """grace_seconds: a submission stores its input first and its record right after, so only an input older than this
    can belong to a lost job.
    """

    jobs: JobStore
    bucket: Bucket
    metrics: StewardMetrics
    grace_seconds: float

    def recover_jobs(self) -> None:
        """Create a job again for each old input without one.

        Raises:
            Unavailable: a store did not answer.
        """
        limit = time.time() - self.grace_seconds
        for found in self.bucket.list_objects(INBOX_PREFIX):
            job_id = found.key.removeprefix(INBOX_PREFIX)
            if found.modified_at < limit and is_job_id(job_id):
                self._reconcile_input(job_id, found.key)

    def _reconcile_input(self, job_id: str, key: str) -> None:
        try:
            is_final = self.jobs.get(job_id).state.is_final
        except UnknownJob:
            is_final = read_result(job_id, bucket=self.bucket) is not None
            if not is_final:
                self._recover(job_id, key)
                return
        if is_final:
            # The input could not be deleted when the job was completed.
            self.bucket.delete([key])

    def _recover(self, job_id: str, key: str) -> None:
        try:
            request = JobRequest.from_json(self.bucket.get_metadata(key)["request"])
        except NoSuchObject:
            return
        except (KeyError, ValueError) as error:
            log.error("input_without_request", key=key, reason=repr(error))
            return
        created = self.jobs.create(request, message=encode_message(job_queue(request)), is_recovered=True)
        if created.outcome is CreateOutcome.PURGED:
            self.bucket.delete([key])
            return
        log.info("job_recovered", reason="redis_lost_it", job_id=job_id)
        self.metrics.jobs_reconciled("recovered")
