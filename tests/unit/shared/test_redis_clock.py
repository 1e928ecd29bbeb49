"""The clock of Redis, as a process knows it: from the round trips of a Redis and a clock that the tests control."""

from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StoreUnavailable
from shared.redis_clock import MAX_AGE_SECONDS, RETRY_SECONDS, RedisClock


@dataclass
class Machines:
    """A process and a Redis; each command takes `there` seconds to Redis and `back` seconds back."""

    monotonic: float = 1000.0
    redis_ahead: float = 1_700_000_000.0
    there: float = 0.0
    back: float = 0.0
    is_away: bool = False
    commands: int = field(default=0, init=False)

    def time(self) -> tuple[int, int]:
        self.commands += 1
        if self.is_away:
            raise redis.ConnectionError("away")
        self.monotonic += self.there
        now = self.redis_now
        self.monotonic += self.back
        return int(now), int(now % 1 * 1e6)

    def read_monotonic(self) -> float:
        return self.monotonic

    @property
    def redis_now(self) -> float:
        return self.monotonic + self.redis_ahead


def open_clock(machines: Machines) -> RedisClock:
    return RedisClock(machines, monotonic=machines.read_monotonic)  # type: ignore[arg-type]


def test_the_time_is_that_of_redis_and_is_asked_for_once_a_minute() -> None:
    machines = Machines()
    clock = open_clock(machines)

    for _ in range(100):
        machines.monotonic += MAX_AGE_SECONDS / 100
        assert clock.now() == pytest.approx(machines.redis_now, abs=1e-5)

    assert machines.commands == 1
    machines.monotonic += 2
    clock.now()
    assert machines.commands == 2


@given(there=st.floats(0, 2), back=st.floats(0, 2))
def test_the_time_is_wrong_by_half_the_round_trip_at_most(there: float, back: float) -> None:
    machines = Machines(there=there, back=back)
    clock = open_clock(machines)

    assert abs(clock.now() - machines.redis_now) <= (there + back) / 2 + 1e-5


def test_a_moment_has_the_same_distance_by_both_clocks() -> None:
    machines = Machines()
    clock = open_clock(machines)

    assert clock.to_monotonic(clock.now() + 30) == pytest.approx(machines.monotonic + 30)
    assert clock.to_unix(machines.monotonic - 5) == pytest.approx(machines.redis_now - 5, abs=1e-5)


def test_without_any_answer_there_is_no_time() -> None:
    machines = Machines(is_away=True)
    clock = open_clock(machines)

    with pytest.raises(StoreUnavailable):
        clock.now()

    machines.is_away = False
    assert clock.now() == pytest.approx(machines.redis_now, abs=1e-5)


def test_the_last_offset_serves_while_redis_is_away_and_redis_is_seldom_asked() -> None:
    machines = Machines()
    clock = open_clock(machines)
    clock.now()
    machines.is_away = True
    machines.monotonic += 10 * MAX_AGE_SECONDS
    asked_before = machines.commands

    for _ in range(10):
        assert clock.now() == pytest.approx(machines.redis_now, abs=1e-5)

    assert machines.commands == asked_before + 1
    machines.monotonic += RETRY_SECONDS
    machines.is_away = False
    clock.now()
    assert machines.commands == asked_before + 2


def observe(clock: RedisClock, machines: Machines, *, there: float = 0.0, back: float = 0.0) -> None:
    """Give the clock the time of an answer that took so long there and back."""
    sent_at = machines.monotonic
    machines.monotonic += there
    now = machines.redis_now
    machines.monotonic += back
    clock.observe(now, sent_at=sent_at)


def test_answers_with_the_time_replace_commands_for_it() -> None:
    machines = Machines()
    clock = open_clock(machines)

    for _ in range(10):
        observe(clock, machines, back=0.001)
        machines.monotonic += MAX_AGE_SECONDS / 2
        clock.now()

    assert machines.commands == 0


def test_a_slow_answer_does_not_replace_a_quick_one() -> None:
    machines = Machines()
    clock = open_clock(machines)
    observe(clock, machines, back=0.001)

    observe(clock, machines, there=2.0)

    assert clock.now() == pytest.approx(machines.redis_now, abs=0.001)


@pytest.mark.parametrize("seconds", [-130, 130])
def test_a_clock_of_redis_that_was_set_is_followed_at_the_next_answer(seconds: float) -> None:
    machines = Machines()
    clock = open_clock(machines)
    observe(clock, machines, back=0.001)
    machines.redis_ahead += seconds

    observe(clock, machines, there=0.5, back=0.5)

    assert clock.now() == pytest.approx(machines.redis_now, abs=0.51)


@given(
    seconds=st.lists(st.floats(0, 100), max_size=20),
    there=st.lists(st.floats(0, 1), min_size=20, max_size=20),
    back=st.lists(st.floats(0, 1), min_size=20, max_size=20),
    drift=st.floats(-0.0005, 0.0005),
)
def test_the_time_stays_within_the_last_round_trip_while_the_clocks_drift(
    seconds: list[float], there: list[float], back: list[float], drift: float
) -> None:
    machines = Machines()
    clock = open_clock(machines)
    observe(clock, machines, there=there[0], back=back[0])

    for pause, one, other in zip(seconds, there, back, strict=False):
        machines.monotonic += pause
        machines.redis_ahead += drift * pause
        observe(clock, machines, there=one, back=other)
        # As exact as the last answer, or as an earlier one whose drift makes it no worse.
        assert abs(clock.now() - machines.redis_now) <= (one + other) / 2 + 1e-5
