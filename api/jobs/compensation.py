"""Clearing up after a submission that failed halfway because a store was away, without keeping its caller waiting.

A request that timed out may still be carried out when the store wakes up.  So what it may have left is taken away again
and again until that works, and once more a little later.  If this process ends first, the steward finds the rest.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import structlog

from shared.errors import Unavailable

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
SETTLING_SECONDS = 3.0
MOST_KEPT = 10_000


class Compensator:
    """A thread that is started by the first leftover.  Thread-safe; a fork must happen before that."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, _Leftover]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def clear(self, job_id: str, clear: Callable[[], object]) -> None:
        """Call clear() now and until it has not raised Unavailable twice; it must be harmless to call often."""
        with self._condition:
            if len(self._heap) >= MOST_KEPT:
                log.warning("leftover_left_to_the_steward", job_id=job_id)
                return
            self._push(_Leftover(job_id, clear), 0.0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="compensator", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            leftover = self._next()
            pause = leftover.try_once()
            if pause is not None:
                with self._condition:
                    self._push(leftover, pause)

    def _next(self) -> "_Leftover":
        with self._condition:
            while True:
                pause = self._heap[0][0] - time.monotonic() if self._heap else None
                if pause is not None and pause <= 0:
                    return heapq.heappop(self._heap)[2]
                self._condition.wait(pause)

    def _push(self, leftover: "_Leftover", pause_seconds: float) -> None:
        heapq.heappush(self._heap, (time.monotonic() + pause_seconds, next(self._order), leftover))
        self._condition.notify()


class _Leftover:
    """What one submission may have left, and how far clearing it has come."""

    def __init__(self, job_id: str, clear: Callable[[], object]) -> None:
        self._job_id = job_id
        self._clear = clear
        self._pause = FIRST_PAUSE_SECONDS
        self._was_cleared = False

    def try_once(self) -> float | None:
        """Return after how many seconds to try again, or None when nothing is left."""
        try:
            self._clear()
        except Unavailable:
            self._was_cleared = False
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            return self._pause
        except Exception:
            # A bug must not end the thread that clears up after all the others.
            log.exception("leftover_not_cleared", job_id=self._job_id)
            return None
        if self._was_cleared:
            log.info("leftover_cleared", job_id=self._job_id)
            return None
        self._was_cleared = True
        return SETTLING_SECONDS
