"""How many jobs a second the workers of a model complete while they have work without a pause.  Pure.

An idle service completes what arrives, which says nothing about its capacity.  So only the time counts during which
every sample found queued jobs.  But the completions of any time are a lower bound, by which a rate that has become too
low grows again: it lets no backlog grow by which it would be measured.
"""

from collections import deque
from dataclasses import dataclass
from itertools import islice

from shared.jobs.events import POLL_INTERVAL_SECONDS

# Samples further apart than this may hide a pause.  Callers that wait take one at each of their polls.
MAX_GAP_SECONDS = 2 * POLL_INTERVAL_SECONDS
# The rate is that of the last seconds; of more, up to MAX_WINDOW_SECONDS, while few jobs were completed.
WINDOW_SECONDS = 10.0
MAX_WINDOW_SECONDS = 120.0
MIN_COMPLETED = 10
MIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """at: seconds by any clock.  completed: jobs so far.  workers: that are ready."""

    at: float
    completed: int
    has_backlog: bool
    workers: int


class Throughput:
    """Takes samples in the order of their time.  Not thread-safe."""

    def __init__(self) -> None:
        self._window: deque[Sample] = deque()
        self._recent: deque[Sample] = deque()  # with and without a backlog
        self._rate: float | None = None
        self._measured_at = 0.0

    @property
    def rate(self) -> float | None:
        """Jobs a second; None while it is unknown."""
        return self._rate

    def add(self, sample: Sample) -> None:
        last = self._recent[-1] if self._recent else None
        if last is not None and last.workers != sample.workers:
            # An estimate until the present workers are measured.
            self._rate = (
                self._rate * sample.workers / last.workers if self._rate and last.workers and sample.workers else None
            )
            self._window.clear()
            self._recent.clear()
        elif last is not None and not _continues(last, sample):
            self._window.clear()
            self._forget_old_rate(sample)
        self._window.append(sample)
        self._drop_old()
        self._measure()
        self._raise_to_recent(sample)

    def _forget_old_rate(self, sample: Sample) -> None:
        """Forget a rate that may not be true any more, so that it refuses nothing until it is measured again."""
        if sample.at - self._measured_at > MAX_WINDOW_SECONDS:
            self._rate = None

    def _raise_to_recent(self, sample: Sample) -> None:
        """Raise a rate that is lower than what was completed in the last WINDOW_SECONDS, or since the last sample."""
        recent = self._recent
        if recent and sample.completed < recent[-1].completed:
            recent.clear()
        recent.append(sample)
        while len(recent) > 2 and sample.at - recent[1].at >= WINDOW_SECONDS:
            recent.popleft()
        seconds, completed = sample.at - recent[0].at, sample.completed - recent[0].completed
        if self._rate is not None and seconds >= WINDOW_SECONDS and completed > self._rate * seconds:
            self._rate, self._measured_at = completed / seconds, sample.at

    def _drop_old(self) -> None:
        newest = self._window[-1]
        while len(self._window) > 2:
            second = next(islice(self._window, 1, None))
            seconds, completed = newest.at - second.at, newest.completed - second.completed
            is_enough = seconds >= WINDOW_SECONDS and completed >= MIN_COMPLETED
            if not is_enough and newest.at - self._window[0].at <= MAX_WINDOW_SECONDS:
                return
            self._window.popleft()

    def _measure(self) -> None:
        first, newest = self._window[0], self._window[-1]
        seconds, completed = newest.at - first.at, newest.completed - first.completed
        if seconds < MIN_SECONDS:
            return
        if completed >= MIN_COMPLETED or (completed and seconds >= WINDOW_SECONDS):
            self._rate, self._measured_at = completed / seconds, newest.at
        elif self._rate is not None:
            # Too few to tell the rate, but enough time to tell that it is not higher than this.
            self._rate, self._measured_at = min(self._rate, (completed + 1) / seconds), newest.at


def _continues(last: Sample, sample: Sample) -> bool:
    """Return whether workers had work without a pause between two samples, as far as they tell."""
    is_continuous = sample.at - last.at <= MAX_GAP_SECONDS and sample.completed >= last.completed
    return is_continuous and last.has_backlog and sample.has_backlog
