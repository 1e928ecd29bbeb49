"""When a queued job will have ended: a range, from how long jobs of its model take and how many come before it.

A job ends at the earliest when those before it and itself are completed, at the latest when all that run are as well,
at the rate at which the workers complete work while jobs wait.  The work of a job is told by its pixels
(shared/jobs/service_times.py).
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from api.jobs.load import ModelSource
from shared.jobs.model import Job, JobState, QueuePlace
from shared.jobs.service_times import Eta, ServiceTimes
from shared.worker_registry import WorkerState

CACHE_SECONDS = 1.0
# Bounds the memory of estimates, which are kept for a second.
MAX_LOCATED = 10_000
# The sums of finish.lua forget busy time at the same pace.
FORGET_SECONDS = 30.0
# A range that holds nine of ten values of a normal distribution reaches so many standard deviations to both sides.
DEVIATIONS = 1.65
MIN_MARGIN, MAX_MARGIN = 0.25, 0.6
# The end of a job is that of its batch, and what it stores takes a moment.
MIN_SECONDS = 0.5


class ServiceSource(Protocol):
    """Measures the time of a model's jobs, and finds the place of one; implemented by JobStore."""

    def measure_service(self, model: str) -> ServiceTimes: ...

    def find_place(self, job_id: str) -> QueuePlace | None: ...


@dataclass(slots=True)
class _Model:
    """What is known of a model.  workers: that are ready; mean_workers: while the rate was measured."""

    read_at: float = -math.inf
    times: ServiceTimes = field(default_factory=ServiceTimes)
    workers: int = 0
    worker_share: float = 0.0
    mean_workers: float = 0.0


class EtaEstimator:
    """Thread-safe.  `clock` returns seconds that never go back, `now` unix seconds by the clock of Redis."""

    def __init__(
        self, jobs: ServiceSource, models: ModelSource, *, now: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self._jobs = jobs
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
            place = self._jobs.find_place(job.id)
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
        return estimate_end(job, model.times, self._now(), running_share=model.worker_share, scale=_get_scale(model))

    def _read(self, name: str) -> _Model:
        with self._lock:
            model = self._known.setdefault(name, _Model())
            now, before = self._clock(), model.read_at
            if now - before < CACHE_SECONDS:
                return model
            model.read_at = now
        times = self._jobs.measure_service(name)
        counts = {one.id: sum(w.state is WorkerState.READY for w in one.workers) for one in self._models.list_all()}
        with self._lock:
            model.times, model.workers = times, counts.get(name, 0)
            model.worker_share = model.workers / max(1, sum(counts.values()))
            kept = math.exp(-(now - before) / FORGET_SECONDS)
            model.mean_workers = kept * model.mean_workers + (1 - kept) * model.workers
        return model


def _get_scale(model: _Model) -> float:
    """Return what the present workers can do, as a share of those by which the rate was measured."""
    return model.workers / model.mean_workers if model.mean_workers else 0.0


def estimate_end(job: Job, times: ServiceTimes, now: float, *, running_share: float, scale: float) -> Eta | None:
    """Return the range in which a queued job ends; None if it is unknown.

    Args:
        running_share: of the running jobs of all models, those of this one.
        scale: what the present workers can do, as a share of those by which the rate was measured.
    """
    if job.place is None or times.work_rates is None or scale <= 0:
        return None
    running = times.running * running_share
    jobs = running + job.place.position
    work = times.estimate_work(jobs, running * times.mean_megapixels + job.place.pixels / 1e6)
    slow, fast = times.work_rates
    # Of the sum of the jobs' work, and of rates that were measured by so many jobs.
    deviation = math.sqrt(jobs * (times.spread_ms / work) ** 2 + 1 / times.measured_jobs) if work else 0.0
    margin = min(MAX_MARGIN, max(MIN_MARGIN, DEVIATIONS * deviation))
    # A small image overtakes those that run: it may end soon after its claim, which those before it delay alone.
    claimed = times.estimate_work(job.place.position, job.place.pixels / 1e6)
    shortest, longest = claimed / (fast * scale), work / (slow * scale)
    return Eta(now + shortest * (1 - margin), now + longest * (1 + margin) + MIN_SECONDS)
