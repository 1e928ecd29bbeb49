"""The periodic duties of the steward, each on a thread of its own, so that none waits for another one.

Several stewards may run.  One kind of duty runs in one of them at a time, by a lease in Redis.  Still, every duty may
be interrupted, and run twice at once, as after the pause of a whole machine.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from shared.errors import Unavailable
from worker.steward.leases import DutyLeases

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Duty:
    """One kind of work.

    every_seconds: the pause between two runs.
    run: does the work; with `find`, it gets what that returned.
    find: looks for work without the lease, so that an idle steward takes none; the duty runs if it found some.
    has_lease: whether one steward at a time runs it; False for what each steward does for itself.
    """

    name: str
    every_seconds: float
    run: Callable[..., None]
    find: Callable[[], Any] | None = None
    has_lease: bool = True


class RunObserver(Protocol):
    """Implemented by worker.steward.duty_runs.DutyRuns."""

    def duty_completed(self, duty: str, seconds: float) -> None:
        """Note that a duty has run to its end."""


class DutyScheduler:
    """Runs each duty at once, and again after its interval."""

    def __init__(self, duties: Sequence[Duty], leases: DutyLeases, observer: RunObserver) -> None:
        self._leases = leases
        self._observer = observer
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
            self._run_logged(duty)
            self._stopped.wait(duty.every_seconds)

    def _run_logged(self, duty: Duty) -> None:
        """Run a duty once; no error of it may end its thread."""
        start = time.monotonic()
        try:
            is_complete = self._run(duty)
        except Unavailable as error:
            log.warning("duty_interrupted", duty=duty.name, reason=str(error))
        except Exception:
            log.exception("duty_failed", duty=duty.name)
        else:
            if is_complete:
                self._observer.duty_completed(duty.name, time.monotonic() - start)

    def _run(self, duty: Duty) -> bool:
        """Run a duty, unless there is nothing to do; False if another steward runs it now."""
        work = () if duty.find is None else (duty.find(),)
        if work and not work[0]:
            return True
        if not duty.has_lease:
            duty.run(*work)
            return True
        with self._leases.hold(duty.name) as is_held:
            if is_held:
                duty.run(*work)
            return is_held
