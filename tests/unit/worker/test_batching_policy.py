"""The batching policy by example and by property, on simulated times."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.model import Priority
from worker.batching.policy import BatchLimits, BatchPlan, DispatchReason, plan_batch

LIMITS = BatchLimits(
    max_images=4, max_pixels=100, max_wait_seconds=0.003, normal_handicap_seconds=0.5, low_handicap_seconds=5.0
)


def always() -> bool:
    return True


def never() -> bool:
    return False


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    pixels: int = 10
    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None
    enqueued_at: float = 0.0
    is_wanted: Callable[[], bool] = always


def plan(
    *queued: Item,
    now: float = 0.0,
    idle_since: float = -1.0,
    limits: BatchLimits = LIMITS,
    is_more_announced: bool = True,
    is_draining: bool = False,
) -> BatchPlan[Item]:
    return plan_batch(
        queued,
        now=now,
        idle_since=idle_since,
        limits=limits,
        is_more_announced=is_more_announced,
        is_draining=is_draining,
    )


def test_an_empty_queue_gives_an_empty_plan() -> None:
    assert plan() == BatchPlan()


def test_an_idle_device_waits_for_an_announced_image() -> None:
    item = Item(enqueued_at=5.0)

    result = plan(item, now=5.001)

    assert result == BatchPlan(waiting=(item,), wait_until=5.0 + LIMITS.max_wait_seconds)


def test_an_idle_device_starts_at_once_if_no_image_is_announced() -> None:
    item = Item(enqueued_at=5.0)

    result = plan(item, now=5.0, is_more_announced=False)

    assert result == BatchPlan(batch=(item,), reason=DispatchReason.IDLE)


def test_the_wait_ends_after_max_wait_seconds() -> None:
    item = Item(enqueued_at=5.0)

    result = plan(item, now=5.0 + LIMITS.max_wait_seconds)

    assert result == BatchPlan(batch=(item,), reason=DispatchReason.TIMEOUT)


def test_an_image_queued_while_the_device_was_busy_is_not_delayed() -> None:
    item = Item(enqueued_at=5.0)

    result = plan(item, now=5.001, idle_since=5.001)

    assert result == BatchPlan(batch=(item,), reason=DispatchReason.BACKLOG)


def test_a_full_batch_is_not_delayed() -> None:
    items = [Item() for _ in range(5)]

    result = plan(*items)

    assert result == BatchPlan(batch=tuple(items[:4]), waiting=(items[4],), reason=DispatchReason.FULL)


def test_a_batch_is_full_when_the_next_image_would_exceed_max_pixels() -> None:
    small, large = Item(pixels=60), Item(pixels=50)

    result = plan(small, large)

    assert result == BatchPlan(batch=(small,), waiting=(large,), reason=DispatchReason.FULL)


def test_an_image_above_max_pixels_forms_a_batch_of_its_own() -> None:
    giant, small = Item(pixels=1000), Item()

    result = plan(giant, small)

    assert result == BatchPlan(batch=(giant,), waiting=(small,), reason=DispatchReason.FULL)


def test_a_drain_does_not_delay_a_batch() -> None:
    item = Item(enqueued_at=5.0)

    result = plan(item, now=5.0, is_draining=True)

    assert result == BatchPlan(batch=(item,), reason=DispatchReason.DRAINING)


def test_canceled_and_expired_images_are_dropped_and_do_not_count_towards_the_batch() -> None:
    canceled, expired = Item(is_wanted=never, deadline=0.0), Item(deadline=1.0)
    good = [Item(deadline=1.5) for _ in range(4)]

    result = plan(canceled, expired, *good, now=1.0)

    assert result == BatchPlan(batch=tuple(good), canceled=(canceled,), expired=(expired,), reason=DispatchReason.FULL)


def test_interactive_images_are_served_before_older_normal_ones() -> None:
    normal = [Item(priority=Priority.NORMAL, enqueued_at=0.0) for _ in range(3)]
    interactive = [Item(enqueued_at=0.1) for _ in range(3)]

    result = plan(*normal, *interactive, now=0.2, idle_since=0.2)

    assert result.batch == (*interactive, normal[0])


def test_a_normal_image_older_than_its_handicap_is_served_before_interactive_ones() -> None:
    normal = Item(priority=Priority.NORMAL, enqueued_at=0.0)
    interactive = [Item(enqueued_at=0.6) for _ in range(6)]

    result = plan(normal, *interactive, now=0.7, idle_since=0.7)

    assert result.batch == (normal, *interactive[:3])


def test_low_priority_images_are_served_after_the_other_priorities() -> None:
    low = Item(priority=Priority.LOW, enqueued_at=0.0)
    normal = Item(priority=Priority.NORMAL, enqueued_at=4.0)
    interactive = Item(enqueued_at=4.7)

    result = plan(low, normal, interactive, now=4.8, idle_since=4.8)

    assert result.batch == (normal, interactive, low)


def test_a_low_priority_image_older_than_its_handicap_is_served_first() -> None:
    low = Item(priority=Priority.LOW, enqueued_at=0.0)
    normal = Item(priority=Priority.NORMAL, enqueued_at=4.6)
    interactive = Item(enqueued_at=5.2)

    result = plan(low, normal, interactive, now=5.3, idle_since=5.3)

    assert result.batch == (low, normal, interactive)


def test_the_default_handicap_grows_from_interactive_to_low() -> None:
    handicaps = [BatchLimits().get_handicap_seconds(priority) for priority in Priority]

    assert handicaps == [0.0, 0.5, 5.0]


items = st.builds(
    Item,
    pixels=st.integers(1, 150),
    priority=st.sampled_from(Priority),
    deadline=st.sampled_from([None, 0.0, 1.5, 2.0, 2.5, 3.0]),  # with the bounds of `moments`; one draw, so fast
    enqueued_at=st.floats(0, 2),
    is_wanted=st.sampled_from([always, always, always, never]),
)
queues = st.lists(items, max_size=20).map(lambda drawn: sorted(drawn, key=lambda item: item.enqueued_at))
moments = st.floats(2, 3)


@given(queued=queues, now=moments, idle_since=st.floats(0, 3), is_draining=st.booleans())
def test_a_plan_is_a_partition_of_the_queue(
    queued: list[Item], now: float, idle_since: float, is_draining: bool
) -> None:
    result = plan(*queued, now=now, idle_since=idle_since, is_draining=is_draining)

    images = [*result.batch, *result.canceled, *result.expired, *result.waiting]
    assert sorted(map(id, images)) == sorted(map(id, queued))
    assert bool(result.batch) == (result.reason is not None)


@given(queued=queues, now=moments)
def test_a_batch_does_not_exceed_its_limits(queued: list[Item], now: float) -> None:
    batch = plan(*queued, now=now, idle_since=now).batch

    assert len(batch) <= LIMITS.max_images
    assert len(batch) <= 1 or sum(item.pixels for item in batch) <= LIMITS.max_pixels


@given(queued=queues, now=moments)
def test_canceled_and_expired_images_never_reach_the_device(queued: list[Item], now: float) -> None:
    batch = plan(*queued, now=now, idle_since=now).batch

    assert all(item.is_wanted() and (item.deadline is None or item.deadline > now) for item in batch)


@given(queued=queues, now=moments)
def test_a_priority_is_served_in_the_order_of_arrival(queued: list[Item], now: float) -> None:
    result = plan(*queued, now=now, idle_since=now)

    for priority in Priority:
        same_priority = [
            item for item in queued if item.priority is priority and item in (*result.batch, *result.waiting)
        ]
        served = [item for item in result.batch if item.priority is priority]
        assert served == same_priority[: len(served)]


@given(queued=queues, now=moments)
def test_an_idle_device_never_waits_longer_than_max_wait_seconds(queued: list[Item], now: float) -> None:
    result = plan(*queued, now=now)

    assert result.wait_until is None or now < result.wait_until <= now + LIMITS.max_wait_seconds


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.LOW])
def test_continuous_interactive_load_does_not_starve_a_lower_priority(priority: Priority) -> None:
    starved = Item(priority=priority, enqueued_at=0.0)
    queue = [starved]
    now = 0.0

    while starved in queue and now < 10.0:
        now += 0.05
        queue += [Item(enqueued_at=now - 0.01) for _ in range(LIMITS.max_images)]
        queue = list(plan(*queue, now=now, idle_since=now).waiting)

    assert now < LIMITS.get_handicap_seconds(priority) + 0.2


@given(queued=queues)
def test_every_image_is_served_eventually(queued: list[Item]) -> None:
    queue, rounds = list(queued), 0

    while queue:
        queue = list(plan(*queue, now=2.0, idle_since=2.0).waiting)
        rounds += 1

    assert rounds <= len(queued)
