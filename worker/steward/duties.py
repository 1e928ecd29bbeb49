"""The periodic duties of the steward, each on a thread of its own.

Several stewards may run: every duty is safe to run twice at once.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from shared.errors import Unavailable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Duty:
    name: str
    every_seconds: float
    run: Callable[[], None]


class DutyScheduler:
    """Runs each duty at once, and again after its interval; a duty never overlaps itself."""

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(duty,), name=duty.name, daemon=True) for duty in duties
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Start no duty any more."""
        self._stopped.set()

    def join(self, timeout_seconds: float) -> None:
        """Wait for running duties to end; one that is interrupted is continued by the next run."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _repeat(self, duty: Duty) -> None:
        while not self._stopped.is_set():
            run_duty(duty)
            self._stopped.wait(duty.every_seconds)


def run_duty(duty: Duty) -> None:
    """Run a duty once; no error of it may end its thread."""
    try:
        duty.run()
    except Unavailable as error:
        log.warning("duty_interrupted", duty=duty.name, reason=str(error))
    except Exception:
        log.exception("duty_failed", duty=duty.name)
