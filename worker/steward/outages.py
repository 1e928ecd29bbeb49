"""The grace period after an outage of Redis, in which workers renew the leases that have expired meanwhile."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

# By so much the clocks of Redis and of this process may differ from one look to the next one.
MAX_DRIFT_SECONDS = 2.0


@dataclass(slots=True)
class OutageGrace:
    """Tells whether an expired lease means that its worker was lost.

    It does not for `seconds` after Redis did not answer, or its clock jumped, or this process was started so long after
    the last run of a steward: a healthy worker may not have renewed its leases then.  Not thread-safe.

    read_last_run: returns when a steward has seen Redis answer last, by the clock of Redis; None if Redis is new.
    """

    seconds: float
    read_last_run: Callable[[], float | None]
    monotonic: Callable[[], float] = time.monotonic
    _last: tuple[float, float] | None = field(default=None, init=False)
    _ends_at: float = field(default=0.0, init=False)
    _has_failed: bool = field(default=False, init=False)

    def note_failure(self) -> None:
        """Note that Redis did not answer."""
        self._has_failed = True

    def note_answer(self, redis_now: float) -> bool:
        """Note that Redis has answered, with its time; return whether leases can be trusted.

        Raises:
            StoreUnavailable: the time before the start could not be read.
        """
        local_now = self.monotonic()
        if self._has_failed or self._was_interrupted(redis_now, local_now):
            self._ends_at = redis_now + self.seconds
        self._has_failed, self._last = False, (redis_now, local_now)
        return redis_now >= self._ends_at

    def _was_interrupted(self, redis_now: float, local_now: float) -> bool:
        if self._last is None:
            seen_at = self.read_last_run()
            return seen_at is not None and redis_now - seen_at > self.seconds
        redis_before, local_before = self._last
        elapsed = local_now - local_before
        return abs(redis_now - redis_before - elapsed) > MAX_DRIFT_SECONDS
