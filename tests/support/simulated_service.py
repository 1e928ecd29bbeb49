"""A service in simulated time: jobs arrive, workers claim, decode, batch and end them, clients ask for their ends.

A worker claims as many jobs as it may run at a time, decodes some at once, runs one batch at a time, and stores.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from shared.jobs.service_times import EndedJob

ASK_SECONDS = 0.05
CLAIM_SECONDS = 0.003


@dataclass(frozen=True, slots=True)
class Device:
    """What one worker takes; seconds.

    decode: for each megapixel, and half of it for any image, on one of `hosts` processes.
    fixed, per_image, per_megapixel: of a batch.
    noise: standard deviation of the logarithm of each duration.
    """

    decode: float = 0.02
    hosts: int = 2
    fixed: float = 0.02
    per_image: float = 0.01
    per_megapixel: float = 0.005
    batch: int = 8
    in_hand: int = 16
    noise: float = 0.1


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that was asked for while it was queued, and what the service knew then.

    pixels: of its image and of those before it, by their mean.  ended: how many jobs had ended.
    """

    at: float
    job: int
    position: int
    pixels: float
    running: int
    ended: int


@dataclass(slots=True)
class _Worker:
    name: str
    decoding: int = 0
    in_hand: int = 0
    is_busy: bool = False
    claimed: deque[int] = field(default_factory=deque)
    decoded: deque[int] = field(default_factory=deque)


class SimulatedService:
    """Runs all jobs when it is built.

    Args:
        arrivals: time and megapixels of each job.
        speed: of the machine at a time.

    asked: in the order of time.  ended: jobs in the order of their ends.  ends: by the number of the job.
    """

    def __init__(
        self,
        arrivals: Sequence[tuple[float, float]],
        device: Device,
        *,
        workers: int = 1,
        speed: Callable[[float], float] = lambda at: 1.0,
        seed: int = 0,
    ) -> None:
        self.asked: list[Asked] = []
        self.ended: list[EndedJob] = []
        self.ends: dict[int, float] = {}
        self._megapixels = [megapixels for _, megapixels in arrivals]
        self._device = device
        self._speed = speed
        self._chance = random.Random(seed)
        self._workers = [_Worker(str(number)) for number in range(workers)]
        self._queue: deque[int] = deque()
        self._work = [0.0] * len(arrivals)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self._now = 0.0
        for job, (at, _) in enumerate(arrivals):
            self._call_at(at, self._arrive, job)
        self._call_at(ASK_SECONDS, self._ask)
        while self._events:
            self._now, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)

    def _call_at(self, at: float, call: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), call, arguments))

    def _take(self, seconds: float) -> float:
        return seconds * self._chance.lognormvariate(0, self._device.noise) / self._speed(self._now)

    def _arrive(self, job: int) -> None:
        self._queue.append(job)
        self._call_at(self._now + CLAIM_SECONDS, self._claim)

    def _claim(self) -> None:
        for worker in self._workers:
            while self._queue and worker.in_hand < self._device.in_hand:
                worker.claimed.append(self._queue.popleft())
                worker.in_hand += 1
            self._decode(worker)

    def _decode(self, worker: _Worker) -> None:
        while worker.claimed and worker.decoding < self._device.hosts:
            job = worker.claimed.popleft()
            worker.decoding += 1
            seconds = self._take(self._device.decode * (0.5 + self._megapixels[job]))
            self._work[job] += 1000 * seconds
            self._call_at(self._now + seconds, self._end_decoding, worker, job)

    def _end_decoding(self, worker: _Worker, job: int) -> None:
        worker.decoding -= 1
        worker.decoded.append(job)
        self._decode(worker)
        self._run_batch(worker)

    def _run_batch(self, worker: _Worker) -> None:
        if worker.is_busy or not worker.decoded:
            return
        worker.is_busy = True
        batch = [worker.decoded.popleft() for _ in range(min(self._device.batch, len(worker.decoded)))]
        megapixels = sum(self._megapixels[job] for job in batch)
        seconds = self._take(
            self._device.fixed + self._device.per_image * len(batch) + self._device.per_megapixel * megapixels
        )
        for job in batch:
            self._work[job] += 1000 * seconds / len(batch)
        self._call_at(self._now + seconds, self._end_batch, worker, batch)

    def _end_batch(self, worker: _Worker, batch: Sequence[int]) -> None:
        worker.is_busy = False
        for job in batch:
            self._call_at(self._now + 0.02 * self._chance.random(), self._end, worker, job)
        self._run_batch(worker)

    def _end(self, worker: _Worker, job: int) -> None:
        worker.in_hand -= 1
        self.ends[job] = self._now
        ended = EndedJob(self._now, worker.name, self._megapixels[job], self._work[job], bool(self._queue))
        self.ended.append(ended)
        self._claim()

    def _ask(self) -> None:
        if self._queue:
            before = self._chance.randrange(len(self._queue))
            own = self._megapixels[self._queue[before]]
            others = sum(self._megapixels[job] for job in self._queue) - own
            pixels = 1e6 * (own + others * before / max(1, len(self._queue) - 1))
            running = sum(worker.in_hand for worker in self._workers)
            asked = Asked(self._now, self._queue[before], before + 1, pixels, running, len(self.ended))
            self.asked.append(asked)
        if self._events:
            self._call_at(self._now + ASK_SECONDS, self._ask)
