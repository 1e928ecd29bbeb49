"""The rate of requests of each tenant to this process, bounded by the generic cell rate algorithm (ITU-T I.371)."""

import math
import threading
import time
from collections.abc import Callable, Hashable

from shared.errors import TooManyRequests

# Requests of so many seconds may come at once.
BURST_SECONDS = 2
_ROUNDING_SECONDS = 1e-6


class RequestRate:
    """Thread-safe.  Holds one number for each tenant."""

    def __init__(self, per_second: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._now = now
        self._lock = threading.Lock()
        # When a tenant that keeps the rate exactly would send its next request.
        self._next_at: dict[Hashable, float] = {}

    def admit(self, tenant: Hashable) -> None:
        """Count a request.

        Raises:
            TooManyRequests: the tenant exceeds the rate; the request does not count.
        """
        with self._lock:
            now = self._now()
            next_at = max(now, self._next_at.get(tenant, now))
            excess = next_at - now - BURST_SECONDS + 1 / self.per_second
            if excess <= _ROUNDING_SECONDS:
                self._next_at[tenant] = next_at + 1 / self.per_second
                return
        raise TooManyRequests(
            f"You send more than {self.per_second:g} requests a second; send fewer.",
            quota="requests",
            limit=BURST_SECONDS * self.per_second,
            window_seconds=BURST_SECONDS,
            retry_after_seconds=max(1, math.ceil(excess)),
        )
