"""When a queued job will have ended: a range, from how long jobs of its model take and how many come before it.

A job ends when those that were claimed, those before it in the queue, and itself are completed, at the rate at which
the present workers complete work while jobs wait (shared/jobs/service_times.py).  How wide the range is follows from
how much this rate and the work of a job varied.  Jobs that will be submitted later and come before it are not known.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from api.jobs.load import ModelSource
from shared.jobs.model import Job, JobState, QueuePlace
from shared.jobs.service_times import Eta, ServiceTimes, WorkRate
from shared.worker_registry import WorkerState

CACHE_SECONDS = 1.0
# Bounds the memory of estimates, which are kept for a second.
MAX_LOCATED = 10_000
# A range that holds nine of ten values of a normal distribution reaches so many standard deviations to both sides.
DEVIATIONS = 1.65
MIN_MARGIN, MAX_MARGIN = 0.15, 0.6
# Of the work that was claimed, what a small image may overtake.
OVERTAKEN = 0.5
# What a job stores takes a moment.
MIN_SECONDS = 0.25


class ServiceSource(Protocol):
    """Measures the time of a model's jobs, and finds the place of one; implemented by JobQueues."""

    def measure_service(self, model: str) -> ServiceTimes: ...

    def find_place(self, job_id: str) -> QueuePlace | None: ...


@dataclass(slots=True)
class _Model:
    """What is known of a model.  workers: that are ready; worker_share: of those of all models."""

    read_at: float = -math.inf
    times: ServiceTimes = field(default_factory=ServiceTimes)
    workers: int = 0
    worker_share: float = 0.0


class EtaEstimator:
    """Thread-safe.  `clock` returns seconds that never go back, `now` unix seconds by the clock of Redis."""

    def __init__(
        self, queues: ServiceSource, models: ModelSource, *, now: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self._queues = queues
        self._models = models
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Model] = {}
        self._located: dict[str, tuple[float, tuple[QueuePlace, Eta | None] | None]] = {}

    def locate(self, job: Job) -> tuple[QueuePlace, Eta | None] | None:
        """Return where a queued job stands, and when it ends if that is known; None for another job.

        For a job it is read once in CACHE_SECONDS, so that clients that poll without a pause cost no more than before.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        if job.state is not JobState.QUEUED:
            return None
        now = self._clock()
        read_at, found = self._located.get(job.id, (-math.inf, None))
        if now - read_at >= CACHE_SECONDS:
            place = self._queues.find_place(job.id)
            found = (place, self.estimate(replace(job, place=place))) if place else None
            with self._lock:
                if len(self._located) >= MAX_LOCATED:
                    self._located.clear()
                self._located[job.id] = now, found
        return found

    def estimate(self, job: Job) -> Eta | None:
        """Return the range in which a job ends; None if it is not queued, or if it is unknown.

        What is known of a model is read once in CACHE_SECONDS; while one thread reads it, others use what was before.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        if job.place is None:
            return None
        model = self._read(job.request.model)
        return estimate_end(job, model.times, self._now(), running_share=model.worker_share, workers=model.workers)

    def _read(self, name: str) -> _Model:
        with self._lock:
            model = self._known.setdefault(name, _Model())
            now = self._clock()
            if now - model.read_at < CACHE_SECONDS:
                return model
            model.read_at = now
        times = self._queues.measure_service(name)
        counts = {one.id: sum(w.state is WorkerState.READY for w in one.workers) for one in self._models.list_all()}
        with self._lock:
            model.times, model.workers = times, counts.get(name, 0)
            model.worker_share = model.workers / max(1, sum(counts.values()))
        return model


def estimate_end(job: Job, times: ServiceTimes, now: float, *, running_share: float, workers: int) -> Eta | None:
    """Return the range in which a queued job ends; None if it is unknown.

    Args:
        running_share: of the running jobs of all models, those of this one.
        workers: that are ready.
    """
    if job.place is None or times.rate is None or workers <= 0:
        return None
    running = times.running * running_share
    rate = times.rate.work_ms * workers
    claimed = times.estimate_work(running, running * times.mean_megapixels) / rate
    queued = times.estimate_work(job.place.position, job.place.pixels / 1e6) / rate
    # A job ends with its batch, half a batch later than its own work on average.
    late = times.rate.interval_seconds / 2
    begun = times.rate.ahead_seconds / workers - late
    margin = _compute_margin(times, times.rate, running + job.place.position, claimed + queued)
    # A small image overtakes large ones that were claimed before it.
    shortest = max(0.0, queued + claimed * (1 - OVERTAKEN) - begun) * (1 - margin)
    longest = max(0.0, queued + claimed - begun) * (1 + margin)
    return Eta(now + max(0.0, shortest - MIN_SECONDS - late), now + longest + MIN_SECONDS + late)


def _compute_margin(times: ServiceTimes, rate: WorkRate, jobs: float, seconds: float) -> float:
    """Return how much a wait may differ from the estimate, as a share of it."""
    # The next spans differ as those before did, and the longer the wait, the more of them compensate each other.
    of_rate = rate.deviation**2 * (1 / rate.spans + min(1.0, rate.span_seconds / max(seconds, 1e-9)))
    of_jobs = (times.spread_ms / times.estimate_work(1, times.mean_megapixels)) ** 2 / jobs
    return min(MAX_MARGIN, max(MIN_MARGIN, DEVIATIONS * math.sqrt(of_rate + of_jobs)))
