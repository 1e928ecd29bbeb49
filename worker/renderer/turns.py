"""Which call a renderer runs next: that of the tenant whose turn it is, unless that one has its part of the threads."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.broker.envelope import encode_render_message
from shared.jobs.render_calls import RenderCall, RenderCallStore, Taken


class Turns:
    """Takes calls so that a thread is left for the others of a tenant with many.  Thread-safe.

    Args:
        thread_count: calls that this renderer runs at a time; with one, no thread is left.
    """

    def __init__(self, calls: RenderCallStore, thread_count: int) -> None:
        self._calls = calls
        self._part = max(1, thread_count - 1)
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    @contextmanager
    def take(self) -> Iterator[Taken]:
        """Take a call, which belongs to its tenant's part while the block runs.

        Raises:
            Unavailable: Redis did not answer.
        """
        taken = self._take()
        try:
            yield taken
        finally:
            if taken.call is not None:
                self._end(taken.call)

    def _take(self) -> Taken:
        with self._lock:
            full = [tenant for tenant, count in self._running.items() if count >= self._part]
            taken = self._calls.take(encode_render_message(), except_tenants=full)
            if taken.call is not None:
                self._running[taken.call.tenant] += 1
        return taken

    def _end(self, call: RenderCall) -> None:
        with self._lock:
            self._running[call.tenant] -= 1
            if not self._running[call.tenant]:
                del self._running[call.tenant]
