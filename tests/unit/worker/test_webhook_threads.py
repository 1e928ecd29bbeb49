"""The threads that send webhooks: bounded, and none is lost to an error."""

import threading

import pytest

from shared.errors import StoreUnavailable
from shared.webhooks.delivery import ClaimedDelivery, Target
from shared.webhooks.endpoint import PING
from tests.support.polling import wait_until
from worker.steward.webhook_threads import DeliveryThreads


class Deliveries:
    """A list of deliveries that are claimed in order."""

    def __init__(self, count: int) -> None:
        target = Target("public", "wh_1")
        self.left = [
            ClaimedDelivery(target, f"msg_{number}", "", PING, 0.0, 0.0, 1, 0.0, "") for number in range(count)
        ]
        self.lock = threading.Lock()

    def claim(self, limit: int) -> list[ClaimedDelivery]:
        with self.lock:
            claimed, self.left = self.left[:limit], self.left[limit:]
        return claimed


def test_no_more_threads_run_than_allowed_and_each_goes_on_until_nothing_is_due() -> None:
    deliveries, released, running, done = Deliveries(10), threading.Event(), [], []

    def attempt(claimed: ClaimedDelivery) -> None:
        running.append(claimed.message_id)
        released.wait(5)
        done.append(claimed.message_id)

    threads = DeliveryThreads(deliveries.claim, attempt, threads=3)
    for _ in range(3):
        threads.send_due()
    wait_until(lambda: len(running) == 3)
    assert len(deliveries.left) == 7

    released.set()
    wait_until(lambda: len(done) == 10)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ZeroDivisionError("a bug")])
def test_a_thread_is_free_again_after_an_error(error: Exception) -> None:
    deliveries, attempted = Deliveries(4), []

    def attempt(claimed: ClaimedDelivery) -> None:
        attempted.append(claimed.message_id)
        raise error

    threads = DeliveryThreads(deliveries.claim, attempt, threads=1)

    def send_and_count() -> int:
        threads.send_due()
        return len(attempted)

    wait_until(lambda: send_and_count() == 4)


def test_nothing_is_claimed_after_the_end() -> None:
    deliveries = Deliveries(4)
    threads = DeliveryThreads(deliveries.claim, lambda _: None, threads=2)

    threads.stop()
    threads.send_due()

    assert len(deliveries.left) == 4
