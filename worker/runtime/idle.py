"""Gives freed memory back to the system once a process is idle; until then it serves the next burst."""

import time
from collections.abc import Callable

IDLE_SECONDS = 5.0


class IdleTrimmer:
    """Not thread-safe: check() is called at an interval of seconds, by one thread.

    Args:
        count_work: returns a number that changes whenever the process has worked.
        trim: gives the memory back.
        clock: returns seconds.
    """

    def __init__(
        self, count_work: Callable[[], int], trim: Callable[[], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count_work = count_work
        self._trim = trim
        self._clock = clock
        self._count = count_work()
        self._changed_at = clock()
        self._is_trimmed = False

    def check(self) -> None:
        """Trim once, if there has been no work for IDLE_SECONDS."""
        count = self._count_work()
        if count != self._count:
            self._count, self._changed_at, self._is_trimmed = count, self._clock(), False
        elif not self._is_trimmed and self._clock() - self._changed_at >= IDLE_SECONDS:
            self._trim()
            self._is_trimmed = True
