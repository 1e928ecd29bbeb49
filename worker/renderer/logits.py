"""The logits that recuts have used last: a slider asks for many recuts of one job in a row."""

import threading
from collections import OrderedDict
from typing import Final

from shared.jobs.recut_file import get_recut, read_recut
from shared.jobs.result import JobResult
from shared.storage.bucket import Bucket
from shared.storage.keys import recut_key
from worker.recut.file import RecutData

# Those of a few jobs; a worker keeps 8 MB of one by default.
MAX_BYTES: Final = 32 * 2**20


class RecentLogits:
    """Thread-safe.  What it returns is shared, and must not be changed.

    Args:
        max_bytes: of all logits that are kept in memory.
    """

    def __init__(self, bucket: Bucket, *, max_bytes: int = MAX_BYTES) -> None:
        self._bucket = bucket
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        # The one that was used last is the last one.
        self._kept: OrderedDict[str, RecutData] = OrderedDict()

    def load(self, result: JobResult) -> RecutData:
        """Return the logits of a job that are stored; of those in memory, the bucket is asked whether they still are.

        Raises:
            RecutGone, RecutUnsupported, ResultOverwritten, StorageUnavailable: as read_recut().
        """
        key, file = recut_key(result.request.id, result.attempt_name), get_recut(result).file
        data = self._find(key)
        if data is None or file is None or not self._bucket.has(key, file.etag):
            data = RecutData.from_bytes(read_recut(result, bucket=self._bucket))
            self._keep(key, data)
        return data

    def clear(self) -> None:
        """Free the memory."""
        with self._lock:
            self._kept.clear()

    def _find(self, key: str) -> RecutData | None:
        with self._lock:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
            return data

    def _keep(self, key: str, data: RecutData) -> None:
        with self._lock:
            self._kept[key] = data
            self._kept.move_to_end(key)
            while sum(one.logits.nbytes for one in self._kept.values()) > self._max_bytes:
                self._kept.popitem(last=False)
