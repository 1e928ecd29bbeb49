"""The clock of the object store, by which the ages of objects count.  No other clock is compared with it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.errors import StackUnconfirmed

# For so long this process goes on by its own monotonic clock.
MAX_AGE_SECONDS = 60.0


@dataclass(slots=True)
class StoreClock:
    """Follows the store's clock from one object to the next that is known to be new.  Thread-safe.

    It is never fast.  S3 rounds times down to a second, so the clock, and the age of an object, may be wrong by one.
    """

    monotonic: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _offset: float | None = field(default=None, init=False)
    _observed_at: float = field(default=0.0, init=False)

    @property
    def is_fresh(self) -> bool:
        """Whether it was observed a short time ago."""
        with self._lock:
            return self._offset is not None and self.monotonic() - self._observed_at < MAX_AGE_SECONDS

    def observe(self, stored_at: float, *, at: float) -> None:
        """Take the time of an object as the store gives it, and a moment at which it was stored already.

        Args:
            at: by `monotonic`; the nearer to when the object was stored, the better.
        """
        with self._lock:
            self._offset, self._observed_at = stored_at - at, at

    def now(self) -> float:
        """Return unix seconds by the clock of the object store.

        Raises:
            StackUnconfirmed: this process has stored nothing yet.
        """
        with self._lock:
            offset = self._offset
        if offset is None:
            raise StackUnconfirmed()
        return self.monotonic() + offset
