"""Publication: the files of an attempt and the end of its job are stored, however long a store takes to answer.

A job whose model has run is not given back when a store does not answer: it would be computed again.  Its files stay
in memory, and its lease is renewed, until they are stored or the time for that is over.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, TypeVar

import structlog

from shared.errors import Unavailable
from shared.formats.registry import get_format
from shared.jobs.completion import EndedInputs, read_result, store_result, sync_job_store
from shared.jobs.result import JobResult, StoredFile
from shared.jobs.store import JobStore
from shared.storage.bucket import Bucket
from shared.storage.keys import object_key, recut_key
from worker.formats.rendered import Rendered
from worker.pipeline.leases import Lease
from worker.pipeline.persistence import Persistence

T = TypeVar("T")
log = structlog.get_logger()


class StoreErrors(Protocol):
    """Is told of errors of the stores; implemented by worker.pipeline.store_watch.StoreWatch."""

    def report_error(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Publication:
    """keep_seconds: how long finished work is kept after the first error of a store."""

    jobs: JobStore
    bucket: Bucket
    inputs: EndedInputs
    stores: StoreErrors
    keep_seconds: float

    def store_file(self, lease: Lease, name: str, rendered: Rendered) -> StoredFile:
        """Store the file of a format under the attempt of a lease.

        Raises:
            Canceled: the lease is lost; what was stored already stays unreferenced.
            StorageUnavailable: the bucket did not answer in time.
        """
        output, content = get_format(name), rendered.content
        key = object_key(lease.claim.request.id, lease.claim.attempt_name, output.file)

        def put() -> str:
            lease.check()
            return self.bucket.put(key, content, content_type=rendered.media_type or output.media_type)

        etag = self._persist(put, lease)
        return StoredFile(len(content), etag, sha256(content).hexdigest(), rendered.media_type)

    def store_recut(self, lease: Lease, content: bytes) -> StoredFile:
        """Store the logits of an attempt; unlike files, in one try.

        Raises:
            Canceled: the lease is lost.
            StorageUnavailable: the bucket did not answer.
        """
        lease.check()
        key = recut_key(lease.claim.request.id, lease.claim.attempt_name)
        etag = self.bucket.put(key, content, content_type="application/octet-stream")
        return StoredFile(len(content), etag, sha256(content).hexdigest())

    def store_result(self, lease: Lease, result: JobResult) -> JobResult:
        """End a job in the bucket; return the result that counts, which may be one that was stored before.

        Raises:
            StorageUnavailable: the bucket did not answer in time.
        """
        # After a call without an answer, the next one finds what that stored.
        final = self._persist(lambda: store_result(result, bucket=self.bucket), lease)
        lease.settle()
        return final

    def find_result(self, job_id: str) -> JobResult | None:
        """Return the result of a job, if it was stored before.

        Raises:
            StorageUnavailable: the bucket did not answer.
        """
        return read_result(job_id, bucket=self.bucket)

    def record(self, final: JobResult) -> None:
        """Copy the end of a job to the job store, and move its input; what fails for too long is the steward's."""
        repeated = Persistence(self.keep_seconds, wait=_wait, on_error=self._report)
        try:
            repeated.call(lambda: sync_job_store(final, jobs=self.jobs, inputs=self.inputs))
        except Unavailable as error:
            log.warning("job_stored_not_recorded", job_id=final.request.id, reason=str(error))

    def _persist(self, store: Callable[[], T], lease: Lease) -> T:
        """Call a function that stores, until it succeeds, the time is over or the lease is lost.

        A job that is not durable is not repeated: its caller has the reply, and would wait for that of the next job.
        """
        seconds = self.keep_seconds if lease.claim.request.input.is_durable else 0.0
        return Persistence(seconds, wait=lease.wait_lost, on_error=self._report).call(store)

    def _report(self, error: Unavailable) -> None:
        self.stores.report_error()
        log.warning("store_not_answering", reason=str(error))


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False
