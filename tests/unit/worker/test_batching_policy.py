"""The batching policy, by example and by property, on times that the tests make up."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.model import Priority
from worker.batching.policy import Decision, Limits, Reason, decide

LIMITS = Limits(max_images=4, max_pixels=100, max_wait_seconds=0.003, batch_handicap_seconds=0.5)


def yes() -> bool:
    return True


def no() -> bool:
    return False


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    pixels: int = 10
    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None
    enqueued_at: float = 0.0
    is_wanted: Callable[[], bool] = yes


def plan_execution(
    *waiting: Item,
    now: float = 0.0,
    free_since: float = -1.0,
    limits: Limits = LIMITS,
    is_more_coming: bool = True,
    is_draining: bool = False,
) -> Decision[Item]:
    return decide(
        waiting,
        now=now,
        free_since=free_since,
        limits=limits,
        is_more_coming=is_more_coming,
        is_draining=is_draining,
    )


def test_nothing_waiting_means_waiting_for_somebody() -> None:
    assert plan_execution() == Decision()


def test_an_idle_device_waits_a_little_for_an_image_that_is_on_its_way() -> None:
    item = Item(enqueued_at=5.0)

    decision = plan_execution(item, now=5.001)

    assert decision == Decision(kept=(item,), wait_until=5.0 + LIMITS.max_wait_seconds)


def test_an_idle_device_takes_a_lone_image_at_once() -> None:
    item = Item(enqueued_at=5.0)

    decision = plan_execution(item, now=5.0, is_more_coming=False)

    assert decision == Decision(taken=(item,), reason=Reason.ALONE)


def test_the_wait_ends_at_its_bound() -> None:
    item = Item(enqueued_at=5.0)

    decision = plan_execution(item, now=5.0 + LIMITS.max_wait_seconds)

    assert decision == Decision(taken=(item,), reason=Reason.WAITED)


def test_what_came_while_the_device_was_busy_goes_at_once() -> None:
    item = Item(enqueued_at=5.0)

    decision = plan_execution(item, now=5.001, free_since=5.001)

    assert decision == Decision(taken=(item,), reason=Reason.BUSY)


def test_a_full_batch_does_not_wait() -> None:
    items = [Item() for _ in range(5)]

    decision = plan_execution(*items)

    assert decision == Decision(taken=tuple(items[:4]), kept=(items[4],), reason=Reason.FULL)


def test_a_batch_is_full_when_the_next_image_would_break_the_budget() -> None:
    small, large = Item(pixels=60), Item(pixels=50)

    decision = plan_execution(small, large)

    assert decision == Decision(taken=(small,), kept=(large,), reason=Reason.FULL)


def test_an_image_above_the_budget_goes_alone() -> None:
    giant, small = Item(pixels=1000), Item()

    decision = plan_execution(giant, small)

    assert decision == Decision(taken=(giant,), kept=(small,), reason=Reason.FULL)


def test_a_drain_waits_for_nobody() -> None:
    item = Item(enqueued_at=5.0)

    decision = plan_execution(item, now=5.0, is_draining=True)

    assert decision == Decision(taken=(item,), reason=Reason.DRAINING)


def test_canceled_and_late_images_are_dropped_and_do_not_take_room() -> None:
    canceled, late = Item(is_wanted=no, deadline=0.0), Item(deadline=1.0)
    good = [Item(deadline=1.5) for _ in range(4)]

    decision = plan_execution(canceled, late, *good, now=1.0)

    assert decision == Decision(taken=tuple(good), canceled=(canceled,), late=(late,), reason=Reason.FULL)


def test_interactive_goes_ahead_of_older_batch_work() -> None:
    batch = [Item(priority=Priority.NORMAL, enqueued_at=0.0) for _ in range(3)]
    interactive = [Item(enqueued_at=0.1) for _ in range(3)]

    decision = plan_execution(*batch, *interactive, now=0.2, free_since=0.2)

    assert decision.taken == (*interactive, batch[0])


def test_batch_work_that_waited_long_enough_goes_ahead_of_interactive() -> None:
    batch = Item(priority=Priority.NORMAL, enqueued_at=0.0)
    interactive = [Item(enqueued_at=0.6) for _ in range(6)]

    decision = plan_execution(batch, *interactive, now=0.7, free_since=0.7)

    assert decision.taken == (batch, *interactive[:3])


items = st.builds(
    Item,
    pixels=st.integers(1, 150),
    priority=st.sampled_from(Priority),
    deadline=st.none() | st.floats(0, 3),
    enqueued_at=st.floats(0, 2),
    is_wanted=st.sampled_from([yes, yes, yes, no]),
)
queues = st.lists(items, max_size=20).map(lambda found: sorted(found, key=lambda item: item.enqueued_at))
moments = st.floats(2, 3)


@given(waiting=queues, now=moments, free_since=st.floats(0, 3), is_draining=st.booleans())
def test_no_image_is_lost_and_none_is_counted_twice(
    waiting: list[Item], now: float, free_since: float, is_draining: bool
) -> None:
    decision = plan_execution(*waiting, now=now, free_since=free_since, is_draining=is_draining)

    everywhere = [*decision.taken, *decision.canceled, *decision.late, *decision.kept]
    assert sorted(map(id, everywhere)) == sorted(map(id, waiting))
    assert bool(decision.taken) == (decision.reason is not None)


@given(waiting=queues, now=moments)
def test_a_batch_keeps_to_its_limits(waiting: list[Item], now: float) -> None:
    taken = plan_execution(*waiting, now=now, free_since=now).taken

    assert len(taken) <= LIMITS.max_images
    assert len(taken) <= 1 or sum(item.pixels for item in taken) <= LIMITS.max_pixels


@given(waiting=queues, now=moments)
def test_only_what_is_wanted_in_time_reaches_the_device(waiting: list[Item], now: float) -> None:
    taken = plan_execution(*waiting, now=now, free_since=now).taken

    assert all(item.is_wanted() and (item.deadline is None or item.deadline > now) for item in taken)


@given(waiting=queues, now=moments)
def test_a_lane_is_served_in_the_order_of_arrival(waiting: list[Item], now: float) -> None:
    decision = plan_execution(*waiting, now=now, free_since=now)

    for priority in Priority:
        in_lane = [item for item in waiting if item.priority is priority and item in (*decision.taken, *decision.kept)]
        served = [item for item in decision.taken if item.priority is priority]
        assert served == in_lane[: len(served)]


@given(waiting=queues, now=moments)
def test_an_idle_device_never_waits_longer_than_its_bound(waiting: list[Item], now: float) -> None:
    decision = plan_execution(*waiting, now=now)

    assert decision.wait_until is None or now < decision.wait_until <= now + LIMITS.max_wait_seconds


def test_batch_work_is_not_starved_by_interactive_work_that_never_ends() -> None:
    batch = Item(priority=Priority.NORMAL, enqueued_at=0.0)
    queue = [batch]
    now = 0.0

    while batch in queue and now < 5.0:
        now += 0.05
        queue += [Item(enqueued_at=now - 0.01) for _ in range(LIMITS.max_images)]
        queue = list(plan_execution(*queue, now=now, free_since=now).kept)

    assert now < LIMITS.batch_handicap_seconds + 0.2


@given(waiting=queues)
def test_everything_is_served_in_the_end(waiting: list[Item]) -> None:
    queue, rounds = list(waiting), 0

    while queue:
        queue = list(plan_execution(*queue, now=2.0, free_since=2.0).kept)
        rounds += 1

    assert rounds <= len(waiting)
