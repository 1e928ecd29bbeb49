"""The calls that a renderer runs now: renewed while they run, and answered if the process ends before they do."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from shared.errors import RendererUnavailable, RenderingFailed, Unavailable
from shared.jobs.render_calls import RenderCall, RenderCallStore, encode_error


class RunningCalls:
    """Thread-safe."""

    def __init__(self, calls: RenderCallStore) -> None:
        self._calls = calls
        self._lock = threading.Lock()
        self._started: dict[str, tuple[RenderCall, float]] = {}
        self._change_count = 0

    @property
    def work_count(self) -> int:
        """A number that changes with each call that starts or ends."""
        return self._change_count

    @contextmanager
    def run(self, call: RenderCall) -> Iterator[None]:
        with self._lock:
            self._started[call.id] = (call, time.monotonic())
            self._change_count += 1
        try:
            yield
        finally:
            with self._lock:
                self._started.pop(call.id, None)
                self._change_count += 1

    def renew(self) -> None:
        """Let identical calls join those that run."""
        for call in self._list(0.0):
            with suppress(Unavailable):
                self._calls.renew(call)

    def fail_overdue(self, max_seconds: float) -> Sequence[RenderCall]:
        """Answer each call that has run for longer with an error, and return them; the process has to end then.

        Their attempts count, so that such a call ends no renderer after MAX_ATTEMPTS.
        """
        overdue = self._list(max_seconds)
        error = RenderingFailed(f"This was not made within {max_seconds:g} s, the most that it may take.")
        for call in overdue:
            with suppress(Unavailable):
                self._calls.finish(call, encode_error(error), is_attempt_over=False)
            with self._lock:
                self._started.pop(call.id, None)
        return overdue

    def give_up(self) -> None:
        """Tell the callers of all calls that run to ask again, because this process ends."""
        error = RendererUnavailable("The renderer was restarted meanwhile; ask again in a few seconds.")
        for call in self._list(0.0):
            with suppress(Unavailable):
                self._calls.finish(call, encode_error(error))

    def _list(self, min_seconds: float) -> Sequence[RenderCall]:
        """Return the calls that have run for at least so long."""
        latest = time.monotonic() - min_seconds
        with self._lock:
            return [call for call, started_at in self._started.values() if started_at <= latest]
