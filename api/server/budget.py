"""The bytes of request bodies that one process may hold."""

import threading
from collections import Counter
from typing import Self


class ByteBudget:
    """Counts the bytes in use, in all and of the incomplete bodies of each peer.  Thread-safe.

    A peer may hold half of the budget in bodies that are not complete, so that one that sends slowly leaves room for
    others.  The peer None stands for a trusted proxy, which may hold all of it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_peer_bytes = max_bytes // 2
        self._used = 0
        self._incomplete: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        return self._used

    def reserve(self, peer: str | None, nbytes: int) -> "Reservation | None":
        """Return a reservation, or None if there is no room for it now."""
        reservation = Reservation(self, peer)
        return reservation if reservation.grow(nbytes) else None

    def _take(self, nbytes: int, peer: str | None) -> bool:
        with self._lock:
            if self._used + nbytes > self._max_bytes:
                return False
            if peer is not None:
                if self._incomplete[peer] + nbytes > self._max_peer_bytes:
                    return False
                self._incomplete[peer] += nbytes
            self._used += nbytes
            return True

    def _give_back(self, nbytes: int, peer: str | None, *, remains_in_use: bool = False) -> None:
        with self._lock:
            if not remains_in_use:
                self._used -= nbytes
            if peer is not None:
                self._incomplete[peer] -= nbytes
                if self._incomplete[peer] <= 0:
                    del self._incomplete[peer]


class Reservation:
    """Part of a budget.  It belongs to one thread at a time."""

    def __init__(self, budget: ByteBudget, peer: str | None) -> None:
        self._budget = budget
        self._peer = peer
        self.nbytes = 0

    def grow(self, nbytes: int) -> bool:
        """Reserve more and return True, or return False if there is no room for it now."""
        is_granted = self._budget._take(nbytes, self._peer)
        if is_granted:
            self.nbytes += nbytes
        return is_granted

    def complete(self) -> Self:
        """Count the bytes to the whole budget only: the body has arrived."""
        if self._peer is not None:
            self._budget._give_back(self.nbytes, self._peer, remains_in_use=True)
            self._peer = None
        return self

    def shrink(self, nbytes: int) -> None:
        """Give back what exceeds `nbytes`."""
        surplus = self.nbytes - nbytes
        if surplus > 0:
            self._budget._give_back(surplus, self._peer)
            self.nbytes = nbytes

    def release(self) -> None:
        """Give back everything; a second call does nothing."""
        self.shrink(0)
