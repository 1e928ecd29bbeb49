"""What the last jobs of a model tell: their work by their pixels, and the rate of busy workers."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.service_times import EndedJob, ServiceTimes, build_service_time, fit_line
from tests.support.jobs import build_request


def list_batches(worker: str, seconds: float, *, batches: int = 10, has_backlog: bool = True) -> list[EndedJob]:
    """Return the jobs of batches of eight that take so long each, with 10 ms of work for each image."""
    return [EndedJob(seconds * (1 + job // 8), worker, 1.0, 10.0, has_backlog) for job in range(8 * batches)]


def merge(*jobs: Sequence[EndedJob]) -> list[EndedJob]:
    return sorted((one for some in jobs for one in some), key=lambda one: one.at)


@given(
    fixed=st.floats(0, 500),
    slope=st.floats(0, 500),
    sizes=st.lists(st.floats(0.05, 60), min_size=2, max_size=30, unique=True),
)
def test_a_line_through_exact_values_is_found(fixed: float, slope: float, sizes: list[float]) -> None:
    values = [fixed + slope * x for x in sizes]

    found_fixed, found_slope = fit_line(list(zip(sizes, values, strict=True)))

    assert found_fixed * len(sizes) + found_slope * sum(sizes) == pytest.approx(sum(values), rel=1e-3, abs=1e-3)
    assert found_fixed >= 0
    assert found_slope >= 0


def test_nothing_is_known_before_the_first_job() -> None:
    assert ServiceTimes.measure([], 0.0, running=3) == ServiceTimes(running=3)


def test_the_rate_is_what_a_worker_completes_in_whole_batches() -> None:
    rate = ServiceTimes.measure(merge(list_batches("a", 0.5), list_batches("b", 0.5)), 5.2).rate

    assert rate is not None
    assert rate.work_ms == pytest.approx(160)
    assert rate.interval_seconds == pytest.approx(0.5)
    assert rate.ahead_seconds == pytest.approx(0.4)


def test_a_worker_that_is_gone_counts_for_the_time_in_which_it_worked() -> None:
    gone, present = list_batches("gone", 0.5, batches=5), list_batches("present", 0.5, batches=12)

    rate = ServiceTimes.measure(merge(gone, present), 6.0).rate

    assert rate is not None
    assert rate.work_ms == pytest.approx(160)
    assert rate.ahead_seconds == 0


def test_a_worker_that_waits_for_jobs_tells_no_rate() -> None:
    assert ServiceTimes.measure(list_batches("a", 0.5, has_backlog=False), 5.0).rate is None


def test_the_last_seconds_count_most() -> None:
    slow = list_batches("a", 1.0, batches=20)
    fast = [EndedJob(20 + 0.5 * (1 + job // 8), "a", 1.0, 10.0, has_backlog=True) for job in range(8 * 12)]

    rate = ServiceTimes.measure(slow + fast, 26.0).rate

    assert rate is not None
    assert 130 < rate.work_ms < 160
    assert rate.deviation > 0.1


def test_an_image_has_its_share_of_the_batch() -> None:
    timings = {"queue": 900.0, "batch": 40.0, "decode": 5.0, "device": 80.0}

    assert build_service_time(build_request(), timings, 8)["work_ms"] == pytest.approx(15)
    assert build_service_time(build_request(), timings, 0)["work_ms"] == pytest.approx(85)
