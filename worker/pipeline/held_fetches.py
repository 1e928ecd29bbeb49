"""How many fetches of URLs may keep the slot of their job: few, so that slow servers leave slots to all other jobs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shared.errors import UrlsBusy

# A server that has not sent an image by then counts as slow.
SLOW_SECONDS: Final = 0.5


class HeldFetches:
    """Thread-safe.

    Args:
        most: fetches that keep a slot at a time.  Those whose slot is lent are bounded by the lent slots.
        slow_seconds: how long another one waits for its turn, from when the last of these began.
    """

    def __init__(self, most: int, *, slow_seconds: float = SLOW_SECONDS) -> None:
        self._most = most
        self._slow_seconds = slow_seconds
        self._began: list[float] = []
        self._changed = threading.Condition()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the slot while the block fetches a URL.

        Raises:
            UrlsBusy: all that may keep one are slow.
        """
        began = self._begin()
        try:
            yield
        finally:
            with self._changed:
                self._began.remove(began)
                self._changed.notify()

    def _begin(self) -> float:
        with self._changed:
            # While any of them is quick, the wait is short, and a job that is given back would wait for longer.
            while len(self._began) >= self._most:
                wait_seconds = max(self._began) + self._slow_seconds - time.monotonic()
                if wait_seconds <= 0:
                    raise UrlsBusy("The worker waits for as many servers of URLs as it may.")
                self._changed.wait(wait_seconds)
            began = time.monotonic()
            self._began.append(began)
            return began
