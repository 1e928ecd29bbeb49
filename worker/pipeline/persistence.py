"""Repeated calls to a store: finished work is kept in memory until a store takes it, and not given back at once."""

import time
from collections.abc import Callable
from typing import TypeVar

from shared.errors import Unavailable

T = TypeVar("T")

FIRST_DELAY_SECONDS = 0.25
MAX_DELAY_SECONDS = 2.0


class Persistence:
    """Repeats what a store did not answer, with growing delays.  For one thread.

    Args:
        seconds: for how long after the first error; it bounds all calls together.  0: nothing is repeated.
        wait: waits for some seconds, and returns whether repeating has become pointless meanwhile.
        on_error: called with every error.
    """

    def __init__(
        self,
        seconds: float,
        *,
        wait: Callable[[float], bool],
        on_error: Callable[[Unavailable], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._wait = wait
        self._on_error = on_error
        self._clock = clock
        self._ends_at: float | None = None
        self._delay_seconds = FIRST_DELAY_SECONDS

    def call(self, function: Callable[[], T]) -> T:
        """Return what a function returns, which must be safe to repeat.

        Raises:
            Unavailable: the last error, once the time is over, or repeating is pointless.
        """
        while True:
            try:
                return function()
            except Unavailable as error:
                self._on_error(error)
                if self._is_over() or self._wait(self._delay_seconds):
                    raise
                self._delay_seconds = min(2 * self._delay_seconds, MAX_DELAY_SECONDS)

    def _is_over(self) -> bool:
        if self._ends_at is None:
            self._ends_at = self._clock() + self._seconds
        return self._clock() >= self._ends_at
