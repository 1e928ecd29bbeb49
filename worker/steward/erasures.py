"""Erasures: the steward deletes all data of the tenants that asked for it, at a bounded rate, however long it takes.

The jobs that Redis lists come first.  Then the results of all tenants are read, because only they say whose they are:
the records of synchronous jobs, and of all after a loss of Redis, are gone before.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import orjson
import structlog

from shared.jobs.erasure import Erasure, Erasures
from shared.jobs.ids import is_job_id
from shared.jobs.lists import JobLists
from shared.jobs.purge import delete_remains, purge_job
from shared.jobs.request_record import read_request
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket, NoSuchObject, StoredObject
from shared.storage.clock import StoreClock
from shared.storage.failures import Failures
from shared.storage.keys import INBOX_PREFIX, RESULTS_PREFIX, result_key, uploads_prefix
from worker.steward.metrics import StewardMetrics
from worker.steward.parallel import run_for_each, split_pages
from worker.steward.purges import SETTLING_SECONDS as WRITING_SECONDS
from worker.steward.webhook_erasure import WebhookErasure

log = structlog.get_logger()

PAGE = 200
# Of results and inputs of all tenants that are read to see whose they are.
MAX_READS_PER_SECOND = 500.0
# A submission that was under way when the deletion was requested has ended by then.
SETTLING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class DataErasure:
    """check: raises an error if another steward has taken over, or this one ends; called before each page."""

    jobs: JobStore
    lists: JobLists
    bucket: Bucket
    erasures: Erasures
    webhooks: WebhookErasure
    metrics: StewardMetrics
    clock: StoreClock
    check: Callable[[], object]
    settling_seconds: float = SETTLING_SECONDS
    pause: Callable[[float], object] = time.sleep

    def find_erasures(self) -> Sequence[StoredObject]:
        """Return the objects of the erasures that are under way.

        Raises:
            StorageUnavailable: the bucket did not answer.
        """
        return self.erasures.list_objects()

    def continue_erasures(self, objects: Sequence[StoredObject]) -> None:
        """Delete what is left of the data of each tenant.

        Raises:
            Unavailable: a store did not answer, at all or for one of the jobs; the next run continues.
        """
        for erasure in self.erasures.read(objects):
            self._continue(erasure)

    def _continue(self, erasure: Erasure) -> None:
        requested_ago = self.jobs.clock.now() - erasure.requested_at
        erasure = self._delete_listed(erasure)
        self._delete_uploads(erasure)
        self.webhooks.delete_webhooks(erasure.tenant, before=erasure.requested_at)
        if requested_ago < self.settling_seconds:
            return
        erasure = self._delete_found(erasure, INBOX_PREFIX, self._read_owner_of_input)
        erasure = self._delete_found(erasure, RESULTS_PREFIX, self._read_owner_of_result)
        self.erasures.complete(erasure)
        log.info("data_erased", tenant=erasure.tenant, jobs=erasure.progress.deleted)

    def _delete_listed(self, erasure: Erasure) -> Erasure:
        """Delete the jobs of a tenant that Redis lists, and those that have not ended."""
        before = erasure.end_id
        while ids := self.lists.list_ids(erasure.tenant, limit=PAGE, before=before):
            erasure, before = self._delete_known(erasure, ids), ids[-1]
        unfinished = [one for one in self.lists.list_unfinished_ids(erasure.tenant) if one < erasure.end_id]
        for page in split_pages(unfinished, PAGE):
            erasure = self._delete_known(erasure, page)
        return erasure

    def _delete_known(self, erasure: Erasure, ids: Sequence[str]) -> Erasure:
        self.check()
        oldest_writer = self.jobs.clock.now() - WRITING_SECONDS
        ends = {one: job.ended_at for one, job in self.lists.get_many(ids).items()}
        return self._delete(erasure, ids, {one for one, end in ends.items() if end is not None and end < oldest_writer})

    def _delete_uploads(self, erasure: Erasure) -> None:
        prefix = uploads_prefix(erasure.tenant)
        for page in split_pages(self.bucket.list_objects(prefix), PAGE):
            # Their ids sort by time as those of jobs.
            self.bucket.delete([found.key for found in page if found.key.removeprefix(prefix) < erasure.end_id])

    def _delete_found(self, erasure: Erasure, prefix: str, read_owner: Callable[[str], str | None]) -> Erasure:
        """Delete the jobs of a tenant of which the bucket has an object below a prefix."""
        for found in split_pages(self._list_jobs(erasure, prefix), PAGE):
            self.check()
            page, owners = dict(found), dict[str, str | None]()
            run_for_each(lambda one: owners.update({one: read_owner(one)}), list(page))  # noqa: B023
            own = [one for one in page if owners[one] == erasure.tenant]
            oldest_writer = self.clock.now() - WRITING_SECONDS
            erasure = self._delete(erasure, own, {one for one in own if page[one] < oldest_writer})
            if prefix == RESULTS_PREFIX:
                erasure = replace(erasure, progress=replace(erasure.progress, scanned_to=max(page)))
                self.erasures.save(erasure)
            self.pause(len(page) / MAX_READS_PER_SECOND)
        return erasure

    def _list_jobs(self, erasure: Erasure, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield the jobs that are to be examined, in the order of their ids, and when their object was stored."""
        for found in self.bucket.list_objects(prefix):
            job_id, _, name = found.key.removeprefix(prefix).partition("/")
            if job_id >= erasure.end_id:
                return
            is_scanned = prefix == RESULTS_PREFIX and job_id <= erasure.progress.scanned_to
            if is_job_id(job_id) and not is_scanned and name in ("", "result.json"):
                yield job_id, found.modified_at

    def _read_owner_of_result(self, job_id: str) -> str | None:
        with log_unreadable_owner(job_id), suppress(NoSuchObject):
            return str(orjson.loads(self.bucket.get(result_key(job_id)))["request"]["tenant"])
        return None

    def _read_owner_of_input(self, job_id: str) -> str | None:
        with log_unreadable_owner(job_id), suppress(NoSuchObject):
            return read_request(job_id, bucket=self.bucket).tenant
        return None

    def _delete(self, erasure: Erasure, ids: Sequence[str], settled: set[str]) -> Erasure:
        """Delete jobs; for those that are settled no process can write any more, so no purge is remembered."""

        def delete(job_id: str) -> None:
            with failures.tolerate(result_key(job_id)):
                if job_id in settled:
                    delete_remains(job_id, jobs=self.jobs, bucket=self.bucket)
                else:
                    purge_job(job_id, jobs=self.jobs, bucket=self.bucket)

        failures = Failures()
        run_for_each(delete, ids)
        failures.raise_first()
        if not ids:
            return erasure
        self.metrics.jobs_reconciled("erased", len(ids))
        erasure = replace(erasure, progress=replace(erasure.progress, deleted=erasure.progress.deleted + len(ids)))
        self.erasures.save(erasure)
        return erasure


@contextmanager
def log_unreadable_owner(job_id: str) -> Iterator[None]:
    """Log an object that does not say whose it is, and leave it to its age."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        log.error("owner_unreadable", job_id=job_id, reason=repr(error))
