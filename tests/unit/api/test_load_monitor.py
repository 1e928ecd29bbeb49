"""The load of a model is read seldom, by one thread at a time, and for each model apart."""

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from api.jobs.load import CACHE_SECONDS, LoadMonitor, clamp_retry_after
from api.model_registry import ModelStatus
from shared.errors import StoreUnavailable
from shared.jobs.model import Priority
from shared.jobs.store import LoadSnapshot
from shared.worker_registry import WorkerState, WorkerStatus
from tests.support.polling import wait_until


def build_model(name: str, *states: WorkerState) -> ModelStatus:
    return ModelStatus(name, tuple(WorkerStatus(str(number), name, state) for number, state in enumerate(states)))


ROADS = build_model("acme/roads", WorkerState.READY)
CARS = build_model("acme/cars", WorkerState.READY, WorkerState.READY, WorkerState.LOADING)


@dataclass
class FakeSource:
    """Job store and registry: ten more jobs are completed at each measurement, of which there is always a backlog."""

    now: float = 100.0
    measured: Counter[str] = field(default_factory=Counter)
    gate: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def measure_load(self, model: str) -> LoadSnapshot:
        self.measured[model] += 1
        self.gate.wait()
        if self.error:
            raise self.error
        queued = {Priority.INTERACTIVE: 20, Priority.NORMAL: 0, Priority.LOW: 0}
        return LoadSnapshot(queued, 30, 10 * self.measured[model], 90, 100)

    def list_all(self) -> Sequence[ModelStatus]:
        return ROADS, CARS

    def read_time(self) -> float:
        return self.now


@pytest.fixture
def source() -> FakeSource:
    source = FakeSource()
    source.gate.set()
    return source


@pytest.fixture
def monitor(source: FakeSource) -> LoadMonitor:
    return LoadMonitor(source, source, source.read_time)


def test_many_requests_cause_one_measurement(source: FakeSource, monitor: LoadMonitor) -> None:
    loads = [monitor.read(ROADS) for _ in range(1000)]

    assert source.measured == {ROADS.id: 1}
    assert len(set(map(id, loads))) == 1
    source.now += CACHE_SECONDS
    monitor.read(ROADS)
    assert source.measured == {ROADS.id: 2}


def test_a_slow_measurement_delays_one_request_only(source: FakeSource, monitor: LoadMonitor) -> None:
    source.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(monitor.read, ROADS)
        wait_until(lambda: source.measured[ROADS.id])

        assert monitor.read(ROADS).rate is None
        source.gate.set()
        assert slow.result(timeout=10).queued[Priority.INTERACTIVE] == 20


def test_the_rate_and_the_wait_follow_from_the_measurements(source: FakeSource, monitor: LoadMonitor) -> None:
    for _ in range(5):
        load = monitor.read(ROADS)
        source.now += 1

    assert load.rate == pytest.approx(10)
    assert load.memory_share == pytest.approx(0.9)
    # Of the 30 running jobs of all models a third belongs to this one, by the number of ready workers.
    assert load.estimate_wait(Priority.INTERACTIVE) == pytest.approx((20 + 10) / 10)


def test_models_are_measured_apart(source: FakeSource, monitor: LoadMonitor) -> None:
    assert monitor.read(ROADS).running == pytest.approx(10)
    assert monitor.read(CARS).running == pytest.approx(20)
    assert source.measured == {ROADS.id: 1, CARS.id: 1}


def test_redis_that_does_not_answer_fails_one_request_and_keeps_the_last_load(
    source: FakeSource, monitor: LoadMonitor
) -> None:
    before = monitor.read(ROADS)
    source.now += 1
    source.error = StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable):
        monitor.read(ROADS)

    assert monitor.read(ROADS) is before


@pytest.mark.parametrize(("seconds", "value"), [(0.0, 1), (1.2, 2), (59.5, 60), (4000.0, 60)])
def test_retry_after_is_a_whole_number_of_seconds_up_to_a_minute(seconds: float, value: int) -> None:
    assert clamp_retry_after(seconds) == value
