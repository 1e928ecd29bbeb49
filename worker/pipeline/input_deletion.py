"""Deletion of the inputs of completed jobs, many in one call to the object store.

An input that is not deleted because this process ended is deleted by the steward, which finds that its job is complete.
"""

import queue
import threading
from collections.abc import Sequence

import structlog

from shared.errors import Unavailable
from shared.storage.bucket import Bucket

log = structlog.get_logger()

# How long an input waits for others to be deleted with.
INTERVAL_SECONDS = 0.5
# S3 takes this many keys in one call.
MAX_KEYS = 1000


class InputDeletion:
    """Thread-safe.  close() deletes what is pending."""

    def __init__(self, bucket: Bucket, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._bucket = bucket
        self._interval_seconds = interval_seconds
        self._keys: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._added = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="input-deletion", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Delete what is pending, and end the thread."""
        self._closed.set()
        self._added.set()
        self._thread.join()

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects within a moment; returns at once."""
        for key in keys:
            self._keys.put(key)
        self._added.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._added.wait()
            self._closed.wait(self._interval_seconds)
            self._added.clear()
            self._delete_pending()
        self._delete_pending()

    def _delete_pending(self) -> None:
        while keys := self._take():
            try:
                self._bucket.delete(keys)
            except Unavailable as error:
                log.warning("inputs_not_deleted", count=len(keys), reason=str(error))

    def _take(self) -> list[str]:
        keys: list[str] = []
        while len(keys) < MAX_KEYS:
            try:
                keys.append(self._keys.get_nowait())
            except queue.Empty:
                break
        return keys
