"""The order in which a worker polls its queues."""

from collections import Counter

from shared.broker.queue_order import PriorityOrder
from shared.jobs.model import Priority

QUEUES = [f"segment.acme/a.model.{priority}" for priority in (Priority.LOW, Priority.NORMAL, Priority.INTERACTIVE)]


def take_message(order: PriorityOrder, backlog: set[str]) -> str:
    """Take one message as kombu does, from the first queue that has any; return its priority."""
    queue = next(queue for queue in order.consume(3) if queue in backlog)
    order.rotate(queue)
    return queue.rpartition(".")[2]


def test_interactive_messages_come_first_and_low_ones_last() -> None:
    order = PriorityOrder(QUEUES)

    assert [queue.rpartition(".")[2] for queue in order.consume(3)] == ["interactive", "normal", "low"]


def test_a_queue_of_lower_priority_does_not_starve() -> None:
    order = PriorityOrder(QUEUES)

    counts = Counter(take_message(order, set(QUEUES)) for _ in range(1000))

    assert counts["interactive"] > counts["normal"] > counts["low"] >= 35
    assert counts["normal"] >= 180


def test_an_interactive_message_is_not_delayed_by_empty_queues() -> None:
    order = PriorityOrder(QUEUES)

    assert {take_message(order, {QUEUES[2]}) for _ in range(100)} == {"interactive"}
