"""The order in which a worker polls its queues, and which of them: only those for whose jobs it has a free slot."""

from collections.abc import Sequence
from typing import Any, Protocol

from kombu.utils.scheduling import priority_cycle

from shared.jobs.model import Priority


class SlotSource(Protocol):
    """The slots of a worker; implemented by worker.pipeline.slots.Slots."""

    @property
    def priorities(self) -> Sequence[Priority]:
        """The jobs for which a slot is free."""


class SlotOrder(priority_cycle):
    """kombu's `queue_order_strategy`: consume() returns the queues to poll.

    A message only wakes a worker, which then claims the job that is due, so the order matters little.
    """

    def __init__(self, slots: SlotSource) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self._slots = slots

    def consume(self, n: int) -> list[str]:
        accepted = self._slots.priorities
        found = [queue for queue in self.items if get_priority(queue) in accepted]
        return sorted(found, key=lambda queue: accepted.index(get_priority(queue)))[:n]

    def rotate(self, last_used: str) -> Any:
        """The order does not depend on the last message."""


def get_priority(queue: str) -> Priority:
    """Return the priority that a queue's name ends with."""
    return Priority(queue.rpartition(".")[2])
