"""Celery's thread pool, with one addition: a finished task wakes the event loop.

Without prefetching, Celery takes a message only while a thread is free, and polls for one at each iteration of its
event loop.  A task that ends on a thread does not start an iteration, so a busy worker would poll once a second.
"""

import os
from typing import Any

from celery.concurrency.thread import TaskPool


class WakingThreadPool(TaskPool):  # type: ignore[misc]
    """Writes to a pipe that the event loop reads, once a task's thread is free again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._readable, self._writable = os.pipe()
        for end in (self._readable, self._writable):
            os.set_blocking(end, False)

    def register_with_event_loop(self, loop: Any) -> None:
        """Called by Celery whenever it starts its loop, after a reconnection too."""
        loop.add_reader(self._readable, self._drain)

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        result = super().on_apply(*args, **kwargs)
        result.f.add_done_callback(lambda _: self.wake())
        return result

    def wake(self) -> None:
        """Start an iteration of the event loop, from any thread."""
        try:
            os.write(self._writable, b"\0")
        except BlockingIOError:
            return  # the pipe is full of earlier wake-ups

    def _drain(self) -> None:
        try:
            os.read(self._readable, 4096)
        except BlockingIOError:
            return
