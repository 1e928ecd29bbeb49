"""The time by the clock of Redis, which is that of every decision between processes.

The clock of a machine serves durations only, so a machine whose clock is wrong decides as all others do.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from shared.errors import StoreUnavailable
from shared.redis_client import RedisClient, translate_redis_errors

MAX_AGE_SECONDS = 60.0
RETRY_SECONDS = 5.0
# By how much two clocks may drift apart in a second; the kernel slews a clock by no more.
MAX_DRIFT = 0.0005


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one answer of Redis tells of its clock.

    offset: the time of Redis minus time.monotonic(), in seconds.
    error: half the round trip, in seconds; the offset is not further off.
    measured_at: by time.monotonic().
    """

    offset: float
    error: float
    measured_at: float

    @classmethod
    def from_answer(cls, unix_seconds: float, *, sent_at: float, received_at: float) -> "Measurement":
        """Return the measurement of an answer with the time; Redis read its clock between the two moments."""
        return cls(unix_seconds - (sent_at + received_at) / 2, (received_at - sent_at) / 2, received_at)

    def is_outdated_by(self, newer: "Measurement") -> bool:
        """Tell whether a newer measurement is the better one: it is as exact, or shows that the clock was set."""
        age = newer.measured_at - self.measured_at
        error = self.error + MAX_DRIFT * age
        was_set = abs(newer.offset - self.offset) > newer.error + error
        return age > MAX_AGE_SECONDS or newer.error <= error or was_set


class RedisClock:
    """Thread-safe.  Nothing is sent before the first use.

    The offset is measured when it is used and older than MAX_AGE_SECONDS; answers that have the time anyway keep it
    younger, so that a busy process sends no command for it.  While Redis does not answer, the last one serves.
    """

    def __init__(self, client: RedisClient, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._monotonic = monotonic
        self._last: Measurement | None = None
        self._retry_at = float("-inf")

    def now(self) -> float:
        """Return the time in unix seconds.

        Raises:
            StoreUnavailable: Redis does not answer, and never did.
        """
        # Read in this order, because a measurement takes time.
        offset = self._get_offset()
        return self._monotonic() + offset

    def to_unix(self, monotonic_seconds: float) -> float:
        """Return the unix seconds of a moment of time.monotonic(); raises as now()."""
        return monotonic_seconds + self._get_offset()

    def to_monotonic(self, unix_seconds: float) -> float:
        """Return the moment of time.monotonic() at a time; raises as now()."""
        return unix_seconds - self._get_offset()

    def observe(self, unix_seconds: float, *, sent_at: float) -> None:
        """Take the time of an answer that was received just now.

        Args:
            sent_at: when the command was sent, by time.monotonic().
        """
        self._keep(Measurement.from_answer(unix_seconds, sent_at=sent_at, received_at=self._monotonic()))

    def _get_offset(self) -> float:
        last = self._last
        if last is None:
            last = self._measure()
        elif self._is_due(last):
            # Set first, so that other threads use the last offset meanwhile.
            self._retry_at = self._monotonic() + RETRY_SECONDS
            with suppress(StoreUnavailable):
                last = self._measure()
        return last.offset

    def _is_due(self, last: Measurement) -> bool:
        now = self._monotonic()
        return now - last.measured_at > MAX_AGE_SECONDS and now >= self._retry_at

    @translate_redis_errors
    def _measure(self) -> Measurement:
        sent_at = self._monotonic()
        seconds, micros = self._redis.time()
        unix_seconds = float(seconds) + float(micros) / 1e6
        return self._keep(Measurement.from_answer(unix_seconds, sent_at=sent_at, received_at=self._monotonic()))

    def _keep(self, found: Measurement) -> Measurement:
        """Keep a measurement if it is better than the last one; return the better one."""
        last = self._last
        if last is not None and not last.is_outdated_by(found):
            return last
        # Two threads at once may keep the worse of two good ones, so there is no lock.
        self._last = found
        return found
