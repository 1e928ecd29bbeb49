"""Work that follows a reply: it runs on threads of lower priority, so that the next request does not wait for it."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import ParamSpec

import structlog

P = ParamSpec("P")
log = structlog.get_logger()

THREADS = 2
# Above this the calling thread does the work itself: pending work holds decoded images in memory.
MAX_PENDING = 8
NICENESS = 5


class FollowUp:
    """Thread-safe.  close() waits for all work that was submitted."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="follow-up", initializer=_lower_priority)
        self._slots = threading.BoundedSemaphore(MAX_PENDING)

    def submit(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run a function in the background, in a copy of this thread's log context; an error is logged."""
        if not self._slots.acquire(blocking=False):
            function(*args, **kwargs)
            return
        context = copy_context()
        try:
            future = self._executor.submit(context.run, _run_logged, lambda: function(*args, **kwargs))
        except RuntimeError:
            self._slots.release()
            raise
        future.add_done_callback(lambda _: self._slots.release())

    def close(self) -> None:
        self._executor.shutdown(wait=True)


def _run_logged(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        log.exception("follow_up_failed")


def _lower_priority() -> None:
    if sys.platform != "linux":
        return
    # On Linux a priority belongs to a thread.  Raising it again, in a process that is nicer still, is not permitted.
    thread = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
