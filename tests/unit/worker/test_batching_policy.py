"""The batching policy by example and by property, on simulated times."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.model import Priority
from worker.batching.cost import UNKNOWN_COST, BatchCost, update_cost
from worker.batching.policy import BatchLimits, BatchPlan, DispatchReason, plan_batch

LIMITS = BatchLimits(
    max_images=4, max_pixels=100, max_wait_seconds=0.003, normal_handicap_seconds=0.5, low_handicap_seconds=5.0
)


# Costs that are known exactly: larger batches always gain, the figures of a GPU, those of a CPU.
FREE = BatchCost((0.001, 0.0, 0.0))
GPU = BatchCost((0.02, 0.002, 0.0))
CPU = BatchCost((0.001, 0.11, 0.0))
SLOW_CPU = BatchCost((0.0, 5.0, 0.0))
LARGE = BatchLimits(max_images=16, max_pixels=48_000_000, max_interactive_wait_seconds=0.25)


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
    is_alone: bool = False


def plan(
    *queued: Item,
    now: float = 0.0,
    idle_since: float = -1.0,
    limits: BatchLimits = LIMITS,
    cost: BatchCost = FREE,
    is_more_announced: bool = True,
    is_draining: bool = False,
) -> BatchPlan[Item]:
    return plan_batch(
        queued,
        now=now,
        idle_since=idle_since,
        limits=limits,
        cost=cost,
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


def test_an_image_that_is_alone_waits_for_no_other() -> None:
    item = Item(enqueued_at=5.0, is_alone=True)

    assert plan(item, now=5.0) == BatchPlan(batch=(item,), reason=DispatchReason.FULL)


def test_an_image_that_is_alone_lets_those_before_it_go_first_and_at_once() -> None:
    first, second, suspect, later = (Item(enqueued_at=5.0 + n / 1e6, is_alone=n == 2) for n in range(4))

    result = plan(first, second, suspect, later, now=5.0001)
    assert result == BatchPlan(batch=(first, second), waiting=(suspect, later), reason=DispatchReason.FULL)

    result = plan(*result.waiting, now=5.0002)
    assert result == BatchPlan(batch=(suspect,), waiting=(later,), reason=DispatchReason.FULL)


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


def get_batch_size(cost: BatchCost, *priorities: Priority, pixels: int = 300_000, limits: BatchLimits = LARGE) -> int:
    """Return the size of the batch that is planned for a backlog."""
    queued = [Item(pixels=pixels, priority=priority) for priority in priorities]
    return len(plan(*queued, cost=cost, limits=limits, now=0.0, idle_since=0.0).batch)


NORMAL, INTERACTIVE = [Priority.NORMAL] * 32, [Priority.INTERACTIVE] * 32


def test_the_first_batch_of_an_unknown_device_holds_one_image() -> None:
    assert get_batch_size(UNKNOWN_COST, *NORMAL) == 1


def test_batches_are_as_large_as_throughput_gains() -> None:
    assert get_batch_size(GPU, *NORMAL) == 16
    assert get_batch_size(CPU, *NORMAL) == 1
    assert get_batch_size(BatchCost((0.02, 0.02, 0.0)), *INTERACTIVE, limits=replace(LARGE, max_images=64)) == 32


def test_a_batch_that_is_large_enough_does_not_wait_for_announced_images() -> None:
    item = Item(enqueued_at=5.0)

    assert plan(item, now=5.0, limits=LARGE, cost=CPU).reason is DispatchReason.FULL
    assert plan(item, now=5.0, limits=LARGE, cost=GPU).wait_until is not None


def test_the_size_is_rounded_up_to_a_power_of_two_which_compiled_passes_are_padded_to() -> None:
    cost = BatchCost((0.004, 0.002, 0.0))  # 12 images reach the share of the throughput of 16

    assert get_batch_size(cost, *NORMAL) == 16


def test_normal_images_keep_the_device_busy_no_longer_than_the_wait_of_an_interactive_one() -> None:
    cost = BatchCost((0.1, 0.02, 0.0))

    assert get_batch_size(cost, *NORMAL) == 7  # 240 ms
    assert get_batch_size(cost, *INTERACTIVE) == 16


def test_an_image_that_takes_longer_than_the_wait_forms_a_batch_of_its_own() -> None:
    assert get_batch_size(SLOW_CPU, *NORMAL) == 1


def test_images_are_counted_by_their_megapixels() -> None:
    cost = BatchCost((0.02, 0.002, 0.01))

    assert get_batch_size(cost, *NORMAL, pixels=300_000) == 16
    assert get_batch_size(cost, *NORMAL, pixels=10_000_000, limits=replace(LARGE, max_pixels=10**9)) == 2


def test_an_interactive_image_shares_a_batch_with_normal_ones_only_if_that_is_short() -> None:
    fast_cpu = BatchCost((0.03, 0.06, 0.0))

    assert get_batch_size(fast_cpu, *NORMAL) == 3
    assert get_batch_size(fast_cpu, Priority.INTERACTIVE, *NORMAL) == 1
    assert get_batch_size(GPU, Priority.INTERACTIVE, *NORMAL) == 16


def test_batches_grow_only_to_sizes_whose_duration_is_known() -> None:
    cost = update_cost(UNKNOWN_COST, images=1, pixels=300_000, seconds=0.022)

    assert 1 <= get_batch_size(cost, *INTERACTIVE) <= 2


@pytest.mark.parametrize(("samples", "images"), [(1, 16), (2, 8)])
def test_every_other_batch_has_another_size_while_the_fixed_part_is_uncertain(samples: int, images: int) -> None:
    uncertain = ((0.005**2, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))

    assert get_batch_size(BatchCost((0.02, 0.002, 0.0), uncertain, samples=samples), *NORMAL) == images


def test_a_backlog_of_a_slow_device_is_never_old_enough_to_be_served_before_interactive_images() -> None:
    normal = [Item(priority=Priority.NORMAL, enqueued_at=5.0 * number) for number in range(8)]
    interactive = Item(enqueued_at=40.0)

    result = plan(*normal, interactive, now=40.0, idle_since=40.0, cost=SLOW_CPU)

    assert result.batch == (interactive,)


items = st.builds(
    Item,
    pixels=st.integers(1, 150),
    priority=st.sampled_from(Priority),
    deadline=st.sampled_from([None, 0.0, 1.5, 2.0, 2.5, 3.0]),  # with the bounds of `moments`; one draw, so fast
    enqueued_at=st.floats(0, 2),
    is_wanted=st.sampled_from([always, always, always, never]),
    is_alone=st.sampled_from([False, False, False, True]),
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
def test_nothing_joins_an_image_that_is_alone(queued: list[Item], now: float) -> None:
    batch = plan(*queued, now=now, idle_since=now).batch

    assert len(batch) <= 1 or not any(item.is_alone for item in batch)


@given(queued=queues, now=moments)
def test_nothing_waits_while_an_image_is_alone(queued: list[Item], now: float) -> None:
    result = plan(*queued, now=now)

    assert not any(item.is_alone for item in result.waiting) or result.batch


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


parts = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.1))
costs = st.builds(BatchCost, parts) | st.just(UNKNOWN_COST)


@given(queued=queues, cost=costs)
def test_a_batch_with_lower_priorities_is_never_longer_than_the_bound_unless_it_is_one_image(
    queued: list[Item], cost: BatchCost
) -> None:
    batch = plan(*queued, now=2.0, idle_since=2.0, limits=LARGE, cost=cost).batch

    is_interactive = all(item.priority is Priority.INTERACTIVE for item in batch)
    seconds = cost.seconds(len(batch), sum(item.pixels for item in batch))
    assert len(batch) <= 1 or is_interactive or seconds <= LARGE.max_interactive_wait_seconds


@given(cost=st.builds(BatchCost, parts), max_images=st.integers(1, 32))
def test_the_throughput_of_a_backlog_is_within_five_percent_of_the_best_size(cost: BatchCost, max_images: int) -> None:
    limits = replace(LARGE, max_images=max_images)

    size = get_batch_size(cost, *NORMAL, limits=limits)

    def get_seconds(images: int) -> float:
        return cost.seconds(images, 300_000 * images)

    allowed = [n for n in range(1, max_images + 1) if n == 1 or get_seconds(n) <= limits.max_interactive_wait_seconds]
    assert get_seconds(size) / size <= min(get_seconds(n) / n for n in allowed) / 0.95


@given(queued=queues, cost=costs)
def test_every_image_is_served_eventually_at_any_cost(queued: list[Item], cost: BatchCost) -> None:
    queue, rounds = list(queued), 0

    while queue:
        queue = list(plan(*queue, now=2.0, idle_since=2.0, limits=LARGE, cost=cost).waiting)
        rounds += 1

    assert rounds <= len(queued)


@given(queued=queues, cost=costs)
def test_a_priority_is_served_in_the_order_of_arrival_at_any_cost(queued: list[Item], cost: BatchCost) -> None:
    result = plan(*queued, now=2.0, idle_since=2.0, limits=LARGE, cost=cost)

    for priority in Priority:
        left = [item for item in queued if item.priority is priority and item in (*result.batch, *result.waiting)]
        served = [item for item in result.batch if item.priority is priority]
        assert served == left[: len(served)]
