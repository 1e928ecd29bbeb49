"""Which calls run beside others: all but those with which a renderer was killed before, which run alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Company:
    """A lock that calls share, and that a suspected one has for itself.  Thread-safe.

    A suspected call that waits comes before all that have not begun.

    running: calls that share it now.  waiting: suspected ones that wait for it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.running = 0
        self.waiting = 0
        self._is_exclusive = False

    @contextmanager
    def share(self) -> Iterator[None]:
        """Run beside other calls while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: not self.waiting and not self._is_exclusive)
            self.running += 1
        try:
            yield
        finally:
            with self._changed:
                self.running -= 1
                self._changed.notify_all()

    @contextmanager
    def exclude(self) -> Iterator[None]:
        """Run with nothing beside it while the block runs."""
        with self._changed:
            self.waiting += 1
            self._changed.wait_for(lambda: not self.running and not self._is_exclusive)
            self.waiting -= 1
            self._is_exclusive = True
        try:
            yield
        finally:
            with self._changed:
                self._is_exclusive = False
                self._changed.notify_all()
