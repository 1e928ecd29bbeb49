"""The steward's periodic duties."""

import threading

from shared.errors import StoreUnavailable
from tests.support.polling import wait_until
from worker.steward.duties import Duty, DutyScheduler


def test_a_failing_duty_is_repeated() -> None:
    runs: list[int] = []

    def fail() -> None:
        runs.append(len(runs))
        raise StoreUnavailable("unavailable") if len(runs) % 2 else ZeroDivisionError("a bug")

    scheduler = DutyScheduler([Duty("fail", 0.01, fail)])
    scheduler.start()
    wait_until(lambda: len(runs) >= 4)
    scheduler.stop()
    scheduler.join(5.0)

    assert len(runs) >= 4


def test_a_slow_duty_does_not_delay_another() -> None:
    released, runs = threading.Event(), []
    scheduler = DutyScheduler(
        [Duty("slow", 0.01, lambda: released.wait(5.0)), Duty("fast", 0.01, lambda: runs.append(1))]  # type: ignore[arg-type, return-value]
    )

    scheduler.start()
    wait_until(lambda: len(runs) >= 3)
    released.set()
    scheduler.stop()
    scheduler.join(5.0)
