"""The estimate of a job's end: from sums of earlier jobs, the jobs before it and the workers."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.jobs.eta import CACHE_SECONDS, EtaEstimator, estimate_end
from api.model_registry import ModelStatus
from shared.jobs.model import Job, JobState, QueuePlace
from shared.jobs.service_times import ServiceTimes, WorkRate
from shared.worker_registry import WorkerState, WorkerStatus
from tests.support.jobs import MODEL, build_request

# 100 ms of work per job, of which a worker completes 500 ms in a second.
RATE = WorkRate(500.0, spans=100.0)
TIMES = ServiceTimes(fixed_ms=100.0, rate=RATE)


def build_job(position: int = 20, pixels: int = 0) -> Job:
    return Job(build_request(), place=QueuePlace(position, pixels))


class Fleet:
    """Workers of one model, and what Redis tells of it; it counts the reads."""

    def __init__(self, workers: int, times: ServiceTimes = TIMES) -> None:
        self.workers = workers
        self.times = times
        self.reads = 0
        self.now = 1000.0

    def measure_service(self, model: str) -> ServiceTimes:
        assert model == MODEL
        self.reads += 1
        return self.times

    def find_place(self, job_id: str) -> QueuePlace | None:
        self.reads += 1
        return QueuePlace(20, 0)

    def list_all(self) -> Sequence[ModelStatus]:
        ready = tuple(WorkerStatus(str(n), MODEL, WorkerState.READY, device="cpu") for n in range(self.workers))
        return [ModelStatus(MODEL, ready)]

    def open(self) -> EtaEstimator:
        return EtaEstimator(self, self, now=lambda: 0.0, clock=lambda: self.now)


def get_middle(estimator: EtaEstimator, job: Job) -> float:
    eta = estimator.estimate(job)
    assert eta is not None
    return (eta.earliest + eta.latest) / 2


def test_the_range_holds_the_work_before_a_job_and_its_own() -> None:
    eta = estimate_end(build_job(20), TIMES, now=500.0, running_share=1, workers=2)

    assert eta is not None
    assert eta.earliest < 502.0 < eta.latest
    assert 0.5 < eta.latest - eta.earliest < 2.0


def test_running_jobs_come_before_it() -> None:
    alone = estimate_end(build_job(), TIMES, now=0, running_share=1, workers=2)
    behind = estimate_end(build_job(), replace(TIMES, running=20), now=0, running_share=1, workers=2)

    assert alone is not None
    assert behind is not None
    assert behind.latest > 1.9 * alone.latest - 1
    assert behind.earliest > alone.earliest


@given(small=st.integers(0, 10**8), more=st.integers(1, 10**9), position=st.integers(1, 1000))
def test_more_pixels_before_a_job_never_make_it_earlier(small: int, more: int, position: int) -> None:
    times = replace(TIMES, ms_per_megapixel=50.0)
    few, many = (
        estimate_end(build_job(position, pixels), times, now=0, running_share=1, workers=2)
        for pixels in (small, small + more)
    )

    assert few is not None
    assert many is not None
    assert many.earliest >= few.earliest
    assert many.latest >= few.latest


@pytest.mark.parametrize(
    ("job", "times", "workers"),
    [
        (build_job(), replace(TIMES, rate=None), 1),
        (build_job(), TIMES, 0),
        (replace(build_job(), place=None), TIMES, 1),
    ],
)
def test_what_is_unknown_is_not_guessed(job: Job, times: ServiceTimes, workers: int) -> None:
    assert estimate_end(job, times, now=0, running_share=1, workers=workers) is None


def test_a_rate_that_varies_gives_a_wider_range() -> None:
    varying = replace(RATE, deviation=0.2, spans=2.0, span_seconds=2.0)
    steady = estimate_end(build_job(), TIMES, now=0, running_share=1, workers=2)
    wide = estimate_end(build_job(), replace(TIMES, rate=varying), now=0, running_share=1, workers=2)

    assert steady is not None
    assert wide is not None
    assert wide.latest - wide.earliest > 1.5 * (steady.latest - steady.earliest)
    assert wide.earliest < steady.earliest
    assert wide.latest > steady.latest


def test_work_since_the_last_ends_counts() -> None:
    begun = replace(RATE, ahead_seconds=2.0)
    before = estimate_end(build_job(), TIMES, now=0, running_share=1, workers=2)
    after = estimate_end(build_job(), replace(TIMES, rate=begun), now=0, running_share=1, workers=2)

    assert before is not None
    assert after is not None
    assert after.latest == pytest.approx(before.latest - 1, abs=0.2)


def test_the_present_number_of_workers_counts() -> None:
    fleet = Fleet(workers=2)
    estimator = fleet.open()
    before = get_middle(estimator, build_job())
    fleet.now += CACHE_SECONDS

    fleet.workers = 1
    after = get_middle(estimator, build_job())

    assert after == pytest.approx(2 * before, rel=0.15)


def test_without_a_worker_nothing_is_estimated() -> None:
    assert Fleet(workers=0).open().estimate(build_job()) is None


def test_polls_within_a_second_read_nothing() -> None:
    fleet = Fleet(workers=1)
    estimator, job = fleet.open(), Job(build_request())
    for _ in range(10):
        assert estimator.locate(job) is not None
    reads = fleet.reads
    fleet.now += CACHE_SECONDS
    estimator.locate(job)

    assert (reads, fleet.reads) == (2, 4)


def test_a_job_that_is_not_queued_has_no_place() -> None:
    fleet = Fleet(workers=1)

    assert fleet.open().locate(Job(build_request(), JobState.RUNNING)) is None
    assert fleet.reads == 0
