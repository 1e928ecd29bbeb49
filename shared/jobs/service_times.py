"""How fast the workers of a model complete jobs, from the last jobs that ended (finish.lua lists them).  No I/O.

The work of a job is told by a line through that of the last jobs by the pixels of their images.  The rate is what a
worker completes in a second in which it was busy: between two ends of its jobs, if another job was queued at the first.
So full batches, parallel stages and pauses between batches count as they are.  The busy time is divided into spans of
a few seconds.  A later span counts more, and how much spans differ tells how sure the rate is.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from shared.jobs.model import JobRequest

# Stages in which a job waits for others.
_WAITS = frozenset({"queue", "batch"})
# As many jobs of a worker must end one after the other while others are queued.  Fewer tell too little: at low load a
# job is queued for the moments before its claim, and the time until the next end is no work.
MIN_JOBS = 8
# Between two ends of a worker that was busy.
MAX_INTERVAL_SECONDS = 300.0
# Of one span: shorter ones are no longer than a batch, longer ones follow a change of the load too late.
SPAN_SECONDS, SPAN_JOBS, MAX_SPANS = 2.0, 16, 8
# Of a span, relative to the next one.
SPAN_WEIGHT = 0.6
# The deviation of a rate before it was measured, which counts as much as the last span.
PRIOR_DEVIATION = 0.15


@dataclass(frozen=True, slots=True)
class Eta:
    """The range in which a job ends, unix seconds by the clock of Redis."""

    earliest: float
    latest: float


def build_service_time(request: JobRequest, timings_ms: Mapping[str, float], batch_size: int) -> dict[str, Any]:
    """Return the arguments of finish.lua: the megapixels of a job, and the milliseconds of its own stages."""
    work_ms = sum(ms for stage, ms in timings_ms.items() if stage not in _WAITS)
    # Of the device's time, an image has its share of the batch.
    device_ms = timings_ms.get("device", 0.0)
    work_ms -= device_ms - device_ms / max(1, batch_size)
    # Of a job that ended before its image was read, the pixels are not known.
    pixels = request.image.width * request.image.height if request.image else 0
    return {"megapixels": pixels / 1e6, "work_ms": work_ms}


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that ran.  at: unix seconds of its end.  has_backlog: another job was queued then."""

    at: float
    worker: str
    megapixels: float
    work_ms: float
    has_backlog: bool

    @classmethod
    def from_json(cls, text: str) -> Self:
        at, worker, megapixels, work_ms, backlog = json.loads(text)
        return cls(float(at), worker, float(megapixels), float(work_ms), backlog == 1)


@dataclass(frozen=True, slots=True)
class Span:
    """Some seconds of busy time.

    first_at, last_at: of the ends in it.  seconds: of all workers.
    interval_seconds: between two ends of a worker, weighted by themselves, since most ends of a batch follow at once.
    """

    first_at: float
    last_at: float
    jobs: int
    megapixels: float
    seconds: float
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class WorkRate:
    """How fast a busy worker is.

    work_ms: milliseconds of work that a worker completes in a second.
    deviation: standard deviation of that of a span, relative to it.
    spans: of equal weight, by which it was measured.  span_seconds: their mean duration.
    interval_seconds: between two batches of a worker.
    ahead_seconds: that all workers together have worked since the last end of each.
    """

    work_ms: float
    deviation: float = 0.0
    spans: float = 1.0
    span_seconds: float = 0.0
    interval_seconds: float = 0.0
    ahead_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """What the last jobs of a model tell of further ones.

    fixed_ms, ms_per_megapixel: of the line.  spread_ms: standard deviation of the work of a job.
    mean_megapixels: of the last jobs.
    rate: None if it is unknown.
    running: jobs of all models.
    """

    fixed_ms: float = 0.0
    ms_per_megapixel: float = 0.0
    spread_ms: float = 0.0
    mean_megapixels: float = 0.0
    rate: WorkRate | None = None
    running: int = 0

    @classmethod
    def measure(cls, ended: Sequence[EndedJob], now: float, *, running: int = 0) -> Self:
        """Measure the last jobs of a model, in the order of their ends.

        Args:
            now: unix seconds by the clock of the ends.
        """
        if not ended:
            return cls(running=running)
        fixed, slope = fit_line([(one.megapixels, one.work_ms) for one in ended])
        return cls(
            fixed,
            slope,
            statistics.pstdev(one.work_ms for one in ended),
            statistics.fmean(one.megapixels for one in ended),
            _measure_rate(ended, now, fixed, slope),
            running,
        )

    def estimate_work(self, jobs: float, megapixels: float) -> float:
        """Return the milliseconds of work of so many jobs with so many megapixels in all."""
        return self.fixed_ms * jobs + self.ms_per_megapixel * megapixels


