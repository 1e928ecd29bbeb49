"""Repeated calls to a store: how long, how often, and what ends them."""

from dataclasses import dataclass, field

import pytest

from shared.errors import StorageUnavailable
from worker.pipeline.persistence import MAX_DELAY_SECONDS, Persistence


@dataclass
class Clock:
    """Time passes only by waiting."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)
    pointless_at: float = float("inf")

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return self.now >= self.pointless_at


@dataclass
class Store:
    """Does not answer the first calls."""

    failures: int
    calls: int = 0

    def put(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise StorageUnavailable("no answer")
        return "stored"


def build(clock: Clock, seconds: float, errors: list[object] | None = None) -> Persistence:
    found = [] if errors is None else errors
    return Persistence(seconds, wait=clock.wait, on_error=found.append, clock=lambda: clock.now)


def test_a_call_is_repeated_with_growing_delays_until_it_is_answered() -> None:
    clock, store = Clock(), Store(6)
    errors: list[object] = []

    assert build(clock, 60, errors).call(store.put) == "stored"

    assert store.calls == 7
    assert len(errors) == 6
    assert clock.waits == sorted(clock.waits)
    assert clock.waits[-1] == MAX_DELAY_SECONDS


def test_nothing_is_repeated_without_time() -> None:
    clock, store = Clock(), Store(1)

    with pytest.raises(StorageUnavailable):
        build(clock, 0).call(store.put)

    assert (store.calls, clock.waits) == (1, [])


def test_the_time_counts_from_the_first_error_and_is_shared_by_all_calls() -> None:
    clock = Clock(now=1000.0)
    persistence = build(clock, 10)
    assert persistence.call(Store(2).put) == "stored"

    with pytest.raises(StorageUnavailable):
        persistence.call(Store(10**6).put)

    assert 10 <= clock.now - 1000 <= 10 + MAX_DELAY_SECONDS


def test_it_ends_when_repeating_is_pointless() -> None:
    clock, store = Clock(pointless_at=1.0), Store(10**6)

    with pytest.raises(StorageUnavailable):
        build(clock, 600).call(store.put)

    assert clock.now < 2
