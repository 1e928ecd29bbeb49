"""The bytes of request bodies that one process may hold."""

import threading

# One part is kept for small bodies, of which at least four fit into it.
_KEPT_SHARE = 8
_SMALL_SHARE = 32


class ByteBudget:
    """Counts the bytes in use.  Thread-safe.

    One eighth is kept for small bodies, so that large ones cannot keep them out.  A large body that is alone may have
    all of it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_large_bytes = max_bytes - max_bytes // _KEPT_SHARE
        self._max_small_body_bytes = max_bytes // _SMALL_SHARE
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        return self._used

    def reserve(self, nbytes: int) -> "Reservation | None":
        """Return a reservation, or None if there is no room for it now."""
        reservation = Reservation(self)
        return reservation if reservation.grow(nbytes) else None

    def _take(self, nbytes: int, held: int) -> bool:
        with self._lock:
            is_small_or_alone = held + nbytes <= self._max_small_body_bytes or held == self._used
            if self._used + nbytes > (self._max_bytes if is_small_or_alone else self._max_large_bytes):
                return False
            self._used += nbytes
            return True

    def _give_back(self, nbytes: int) -> None:
        with self._lock:
            self._used -= nbytes


class Reservation:
    """Part of a budget.  It belongs to one thread at a time."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.nbytes = 0

    def grow(self, nbytes: int) -> bool:
        """Reserve more and return True, or return False if there is no room for it now."""
        is_granted = self._budget._take(nbytes, self.nbytes)
        if is_granted:
            self.nbytes += nbytes
        return is_granted

    def shrink(self, nbytes: int) -> None:
        """Give back what exceeds `nbytes`."""
        surplus = self.nbytes - nbytes
        if surplus > 0:
            self._budget._give_back(surplus)
            self.nbytes = nbytes

    def release(self) -> None:
        """Give back everything; a second call does nothing."""
        self.shrink(0)
