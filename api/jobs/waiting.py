"""Slots for the requests of one gateway process that wait for a job: synchronous ones, and those with `?wait=`.

Each holds a thread.  There are fewer slots than threads, so that requests that do not wait always find one.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.jobs.limits import SharedLimit
from shared.errors import TooManyWaiting


class WaitingSlots:
    """Thread-safe."""

    def __init__(self, limit: SharedLimit) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._used: Counter[str] = Counter()

    @contextmanager
    def occupy(self, tenant: str) -> Iterator[None]:
        """Occupy a slot while the block runs.

        Raises:
            TooManyWaiting: the slots of the tenant, or of all, are in use.
        """
        self._take(tenant)
        try:
            yield
        finally:
            self._give_back(tenant)

    def _take(self, tenant: str) -> None:
        with self._lock:
            if self._used.total() >= self._limit.total:
                raise TooManyWaiting(
                    "Too many requests are waiting for their results; try again in a few seconds, "
                    "or submit the image as a job, at /v1/jobs."
                )
            if self._used[tenant] >= self._limit.per_tenant:
                raise TooManyWaiting(
                    "Too many of your requests are waiting for their results; send more when some are answered, "
                    "or submit the images as jobs, at /v1/jobs."
                )
            self._used[tenant] += 1

    def _give_back(self, tenant: str) -> None:
        with self._lock:
            self._used[tenant] -= 1
            if not self._used[tenant]:
                del self._used[tenant]
