"""The slots of a worker as a state machine: limits hold, and no slot is lost, however threads come, lend and go."""

import threading
from contextlib import ExitStack

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.jobs.model import Priority
from worker.pipeline.slots import ALL_PRIORITIES, Slot, SlotKind, Slots, interactive_slot_count

INTERACTIVE = (Priority.INTERACTIVE,)
COUNTS = st.integers(0, 3)


class SlotsInUse(RuleBasedStateMachine):
    @initialize(regular=COUNTS, interactive=COUNTS, lent=COUNTS)
    def start(self, regular: int, interactive: int, lent: int) -> None:
        self.limits = {SlotKind.REGULAR: regular, SlotKind.INTERACTIVE: interactive, SlotKind.LENT: lent}
        self.slots = Slots(regular, interactive, lent)
        self.notified = 0
        self.slots.on_free(self.count_notification)
        self.threads: list[tuple[ExitStack, Slot]] = []
        self.is_closed = False

    def count_notification(self) -> None:
        self.notified += 1

    def free(self, kind: SlotKind) -> int:
        return self.limits[kind] - sum(slot.kind is kind for _, slot in self.threads)

    def expect_kind(self) -> SlotKind | None:
        kinds = (SlotKind.REGULAR, SlotKind.INTERACTIVE)
        return None if self.is_closed else next((kind for kind in kinds if self.free(kind)), None)

    @rule()
    def occupy(self) -> None:
        expected = self.expect_kind()
        stack = ExitStack()
        slot = stack.enter_context(self.slots.occupy())
        assert (slot.kind if slot else None) is expected
        if slot:
            self.threads.append((stack, slot))

    @precondition(lambda self: self.threads)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        stack, _ = self.threads.pop(data.draw(st.integers(0, len(self.threads) - 1)))
        stack.close()

    @precondition(lambda self: self.threads)
    @rule(data=st.data())
    def lend(self, data: st.DataObject) -> None:
        slot = self.draw_slot(data)
        before, notified, can_lend = slot.kind, self.notified, self.free(SlotKind.LENT) > 0
        assert slot.lend() == (can_lend or before is SlotKind.LENT)
        assert slot.kind is (SlotKind.LENT if can_lend else before)
        assert self.notified - notified == (slot.kind is not before)

    @precondition(lambda self: self.threads)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        slot = self.draw_slot(data)
        before, free = slot.kind, self.expect_kind()
        can_go_on = not self.is_closed and (before is not SlotKind.LENT or free is not None)
        assert slot.renew() == can_go_on
        if can_go_on:
            is_better = before is SlotKind.LENT or free is SlotKind.REGULAR
            assert slot.kind is (free if is_better and before is not SlotKind.REGULAR else before)

    @precondition(lambda self: len(self.threads) > 1)
    @rule()
    def close(self) -> None:
        self.slots.close()
        self.is_closed = True

    @invariant()
    def limits_hold_and_free_slots_are_offered(self) -> None:
        if not hasattr(self, "slots"):
            return
        assert all(self.free(kind) >= 0 for kind in SlotKind)
        expected = {SlotKind.REGULAR: ALL_PRIORITIES, SlotKind.INTERACTIVE: INTERACTIVE, None: ()}
        assert self.slots.priorities == expected[self.expect_kind()]
        assert self.slots.thread_count == sum(self.limits.values())

    def draw_slot(self, data: st.DataObject) -> Slot:
        return data.draw(st.sampled_from(self.threads))[1]


TestSlotsInUse = SlotsInUse.TestCase
TestSlotsInUse.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_a_slot_for_interactive_jobs_is_used_when_the_regular_ones_are_occupied() -> None:
    slots = Slots(1, 1)

    with slots.occupy() as first, slots.occupy() as second, slots.occupy() as third:
        assert first is not None
        assert second is not None
        assert (first.priorities, second.priorities, third) == (ALL_PRIORITIES, INTERACTIVE, None)


def test_a_lent_slot_may_be_taken_by_another_job() -> None:
    slots = Slots(1, 0, 1)

    with slots.occupy() as slow:
        assert slow is not None
        assert slots.priorities == ()
        assert slow.lend()
        with slots.occupy() as other:
            assert other is not None
            assert other.priorities == ALL_PRIORITIES
            assert not slow.renew()
        assert slow.renew()


def test_slots_are_exact_among_threads() -> None:
    slots = Slots(3, 2, 2)
    most: list[int] = []
    lock, running = threading.Lock(), [0]

    def work() -> None:
        for _ in range(300):
            with slots.occupy() as slot:
                if slot is not None and slot.kind is SlotKind.REGULAR:
                    with lock:
                        running[0] += 1
                        most.append(running[0])
                    with lock:
                        running[0] -= 1
                    slot.lend()
                    slot.renew()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert max(most) <= 3
    with slots.occupy() as slot:
        assert slot is not None
        assert slot.kind is SlotKind.REGULAR


def test_a_small_worker_has_two_slots_for_interactive_jobs_and_a_large_one_a_quarter_more() -> None:
    assert [interactive_slot_count(regular) for regular in (1, 8, 32)] == [2, 2, 8]


def test_a_signal_handler_may_close_the_slots_while_its_thread_holds_their_lock() -> None:
    slots = Slots(1, 0)

    with slots._lock:
        slots.close()

    with slots.occupy() as slot:
        assert slot is None
