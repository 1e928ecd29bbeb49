"""Which queues a worker polls, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from shared.broker.queue_order import SlotOrder
from shared.jobs.model import Priority

QUEUES = [f"segment.acme/a.model.{priority}" for priority in (Priority.LOW, Priority.NORMAL, Priority.INTERACTIVE)]


@dataclass
class FreeSlots:
    priorities: Sequence[Priority]


@pytest.mark.parametrize("accepted", [[], [Priority.INTERACTIVE], list(Priority)])
def test_queues_without_a_free_slot_are_left_out_and_the_others_come_by_priority(accepted: list[Priority]) -> None:
    order = SlotOrder(FreeSlots(accepted))
    order.update(QUEUES)

    assert [queue.rpartition(".")[2] for queue in order.consume(3)] == accepted


def test_a_slot_that_becomes_free_counts_for_the_next_poll() -> None:
    slots = FreeSlots([])
    order = SlotOrder(slots)
    order.update(QUEUES)

    slots.priorities = [Priority.INTERACTIVE]

    assert order.consume(3) == [QUEUES[2]]
