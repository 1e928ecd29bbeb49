"""The load of a model's workers: how long the next job has to wait, from what Redis counts.

Read at most once in CACHE_SECONDS, so that the price of a request is that of a look at a few numbers.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from api.jobs.throughput import Sample, Throughput
from api.model_registry import ModelStatus
from shared.jobs.model import MAX_PASSED_OVER, Priority
from shared.jobs.store import LoadSnapshot
from shared.worker_registry import WorkerState

CACHE_SECONDS = 0.25
MAX_RETRY_AFTER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one model.

    queued: jobs by priority.  running: jobs, estimated where several models are served.
    rate: jobs that the workers complete in a second; None if it is unknown.
    memory_share: of Redis' maxmemory that is in use, in [0, 1]; 0 without a limit.
    """

    queued: Mapping[Priority, int] = field(default_factory=dict)
    running: float = 0.0
    rate: float | None = None
    memory_share: float = 0.0

    def estimate_wait(self, priority: Priority) -> float:
        """Return the seconds until a job that is created now is completed, without its own; 0 if it is unknown.

        It is 0 as well if no job is before it in a queue, so that an estimate that is wrong is measured again.
        """
        order = list(Priority)
        before = sum(self.queued.get(one, 0) for one in order[: order.index(priority) + 1])
        if not before or not self.rate:
            return 0.0
        return (before * self._count_passing(priority) + self.running) / self.rate

    def count_completed(self, priority: Priority, seconds: float) -> float:
        """Return how many jobs of a priority or above are completed in so many seconds; infinite if it is unknown."""
        return seconds * self.rate / self._count_passing(priority) if self.rate else math.inf

    def _count_passing(self, priority: Priority) -> float:
        """Return how many jobs are claimed for one of a priority: of a lower one, one after each so many of others."""
        order = list(Priority)
        lower = [one for one in order[order.index(priority) + 1 :] if self.queued.get(one)]
        return 1 + sum(1 / MAX_PASSED_OVER[one] for one in lower)

    def estimate_seconds(self, jobs: float) -> int | None:
        """Return the time in which so many jobs are completed, in seconds from 1 to a minute; None if it is unknown."""
        return clamp_retry_after(jobs / self.rate) if self.rate else None


def clamp_retry_after(seconds: float) -> int:
    """Return a value for Retry-After: whole seconds, from 1 to MAX_RETRY_AFTER_SECONDS."""
    return min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(seconds)))


class LoadSource(Protocol):
    """Measures the load of a model; implemented by JobQueues."""

    def measure_load(self, model: str) -> LoadSnapshot: ...


class ModelSource(Protocol):
    """Lists the models and their workers; implemented by ModelRegistry."""

    def list_all(self) -> Sequence[ModelStatus]: ...


class LoadMonitor:
    """Thread-safe.  `clock` returns seconds that never go back."""

    def __init__(self, queues: LoadSource, models: ModelSource, clock: Callable[[], float]) -> None:
        self._queues = queues
        self._models = models
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at: dict[str, float] = {}
        self._loads: dict[str, Load] = {}
        self._throughputs: dict[str, Throughput] = {}

    def read(self, model: ModelStatus) -> Load:
        """Return the load of a model.  While one thread reads it, the others get the one before, or one of zero.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        with self._lock:
            now = self._clock()
            if now - self._read_at.get(model.id, -math.inf) < CACHE_SECONDS:
                return self._loads.get(model.id, Load())
            self._read_at[model.id] = now
        snapshot = self._queues.measure_load(model.id)
        with self._lock:
            self._loads[model.id] = load = self._build_load(model, snapshot)
        return load

    def _build_load(self, model: ModelStatus, snapshot: LoadSnapshot) -> Load:
        workers = _count_ready(model)
        throughput = self._throughputs.setdefault(model.id, Throughput())
        has_backlog = any(snapshot.queued.values())
        throughput.add(Sample(self._clock(), snapshot.completed, has_backlog, workers))
        everywhere = sum(_count_ready(one) for one in self._models.list_all())
        return Load(
            queued=snapshot.queued,
            running=snapshot.running * workers / max(1, everywhere),
            rate=throughput.rate if workers else None,
            memory_share=snapshot.used_memory / snapshot.max_memory if snapshot.max_memory else 0.0,
        )


def _count_ready(model: ModelStatus) -> int:
    return sum(worker.state is WorkerState.READY for worker in model.workers)
