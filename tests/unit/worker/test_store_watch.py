"""After an error of a store nothing is claimed, until both stores can take the end of a job."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from shared.jobs.model import Priority
from shared.store_health import StoreState
from tests.support.polling import wait_until
from worker.pipeline.slots import Slots
from worker.pipeline.store_watch import StoreWatch


@dataclass
class Health:
    redis: StoreState = StoreState.OK
    bucket: StoreState = StoreState.OK
    checks: int = 0
    errors: list[Exception] = field(default_factory=list)

    def check_redis(self) -> StoreState:
        self.checks += 1
        if self.errors:
            raise self.errors.pop()
        return self.redis

    def check_bucket(self) -> StoreState:
        return self.bucket


@dataclass
class Watched:
    health: Health = field(default_factory=Health)
    slots: Slots = field(default_factory=lambda: Slots(1, 0))
    wake_ups: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = StoreWatch(self.health, self.slots)
        self.slots.on_free(lambda: self.wake_ups.append("free"))


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    watched.watch.start()
    yield watched
    watched.watch.stop()


def test_nothing_is_checked_without_an_error(watched: Watched) -> None:
    assert watched.slots.priorities == tuple(Priority)
    assert watched.health.checks == 0


@pytest.mark.parametrize(
    ("store", "state"),
    [
        ("redis", StoreState.UNREACHABLE),
        ("redis", StoreState.READ_ONLY),
        ("bucket", StoreState.UNREACHABLE),
        ("bucket", StoreState.READ_ONLY),
        ("bucket", StoreState.FULL),
    ],
)
def test_nothing_is_claimed_while_a_store_refuses_the_end_of_a_job(
    watched: Watched, store: str, state: StoreState
) -> None:
    setattr(watched.health, store, state)

    watched.watch.report_error()
    watched.watch.report_error()

    wait_until(lambda: watched.health.checks >= 2)
    assert not watched.watch.can_end_jobs()
    assert watched.slots.priorities == ()
    with watched.slots.occupy() as slot:
        assert slot is None

    setattr(watched.health, store, StoreState.OK)
    wait_until(lambda: watched.slots.priorities == tuple(Priority))
    assert watched.wake_ups == ["free"]


def test_jobs_that_fill_redis_are_claimed(watched: Watched) -> None:
    watched.health.redis = StoreState.FULL

    watched.watch.report_error()

    wait_until(lambda: watched.wake_ups)
    assert watched.watch.can_end_jobs()
    assert watched.slots.priorities == tuple(Priority)


def test_a_thread_claims_no_further_job_while_a_store_is_ill(watched: Watched) -> None:
    watched.health.redis = StoreState.READ_ONLY
    with watched.slots.occupy() as slot:
        assert slot is not None
        watched.watch.report_error()

        assert not slot.renew()


def test_each_error_starts_a_check(watched: Watched) -> None:
    for count in range(1, 4):
        watched.watch.report_error()
        wait_until(lambda count=count: len(watched.wake_ups) == count)  # type: ignore[misc]
        assert watched.slots.priorities == tuple(Priority)


def test_a_check_that_goes_wrong_does_not_stop_claims_for_ever(watched: Watched) -> None:
    watched.health.errors.append(RuntimeError("a bug"))

    watched.watch.report_error()

    wait_until(lambda: watched.wake_ups)
    assert watched.slots.priorities == tuple(Priority)


def test_it_can_be_stopped_while_a_store_is_ill(watched: Watched) -> None:
    watched.health.bucket = StoreState.UNREACHABLE
    watched.watch.report_error()
    wait_until(lambda: watched.health.checks)

    watched.watch.stop()
