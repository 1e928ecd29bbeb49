"""A lock that tenants get by turns."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class TenantLock:
    """Thread-safe.  A thread gets it after the one that has it, and at most one of each other tenant."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_held = False
        # The tenant whose turn it is comes first; a thread that waits is one object.
        self._waiting: dict[str, deque[object]] = {}

    @contextmanager
    def hold(self, tenant: str) -> Iterator[None]:
        """Hold the lock while the block runs."""
        waiter = object()
        with self._condition:
            self._waiting.setdefault(tenant, deque()).append(waiter)
            self._condition.wait_for(lambda: not self._is_held and self._find_next() is waiter)
            self._is_held = True
            self._end_turn(tenant)
        try:
            yield
        finally:
            with self._condition:
                self._is_held = False
                self._condition.notify_all()

    def _find_next(self) -> object:
        return next(iter(self._waiting.values()))[0]

    def _end_turn(self, tenant: str) -> None:
        """Remove the waiter whose turn it was; the next one of its tenant comes after those of all others."""
        waiting = self._waiting.pop(tenant)
        waiting.popleft()
        if waiting:
            self._waiting[tenant] = waiting
