"""Retention: results and inputs are deleted by their age, which counts by the clock of the object store."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from shared.jobs.keeping import read_kept
from shared.jobs.survey import JobSurvey
from shared.storage.bucket import Bucket, NoSuchObject, StoredObject
from shared.storage.clock import StoreClock
from shared.storage.keys import (
    DEAD_LETTERS_PREFIX,
    DERIVED_FOLDER,
    INPUTS_PREFIX,
    KEPT_PREFIX,
    RECUTS_PREFIX,
    REQUESTS_PREFIX,
    RESULTS_PREFIX,
    UPLOADS_PREFIX,
    inbox_key,
)
from worker.steward.metrics import StewardMetrics
from worker.steward.parallel import split_pages

log = structlog.get_logger()

# S3 deletes this many objects in one call.
PAGE = 1000
# The input of a request is stored right after it.
ORPHANED_REQUEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """result_ttl_seconds: also of dead letters, which are kept as long as the records of their jobs."""

    survey: JobSurvey
    bucket: Bucket
    metrics: StewardMetrics
    clock: StoreClock
    result_ttl_seconds: int
    input_ttl_seconds: int
    upload_ttl_seconds: int
    recut_ttl_seconds: int

    def delete_expired(self) -> None:
        """Delete results, logits and inputs that are older than their time to live, at the beginning of each listing.

        Ids sort by time and listings are in order, so what comes after a page in which nothing is old is younger: but
        for objects behind those of jobs that were queued for long, and of ids by a clock that was fast.

        Raises:
            Unavailable: a store did not answer.
        """
        self._delete(is_thorough=False)

    def delete_hidden(self) -> None:
        """Delete what delete_expired() does not reach, by reading each listing to its end; raises as that."""
        self._delete(is_thorough=True)
        self._delete_orphaned_requests()

    def _delete_orphaned_requests(self) -> None:
        """Delete the requests that have no input: a submission has ended between the two."""
        limit = self.clock.now() - ORPHANED_REQUEST_SECONDS
        for page in split_pages(self.bucket.list_objects(REQUESTS_PREFIX), PAGE):
            old = [found.key for found in page if found.modified_at < limit]
            self.bucket.delete([key for key in old if not self._has_input(key.removeprefix(REQUESTS_PREFIX))])

    def _has_input(self, job_id: str) -> bool:
        try:
            self.bucket.get_metadata(inbox_key(job_id))
        except NoSuchObject:
            return False
        return True

    def _delete(self, *, is_thorough: bool) -> None:
        self.survey.prune_lists(is_thorough=is_thorough)
        # Without its job an input cannot be fetched.
        input_ttl_seconds = min(self.input_ttl_seconds, self.result_ttl_seconds)
        kept = self._read_kept()
        for prefix, ttl_seconds, reason in (
            (RESULTS_PREFIX, self.result_ttl_seconds, "deleted"),
            (DEAD_LETTERS_PREFIX, self.result_ttl_seconds, "dead_letter_deleted"),
            (INPUTS_PREFIX, input_ttl_seconds, "input_deleted"),
            (RECUTS_PREFIX, min(self.recut_ttl_seconds, self.result_ttl_seconds), "recut_deleted"),
        ):
            self._delete_older(prefix, ttl_seconds, reason, kept, is_thorough=is_thorough)
        # They are sorted by tenant, and not by time.
        self._delete_older(UPLOADS_PREFIX, self.upload_ttl_seconds, "upload_deleted", kept, is_thorough=True)

    def _read_kept(self) -> Collection[str]:
        """Return the jobs that are kept for longer than others, and forget those that were.

        What a job is kept for in vain, because its objects were purged, is deleted when that time is over.
        """
        objects = list(self.bucket.list_objects(KEPT_PREFIX))
        now = self.clock.now()
        kept = {job_id for job_id, end in read_kept(objects).items() if end >= now}
        self.bucket.delete([found.key for found in objects if found.key.split("/")[1] not in kept])
        return kept

    def _delete_older(
        self, prefix: str, ttl_seconds: int, reason: str, kept: Collection[str], *, is_thorough: bool
    ) -> None:
        limit = self.clock.now() - ttl_seconds
        for page in split_pages(self.bucket.list_objects(prefix), PAGE):
            old = _select_old(page, limit)
            if not old and not is_thorough:
                return
            expired = self._end(prefix, [key for key in old if key.split("/")[1] not in kept])
            if expired:
                self.bucket.delete(expired)
                log.info("objects_deleted", prefix=prefix, objects=len(expired))
                self.metrics.jobs_reconciled(reason, len({key.split("/")[1] for key in expired}))

    def _end(self, prefix: str, keys: Sequence[str]) -> Sequence[str]:
        """Return the keys of jobs that no caller has had kept since `kept/` was listed; with its result a job ends."""
        if prefix == UPLOADS_PREFIX:
            return keys
        ended = self.survey.end_retention({key.split("/")[1] for key in keys}, of_part=prefix != RESULTS_PREFIX)
        return [key for key in keys if key.split("/")[1] in ended]


def _select_old(page: Sequence[StoredObject], limit: float) -> list[str]:
    """Return the keys of what is older than a limit, and of what was derived from it later."""
    old = [found.key for found in page if found.modified_at < limit]
    jobs = {key.split("/")[1] for key in old}
    derived = (found.key for found in page if DERIVED_FOLDER in found.key and found.key.split("/")[1] in jobs)
    return list(dict.fromkeys([*old, *derived]))
