"""CPU time as a test may bound it: that of the code, and not of what ran before it."""

import gc
import time
from collections.abc import Callable


def measure_cpu_seconds(run: Callable[[], object], *, tries: int = 3) -> float:
    """Return the least CPU time of this thread that one of several runs takes, in seconds.

    One run of a full garbage collection takes longer than most of the bounds, because it visits the
    objects of all tests so far; none happens meanwhile.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return min(_measure_once(run) for _ in range(tries))
    finally:
        if was_enabled:
            gc.enable()


def _measure_once(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start
