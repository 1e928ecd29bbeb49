"""The order in which a worker polls its queues: by priority, with a bound on how often a lower one is passed over."""

from collections.abc import Mapping
from typing import Any, Final

from kombu.utils.scheduling import priority_cycle

from shared.jobs.model import Priority

# After this many messages of other queues, a queue of this priority is polled first, so that it never starves.
MAX_PASSED_OVER: Final[Mapping[Priority, int]] = {Priority.NORMAL: 4, Priority.LOW: 24}


class PriorityOrder(priority_cycle):
    """kombu's `queue_order_strategy`: consume() returns the order, rotate() is told which queue a message came from."""

    def __init__(self, it: Any = None) -> None:
        super().__init__(it)  # type: ignore[no-untyped-call]
        self._passed_over = dict.fromkeys(MAX_PASSED_OVER, 0)

    def consume(self, n: int) -> list[str]:
        due = [priority for priority, most in MAX_PASSED_OVER.items() if self._passed_over[priority] >= most]
        order = [*due, *(priority for priority in Priority if priority not in due)]
        return sorted(self.items, key=lambda queue: order.index(get_priority(queue)))[:n]

    def rotate(self, last_used: str) -> None:
        taken = get_priority(last_used)
        for priority in self._passed_over:
            self._passed_over[priority] = 0 if priority is taken else self._passed_over[priority] + 1


def get_priority(queue: str) -> Priority:
    """Return the priority that a queue's name ends with."""
    return Priority(queue.rpartition(".")[2])
