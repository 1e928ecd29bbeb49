"""Slots: how many jobs of which priority a worker runs at a time.

A worker has regular slots, for any job, and a few more for interactive jobs only, so that an interactive job is claimed
at once while the jobs of a backlog occupy the regular slots and wait for the device.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from shared.jobs.model import Priority

# Jobs beyond the slots: their decoding takes long, and others can use the device meanwhile.
MAX_LENT_SLOTS = 8
MIN_INTERACTIVE_SLOTS = 2

ALL_PRIORITIES: Final = tuple(Priority)


class SlotKind(StrEnum):
    REGULAR = "regular"  # any job
    INTERACTIVE = "interactive"  # interactive jobs only
    LENT = "lent"  # no further job: the one that runs has given back its slot


PRIORITIES: Final = {
    SlotKind.REGULAR: ALL_PRIORITIES,
    SlotKind.INTERACTIVE: (Priority.INTERACTIVE,),
    SlotKind.LENT: (),
}


def interactive_slot_count(regular: int) -> int:
    """Return how many slots for interactive jobs a worker has beside its regular ones."""
    return max(MIN_INTERACTIVE_SLOTS, regular // 4)


class Slot:
    """The place of one thread that runs jobs, one after the other."""

    def __init__(self, slots: "Slots", kind: SlotKind) -> None:
        self._slots = slots
        self.kind = kind

    @property
    def priorities(self) -> tuple[Priority, ...]:
        """The jobs that this thread may claim next."""
        return PRIORITIES[self.kind]

    def lend(self) -> bool:
        """Give back the slot before its job is done, if one of the lent slots is free; True if the slot is lent then.

        For a job that will not need the device for long.
        """
        return self._slots.move(self, SlotKind.LENT)

    def renew(self) -> bool:
        """Prepare for another job: a regular slot if one is free, or one for interactive jobs.

        False if there is none, or if the worker takes no more jobs; then the thread has to end.
        """
        return self._slots.renew(self)


class Slots:
    """Thread-safe.

    Args:
        regular: number of jobs of any priority that run at a time.
        interactive: number of interactive jobs that run beside them.
    """

    def __init__(self, regular: int, interactive: int, lent: int = MAX_LENT_SLOTS) -> None:
        self._limits = {SlotKind.REGULAR: regular, SlotKind.INTERACTIVE: interactive, SlotKind.LENT: lent}
        self._used: Counter[SlotKind] = Counter()
        self._lock = threading.Lock()
        self._pauses = 0
        self._is_closed = False
        self._notify: Callable[[], object] = lambda: None

    @property
    def thread_count(self) -> int:
        """Number of threads that can have a slot at the same time."""
        return sum(self._limits.values())

    @property
    def priorities(self) -> tuple[Priority, ...]:
        """The jobs for which a slot is free."""
        with self._lock:
            kind = self._find_free()
        return PRIORITIES[kind] if kind else ()

    def on_free(self, notify: Callable[[], object]) -> None:
        """Call a function, from any thread, whenever a slot becomes free while its thread goes on."""
        self._notify = notify

    def close(self) -> None:
        """Give out no slot any more; the jobs that run keep theirs until they are done.

        Takes no lock: a signal handler calls it, on a thread that may hold the lock.
        """
        self._is_closed = True

    @property
    def used_count(self) -> int:
        """Number of slots that are given out."""
        with self._lock:
            return self._used.total()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def pause(self) -> None:
        """Give out no slot until resume() has been called as often; the jobs that run keep theirs."""
        with self._lock:
            self._pauses += 1

    def resume(self) -> None:
        with self._lock:
            self._pauses -= 1
        self._notify()

    @contextmanager
    def occupy(self) -> Iterator[Slot | None]:
        """Occupy a free slot while the block runs, or yield None if there is none."""
        slot = self._take()
        try:
            yield slot
        finally:
            if slot is not None:
                self._give_back(slot)

    def move(self, slot: Slot, kind: SlotKind) -> bool:
        """Exchange the slot of a thread for one of another kind, if one is free; for Slot only."""
        with self._lock:
            if slot.kind is not kind and not self._is_free(kind):
                return False
            is_changed = self._exchange(slot, kind)
        if is_changed:
            self._notify()
        return True

    def renew(self, slot: Slot) -> bool:
        """Find the best slot for the next job of a thread; for Slot only."""
        with self._lock:
            if self._is_closed or self._pauses:
                return False
            if slot.kind is SlotKind.REGULAR:
                return True
            kind = self._find_free()
            if kind is None:
                return slot.kind is SlotKind.INTERACTIVE
            is_changed = self._exchange(slot, kind)
        if is_changed:
            self._notify()
        return True

    def _take(self) -> Slot | None:
        with self._lock:
            kind = self._find_free()
            if kind is None:
                return None
            self._used[kind] += 1
            return Slot(self, kind)

    def _give_back(self, slot: Slot) -> None:
        # Its thread ends, which starts an iteration of Celery's event loop without a notification.
        with self._lock:
            self._used[slot.kind] -= 1

    def _exchange(self, slot: Slot, kind: SlotKind) -> bool:
        if slot.kind is kind:
            return False
        self._used[slot.kind] -= 1
        self._used[kind] += 1
        slot.kind = kind
        return True

    def _find_free(self) -> SlotKind | None:
        if self._is_closed or self._pauses:
            return None
        return next((kind for kind in (SlotKind.REGULAR, SlotKind.INTERACTIVE) if self._is_free(kind)), None)

    def _is_free(self, kind: SlotKind) -> bool:
        return self._used[kind] < self._limits[kind]