def _measure_rate(ended: Sequence[EndedJob], now: float, fixed: float, slope: float) -> WorkRate | None:
    spans = list_spans(ended)
    works = [fixed * span.jobs + slope * span.megapixels for span in spans]
    if not sum(works):
        return None
    weights = [SPAN_WEIGHT**number for number in range(len(spans))]
    rate = _sum_products(weights, works) / _sum_products(weights, [span.seconds for span in spans])
    errors = [(work / span.seconds / rate - 1) ** 2 for work, span in zip(works, spans, strict=True)]
    interval = spans[0].interval_seconds
    return WorkRate(
        rate,
        math.sqrt((_sum_products(weights, errors) + PRIOR_DEVIATION**2) / (sum(weights) + 1)),
        sum(weights) ** 2 / _sum_products(weights, weights),
        statistics.fmean(span.last_at - span.first_at for span in spans),
        interval,
        _measure_ahead(ended, now, interval),
    )


def _sum_products(some: Sequence[float], others: Sequence[float]) -> float:
    return sum(one * other for one, other in zip(some, others, strict=True))


def fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the intercept and the slope of the least-squares line, neither of them negative; at least one point.

    Points of one x tell no slope.
    """
    count = len(points)
    x, y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    variance = sum((one - x) ** 2 for one, _ in points) / count
    covariance = sum((one - x) * (other - y) for one, other in points) / count
    slope = covariance / variance if variance > 1e-4 * x * x else 0.0
    slope = min(max(0.0, slope), y / x if x else 0.0)
    return max(0.0, y - slope * x), slope


def list_spans(ended: Sequence[EndedJob]) -> list[Span]:
    """Divide the busy time of all workers into spans, the last one first."""
    spans: list[Span] = []
    taken: list[tuple[EndedJob, float]] = []
    # Not sorted in reverse: that would keep jobs of one moment in the order of their ends.
    for one, seconds in sorted(_list_busy(ended), key=lambda busy: busy[0].at)[::-1]:
        taken.append((one, seconds))
        is_long = taken[0][0].at - one.at + seconds >= SPAN_SECONDS and len(taken) >= SPAN_JOBS
        # The time of a batch counts for the first of its jobs that ended.
        if is_long and seconds > 0.0:
            spans.append(_build_span(taken))
            taken = []
        if len(spans) == MAX_SPANS:
            break
    if not spans and len(taken) >= MIN_JOBS and sum(seconds for _, seconds in taken) > 0:
        spans.append(_build_span(taken))
    return spans


def _build_span(taken: Sequence[tuple[EndedJob, float]]) -> Span:
    first, seconds = taken[-1]
    total = sum(seconds for _, seconds in taken)
    return Span(
        first.at - seconds,
        taken[0][0].at,
        len(taken),
        sum(one.megapixels for one, _ in taken),
        total,
        sum(seconds**2 for _, seconds in taken) / max(1e-9, total),
    )


def _list_busy(ended: Sequence[EndedJob]) -> Iterator[tuple[EndedJob, float]]:
    """Yield each job before whose end its worker was busy, and for how many seconds since the end before."""
    by_worker: dict[str, list[EndedJob]] = defaultdict(list)
    for one in ended:
        by_worker[one.worker].append(one)
    for jobs in by_worker.values():
        run: list[tuple[EndedJob, float]] = []
        for before, one in pairwise(jobs):
            seconds = max(0.0, one.at - before.at)
            if before.has_backlog and seconds <= MAX_INTERVAL_SECONDS:
                run.append((one, seconds))
                continue
            yield from run if len(run) >= MIN_JOBS else []
            run = []
        yield from run if len(run) >= MIN_JOBS else []


def _measure_ahead(ended: Sequence[EndedJob], now: float, interval: float) -> float:
    """Return for how long workers have worked on what has not ended yet; a worker of which no end is due is gone."""
    last = {one.worker: one for one in ended}
    elapsed = [max(0.0, now - one.at) for one in last.values() if one.has_backlog]
    return sum(min(seconds, interval) for seconds in elapsed if seconds <= 3 * interval)
