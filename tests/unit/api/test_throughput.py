"""The capacity of a model's workers, measured while they have work without a pause."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.jobs.load import Load
from api.jobs.throughput import MAX_WINDOW_SECONDS, Sample, Throughput
from shared.jobs.model import Priority


def sample_steadily(
    throughput: Throughput, *, rate: float, start: float, seconds: float, has_backlog: bool = True, workers: int = 1
) -> None:
    """Add samples of a service that completes `rate` jobs a second."""
    for step in range(int(seconds / 0.25) + 1):
        at = start + 0.25 * step
        throughput.add(Sample(at, int(1000 + rate * at), has_backlog, workers))


def test_the_rate_of_busy_workers_is_measured_within_seconds() -> None:
    throughput = Throughput()

    sample_steadily(throughput, rate=20, start=0, seconds=2)

    assert throughput.rate == pytest.approx(20, rel=0.1)


def test_an_idle_service_has_no_rate() -> None:
    throughput = Throughput()

    sample_steadily(throughput, rate=2, start=0, seconds=60, has_backlog=False)

    assert throughput.rate is None


def test_a_rare_request_does_not_lower_the_rate() -> None:
    throughput = Throughput()
    sample_steadily(throughput, rate=20, start=0, seconds=10)
    measured = throughput.rate

    for at in range(20, 120, 10):
        throughput.add(Sample(at, 1200 + at // 10, has_backlog=True, workers=1))

    assert throughput.rate == measured


def test_a_rate_that_was_not_measured_for_minutes_is_forgotten() -> None:
    throughput = Throughput()
    sample_steadily(throughput, rate=0.2, start=0, seconds=60)

    throughput.add(Sample(60 + MAX_WINDOW_SECONDS, 1013, has_backlog=True, workers=1))
    assert throughput.rate is not None
    throughput.add(Sample(70 + MAX_WINDOW_SECONDS, 1014, has_backlog=True, workers=1))

    assert throughput.rate is None


def test_a_low_rate_is_raised_by_what_is_completed_without_a_backlog() -> None:
    throughput = Throughput()
    sample_steadily(throughput, rate=20, start=0, seconds=10)
    for step in range(1, 241):
        throughput.add(Sample(10 + 0.25 * step, 1200, has_backlog=True, workers=1))
    assert throughput.rate is not None
    assert throughput.rate < 0.2

    for step in range(1, 49):
        throughput.add(Sample(70 + 0.25 * step, 1200 + step, has_backlog=step % 2 == 0, workers=1))

    assert throughput.rate == pytest.approx(4, rel=0.1)


def test_long_jobs_are_measured_over_a_longer_time() -> None:
    throughput = Throughput()

    sample_steadily(throughput, rate=0.2, start=0, seconds=60)

    assert throughput.rate == pytest.approx(0.2, rel=0.3)


def test_the_rate_follows_a_change() -> None:
    throughput = Throughput()
    sample_steadily(throughput, rate=100, start=0, seconds=20)

    for step in range(1, 61):
        throughput.add(Sample(20 + 0.25 * step, int(3000 + 5 * 0.25 * step), has_backlog=True, workers=1))

    assert throughput.rate == pytest.approx(5, rel=0.2)


def test_workers_that_complete_nothing_any_more_lower_the_rate() -> None:
    throughput = Throughput()
    sample_steadily(throughput, rate=100, start=0, seconds=20)

    for step in range(1, 121):
        throughput.add(Sample(20 + 0.25 * step, 3000, has_backlog=True, workers=1))

    assert throughput.rate is not None
    assert throughput.rate < 40


def test_the_rate_grows_with_the_workers_before_it_is_measured() -> None:
    throughput = Throughput()
    sample_steadily(throughput, rate=10, start=0, seconds=10)

    throughput.add(Sample(10.25, 1102, has_backlog=True, workers=3))

    assert throughput.rate == pytest.approx(30, rel=0.1)


def test_without_workers_there_is_no_rate() -> None:
    throughput = Throughput()
    sample_steadily(throughput, rate=10, start=0, seconds=10)

    throughput.add(Sample(10.25, 1102, has_backlog=True, workers=0))

    assert throughput.rate is None


def test_counting_from_zero_after_redis_lost_its_data_does_not_harm() -> None:
    throughput = Throughput()
    sample_steadily(throughput, rate=10, start=0, seconds=10)

    throughput.add(Sample(10.25, 0, has_backlog=True, workers=1))

    assert throughput.rate == pytest.approx(10, rel=0.1)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50), st.booleans(), st.integers(0, 3)), max_size=60),
)
def test_a_rate_is_unknown_or_positive(steps: list[tuple[float, int, bool, int]]) -> None:
    throughput, at, completed = Throughput(), 0.0, 0

    for gap, done, has_backlog, workers in steps:
        at, completed = at + gap, completed + done
        throughput.add(Sample(at, completed, has_backlog, workers))

        assert throughput.rate is None or 0 < throughput.rate < math.inf


def test_a_job_waits_for_those_of_its_priority_and_above() -> None:
    load = Load(queued={Priority.INTERACTIVE: 20, Priority.NORMAL: 0, Priority.LOW: 0}, running=10, rate=10.0)

    assert load.estimate_wait(Priority.INTERACTIVE) == pytest.approx(3)


def test_a_backlog_of_jobs_delays_an_interactive_one_by_its_bound_on_starvation() -> None:
    load = Load(queued={Priority.INTERACTIVE: 20, Priority.NORMAL: 5000, Priority.LOW: 0}, rate=10.0)

    assert load.estimate_wait(Priority.INTERACTIVE) == pytest.approx(2.5)


@pytest.mark.parametrize(
    "load",
    [
        Load(queued=dict.fromkeys(Priority, 1000), rate=None),
        Load(queued={Priority.INTERACTIVE: 0, Priority.NORMAL: 10_000}, running=8, rate=0.001),
    ],
)
def test_nothing_is_estimated_without_a_rate_or_without_a_job_before(load: Load) -> None:
    assert load.estimate_wait(Priority.INTERACTIVE) == 0


@pytest.mark.parametrize("capacity", [0.5, 8.0, 150.0])
def test_admission_at_twice_the_capacity_keeps_the_workers_busy_and_the_wait_bounded(capacity: float) -> None:
    """An open loop of twice the capacity, in steps of 50 ms: arrivals, admission by the estimate, completions."""
    rng, throughput, load = random.Random(1), Throughput(), Load()
    queued, completed, busy, worst, most, step = 0.0, 0.0, 0, 0.0, 10.0, 0.05
    for number in range(int(120 / step)):
        at = number * step
        if number % 5 == 0:
            throughput.add(Sample(at, int(completed), queued >= 1, 1))
            load = Load(queued={Priority.INTERACTIVE: int(queued)}, rate=throughput.rate)
        for _ in range(sum(rng.random() < capacity * 2 * step / 20 for _ in range(20))):
            if load.estimate_wait(Priority.INTERACTIVE) <= most:
                queued += 1
        done = min(queued, capacity * step)
        queued, completed = queued - done, completed + done
        if at >= 60:
            busy += done > 0
            worst = max(worst, queued / capacity)

    assert busy * step >= 0.9 * 60
    assert worst <= 1.3 * most + 2 / capacity


def test_a_worker_that_hung_for_a_minute_is_used_again_within_minutes() -> None:
    """An open loop of half the capacity; the load is read when a request comes, and while there is work."""
    capacity, arrivals = 5.0, 3.0
    rng, throughput, load = random.Random(1), Throughput(), Load()
    queued, completed, refused, step = 0.0, 0.0, Counter[int](), 0.05
    sample_steadily(throughput, rate=capacity, start=0, seconds=20)
    completed = 1000 + 20 * capacity
    for number in range(int(400 / step)):
        at = 20 + number * step
        arrives = rng.random() < arrivals * step
        if (queued or arrives) and number % 5 == 0:
            throughput.add(Sample(at, int(completed), queued >= 1, 1))
            load = Load(queued={Priority.INTERACTIVE: math.ceil(queued)}, rate=throughput.rate)
        if arrives:
            is_refused = load.estimate_wait(Priority.INTERACTIVE) > 10
            queued += not is_refused
            refused[int(at // 100)] += is_refused
        done = 0 if at < 80 else min(queued, capacity * step)
        queued, completed = queued - done, completed + done

    assert refused[0] > 0
    assert refused[2] == refused[3] == 0
