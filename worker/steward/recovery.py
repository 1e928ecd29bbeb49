"""Recovery of jobs that Redis does not know any more, from their inputs in the bucket."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from shared.broker.envelope import encode_message
from shared.errors import StorageUnavailable
from shared.jobs.ids import is_job_id
from shared.jobs.inputs import EndedInput, InputMover
from shared.jobs.messages import job_queue
from shared.jobs.model import JobRequest
from shared.jobs.outcomes import CreateOutcome
from shared.jobs.request_record import list_inbox_keys, read_request
from shared.jobs.store import JobStore
from shared.jobs.survey import JobSurvey
from shared.storage.bucket import Bucket, NoSuchObject, StoredObject
from shared.storage.clock import StoreClock
from shared.storage.failures import Failures
from shared.storage.keys import INBOX_PREFIX, inbox_key
from worker.steward.metrics import StewardMetrics
from worker.steward.parallel import run_for_each, split_pages

log = structlog.get_logger()

# Inputs whose jobs are looked up in one round trip.
PAGE = 1000


@dataclass(frozen=True, slots=True)
class InboxRecovery:
    """grace_seconds: a submission stores its input first and its record right after, so only an input older than this
    can belong to a lost job.

    check: raises an error if another steward has taken over, or this one ends; called before each input.
    """

    jobs: JobStore
    survey: JobSurvey
    bucket: Bucket
    metrics: StewardMetrics
    inputs: InputMover
    clock: StoreClock
    grace_seconds: float
    check: Callable[[], object]

    def recover_jobs(self) -> None:
        """Create a job again for each old input without one, and move those of final jobs out of the inbox.

        Raises:
            Unavailable: a store did not answer, at all or for one of the inputs; the next run continues.
        """
        failures = Failures()
        for page in split_pages(self.bucket.list_objects(INBOX_PREFIX), PAGE):
            self.check()
            self._reconcile_inputs(self._select_old(page), failures)
        failures.raise_first()

    def _select_old(self, page: Sequence[StoredObject]) -> Sequence[str]:
        limit = self.clock.now() - self.grace_seconds
        names = ((found.key.removeprefix(INBOX_PREFIX), found.modified_at) for found in page)
        return [name for name, modified_at in names if modified_at < limit and is_job_id(name)]

    def _reconcile_inputs(self, job_ids: Sequence[str], failures: Failures) -> None:
        ends = list(zip(job_ids, self.survey.find_ends(job_ids), strict=True))
        run_for_each(partial(self._recover, failures), [job_id for job_id, end in ends if end is None])
        try:
            # They could not be moved when their jobs were completed.
            self.inputs.move(
                EndedInput(job_id, end.state, end.failure_code)
                for job_id, end in ends
                if end and end.state and end.state.is_final
            )
        except StorageUnavailable as error:
            # No lost job waits for them.
            failures.add(error)

    def _recover(self, failures: Failures, job_id: str) -> None:
        self.check()
        with failures.tolerate(inbox_key(job_id)):
            request = self._read_request(job_id)
            if request is not None:
                self._create(request)

    def _read_request(self, job_id: str) -> JobRequest | None:
        """Return the request of a job, from one read or two; None if the input is gone, or is not one."""
        try:
            return read_request(job_id, bucket=self.bucket)
        except NoSuchObject:
            return None
        except (KeyError, ValueError) as error:
            log.error("input_without_request", key=inbox_key(job_id), reason=repr(error))
            return None

    def _create(self, request: JobRequest) -> None:
        """Create a job again; whether its result is stored is seen by the worker that claims it."""
        created = self.jobs.create(request, message=encode_message(job_queue(request)), is_recovered=True)
        if created.outcome is CreateOutcome.PURGED:
            self.bucket.delete(list_inbox_keys(request.id))
            return
        log.info("job_recovered", reason="redis_lost_it", job_id=request.id)
        self.metrics.jobs_reconciled("recovered")
