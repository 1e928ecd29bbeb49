"""Retention: results are deleted by their age."""

import time
from dataclasses import dataclass

import structlog

from shared.jobs.ids import floor_id
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket
from shared.storage.keys import RESULTS_PREFIX
from worker.steward.metrics import StewardMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Retention:
    jobs: JobStore
    bucket: Bucket
    metrics: StewardMetrics
    result_ttl_seconds: int

    def delete_expired(self) -> None:
        """Delete the results that are older than their time to live.

        Job ids sort by time and listings are in order, so this stops at the first young one.

        Raises:
            Unavailable: a store did not answer.
        """
        limit = time.time() - self.result_ttl_seconds
        floor = floor_id(limit)
        self.jobs.prune_lists(floor)
        expired: list[str] = []
        for found in self.bucket.list_objects(RESULTS_PREFIX):
            job_id = found.key.split("/")[1]
            if job_id >= floor:
                break
            # The age of an object counts from when it was stored: a job may have been queued for long.
            if found.modified_at < limit:
                expired.append(found.key)
        if expired:
            self.bucket.delete(expired)
            log.info("results_deleted", objects=len(expired))
            self.metrics.jobs_reconciled("deleted", len({key.split("/")[1] for key in expired}))
