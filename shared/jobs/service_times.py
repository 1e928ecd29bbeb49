"""How long jobs of a model take by the pixels of their images, from sums that finish.lua keeps in Redis.  No I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from shared.jobs.model import JobRequest

# Stages in which a job waits for others.
_WAITS = frozenset({"queue", "batch"})
# Fewer jobs tell too little.
MIN_JOBS = 8.0
MIN_BUSY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Eta:
    """The range in which a job ends, unix seconds by the clock of Redis."""

    earliest: float
    latest: float


def build_service_time(request: JobRequest, timings_ms: Mapping[str, float]) -> dict[str, Any]:
    """Return the arguments of finish.lua: the megapixels of a job, and the milliseconds of its own stages."""
    work_ms = sum(ms for stage, ms in timings_ms.items() if stage not in _WAITS)
    # Of a job that ended before its image was read, the pixels are not known.
    pixels = request.image.width * request.image.height if request.image else 0
    return {"megapixels": pixels / 1e6, "work_ms": work_ms}


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """A line through the work of the last jobs by their megapixels, and how much work is completed while jobs wait.

    fixed_ms, ms_per_megapixel: of the line.  spread_ms: standard deviation of the work of a job around it.
    mean_megapixels: of the last jobs.
    work_rates: milliseconds of work that all workers complete in a second, the lower and the higher of that of the last
        seconds and that of the last half minute; None if it is unknown.
    measured_jobs: in the last half minute.
    running: jobs of all models.
    """

    fixed_ms: float = 0.0
    ms_per_megapixel: float = 0.0
    spread_ms: float = 0.0
    mean_megapixels: float = 0.0
    work_rates: tuple[float, float] | None = None
    measured_jobs: float = 0.0
    running: int = 0

    @classmethod
    def from_sums(cls, sums: Mapping[str, Any], *, running: int = 0) -> Self:
        """Fit the line by least squares; neither of its two numbers is negative.

        Args:
            sums: as finish.lua stores them; empty if no job has ended.
        """
        jobs = float(sums.get("jobs", 0))
        if jobs <= 0:
            return cls(running=running)
        x, y, xx, xy, yy = (float(sums[name]) / jobs for name in ("x", "y", "xx", "xy", "yy"))
        fixed, slope = _fit_line(x, y, xx, xy)
        # Of the squares of y - fixed - slope * x.
        variance = yy - 2 * (fixed * y + slope * xy) + fixed * fixed + 2 * fixed * slope * x + slope * slope * xx
        rates = [_measure_rate(sums, window, fixed, slope) for window in ("busy", "recent")]
        known = sorted(rate for rate in rates if rate is not None)
        return cls(
            fixed,
            slope,
            math.sqrt(max(0.0, variance)),
            x,
            (known[0], known[-1]) if len(known) == len(rates) else None,
            float(sums["busy_jobs"]),
            running,
        )

    def estimate_work(self, jobs: float, megapixels: float) -> float:
        """Return the milliseconds of work of so many jobs with so many megapixels in all."""
        return self.fixed_ms * jobs + self.ms_per_megapixel * megapixels


def _measure_rate(sums: Mapping[str, Any], window: str, fixed: float, slope: float) -> float | None:
    jobs, seconds, megapixels = (float(sums[f"{window}_{name}"]) for name in ("jobs", "seconds", "x"))
    work = fixed * jobs + slope * megapixels
    return work / seconds if jobs >= MIN_JOBS and seconds >= MIN_BUSY_SECONDS and work > 0 else None


def _fit_line(x: float, y: float, xx: float, xy: float) -> tuple[float, float]:
    """Return the intercept and the slope of the least-squares line, from means; images of one size tell no slope."""
    variance = xx - x * x
    slope = (xy - x * y) / variance if variance > 1e-4 * xx else 0.0
    slope = min(max(0.0, slope), y / x if x else 0.0)
    return max(0.0, y - slope * x), slope
