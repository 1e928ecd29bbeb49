"""An action that runs again and again on a thread, while a test does something else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def run_periodically(action: Callable[[], object], interval_seconds: float) -> Iterator[None]:
    """While the block runs, call action() on a thread, the first time after one interval."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval_seconds):
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
