"""Purged jobs: the steward deletes what was written for them after the purge."""

from collections.abc import Callable, Sequence

import structlog

from shared.jobs.ids import is_job_id
from shared.jobs.purge import delete_remains
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket, StoredObject
from shared.storage.failures import Failures
from shared.storage.keys import PURGED_PREFIX
from worker.steward.metrics import StewardMetrics

log = structlog.get_logger()

# A worker that lost its lease ends its attempt at the next stage.  Even with every upload repeated until it times out,
# it has written its last object by then.
SETTLING_SECONDS = 3600.0


class PurgeCompletion:
    """Deletes again at growing intervals, for SETTLING_SECONDS.  For one thread.

    After a restart each purge is looked at once more, which does no harm.
    """

    def __init__(
        self,
        jobs: JobStore,
        bucket: Bucket,
        metrics: StewardMetrics,
        *,
        now: Callable[[], float],
        settling_seconds: float = SETTLING_SECONDS,
    ) -> None:
        """Take the clock of the object store."""
        self._jobs = jobs
        self._bucket = bucket
        self._metrics = metrics
        self._settling_seconds = settling_seconds
        self._now = now
        self._due_at: dict[str, float] = {}

    def find_purges(self) -> Sequence[StoredObject]:
        """Return the objects that remember purges.

        Raises:
            StorageUnavailable: the bucket did not answer.
        """
        return list(self._bucket.list_objects(PURGED_PREFIX))

    def complete_purges(self, purges: Sequence[StoredObject]) -> None:
        """Delete what purged jobs have left, and forget those that are old enough.

        Raises:
            Unavailable: a store did not answer, at all or for one of the jobs.
        """
        settled: list[str] = []
        failures = Failures()
        due_at, self._due_at = self._due_at, {}
        for found in purges:
            job_id = found.key.removeprefix(PURGED_PREFIX)
            if not is_job_id(job_id):
                continue
            due = due_at.get(job_id, 0.0)
            if self._now() < due:
                self._due_at[job_id] = due
                continue
            with failures.tolerate(found.key):
                self._delete_remains(job_id)
                age = self._now() - found.modified_at
                if age >= self._settling_seconds:
                    settled.append(found.key)
                else:
                    # Twice as old at the next time.
                    self._due_at[job_id] = self._now() + min(max(age, 1.0), self._settling_seconds - age)
        self._bucket.delete(settled)
        failures.raise_first()

    def _delete_remains(self, job_id: str) -> None:
        deleted = delete_remains(job_id, jobs=self._jobs, bucket=self._bucket)
        if deleted:
            log.info("purge_completed", job_id=job_id, objects=deleted)
            self._metrics.jobs_reconciled("purged")
