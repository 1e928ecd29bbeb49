"""Compensation of submissions that failed half-way, on a thread, so that the error response is not delayed.

A write that timed out may still take effect when the store recovers.  So its compensation is repeated until it
succeeds, and once more after SETTLING_SECONDS.  If this process ends first, the steward finds the rest.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from shared.errors import MaskmillError, Unavailable

log = structlog.get_logger()

MIN_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 10.0
SETTLING_SECONDS = 3.0
MAX_PENDING = 10_000


class Compensator:
    """Its thread starts at the first compensation.  Thread-safe; a fork must happen before that."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, _Compensation]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def schedule(self, job_id: str, step: Callable[[], object]) -> None:
        """Call step() now, and again until it has succeeded (not raised Unavailable) twice; it must be idempotent."""
        with self._condition:
            if len(self._heap) >= MAX_PENDING:
                log.warning("compensation_dropped", job_id=job_id, reason="too_many_pending")
                return
            self._push(_Compensation(job_id, step), 0.0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="compensation", daemon=True)
                self._thread.start()

    @contextmanager
    def compensate_on_error(
        self, job_id: str, *steps: Callable[[], object], harmless: type[MaskmillError] | None = None
    ) -> Iterator[None]:
        """Schedule the steps if the block raises an error, and re-raise it at once.

        Args:
            harmless: errors after which nothing has to be undone.
        """
        try:
            yield
        except MaskmillError as error:
            if harmless is not None and isinstance(error, harmless):
                raise
            for step in steps:
                self.schedule(job_id, step)
            raise

    def _run(self) -> None:
        while True:
            compensation = self._next()
            delay = compensation.try_once()
            if delay is not None:
                with self._condition:
                    self._push(compensation, delay)

    def _next(self) -> "_Compensation":
        with self._condition:
            while True:
                delay = self._heap[0][0] - time.monotonic() if self._heap else None
                if delay is not None and delay <= 0:
                    return heapq.heappop(self._heap)[2]
                self._condition.wait(delay)

    def _push(self, compensation: "_Compensation", delay_seconds: float) -> None:
        heapq.heappush(self._heap, (time.monotonic() + delay_seconds, next(self._order), compensation))
        self._condition.notify()


class _Compensation:
    """One step of one submission's rollback."""

    def __init__(self, job_id: str, step: Callable[[], object]) -> None:
        self._job_id = job_id
        self._step = step
        self._backoff = MIN_BACKOFF_SECONDS
        self._has_succeeded = False

    def try_once(self) -> float | None:
        """Return the delay until the next try in seconds, or None when there is none."""
        try:
            self._step()
        except Unavailable:
            self._has_succeeded = False
            self._backoff = min(2 * self._backoff, MAX_BACKOFF_SECONDS)
            return self._backoff
        except Exception:
            # A bug must not end the thread that compensates all other submissions.
            log.exception("compensation_failed", job_id=self._job_id)
            return None
        if self._has_succeeded:
            log.info("submission_compensated", job_id=self._job_id)
            return None
        self._has_succeeded = True
        return SETTLING_SECONDS
