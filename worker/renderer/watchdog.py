"""The watchdog of a renderer: ends the process when a call hangs, or when its interpreter does.

Nothing else frees a thread from a call that does not return.  The process is started again by what started it.
"""

import ctypes
import math
import os
import signal
import threading
import time
from collections.abc import Callable

import structlog

from worker.renderer.running import RunningCalls

log = structlog.get_logger()

CALL_HUNG_EXIT_CODE = 71
WATCH_INTERVAL_SECONDS = 1.0


def start_watchdog(running: RunningCalls, max_seconds: float) -> None:
    """Watch the calls that run from a thread, and end the process when one takes longer than `max_seconds`.

    A call that holds the interpreter's lock stops that thread, too; then an alarm of the kernel ends the process.
    """
    end_on_alarm()
    threading.Thread(target=_watch, args=(running, max_seconds, os._exit), name="watchdog", daemon=True).start()


def end_on_alarm() -> None:
    """Let SIGALRM end this process even if its interpreter hangs: the handler is _exit() of the C library."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGALRM, ctypes.cast(libc._exit, ctypes.c_void_p))


def _watch(running: RunningCalls, max_seconds: float, end_process: Callable[[int], object]) -> None:
    while True:
        signal.alarm(math.ceil(max_seconds + 2 * WATCH_INTERVAL_SECONDS))
        overdue = running.fail_overdue(max_seconds)
        if overdue:
            break
        time.sleep(WATCH_INTERVAL_SECONDS)
    running.give_up()
    log.critical("render_call_hung", jobs=[call.job_id for call in overdue], kinds=[call.kind for call in overdue])
    end_process(CALL_HUNG_EXIT_CODE)
