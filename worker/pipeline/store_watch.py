"""What a host does about its stores after an error: it claims nothing until both can take the end of a job again."""

import threading
from typing import Protocol

import structlog

from shared.store_health import StoreState

log = structlog.get_logger()

FIRST_DELAY_SECONDS = 0.25
MAX_DELAY_SECONDS = 4.0
# Of Redis.  Without memory it takes the end of a job, which frees some: what fills it may be the jobs that are queued.
ENDS_JOBS = (StoreState.OK, StoreState.FULL)


class StoreHealth(Protocol):
    """Tells what the stores can do; implemented by shared.store_health.StoreHealth."""

    def check_redis(self) -> StoreState: ...
    def check_bucket(self) -> StoreState: ...


class PausableSlots(Protocol):
    """Gives out the places of jobs; implemented by worker.pipeline.slots.Slots."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class StoreWatch:
    """Thread-safe.  Nothing is checked before an error is reported; then nothing is claimed until a check succeeds."""

    def __init__(self, health: StoreHealth, slots: PausableSlots) -> None:
        self._health = health
        self._slots = slots
        self._lock = threading.Lock()
        self._is_paused = False  # guarded by the lock
        self._failed = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            self._failed.set()
        self._thread.join()

    def report_error(self) -> None:
        """Claim nothing until a check finds that the stores take the ends of jobs; returns at once."""
        with self._lock:
            if self._is_paused:
                return
            self._is_paused = True
        self._slots.pause()
        self._failed.set()

    def can_end_jobs(self) -> bool:
        """Return whether both stores can take the end of a job now."""
        return self._health.check_redis() in ENDS_JOBS and self._health.check_bucket() is StoreState.OK

    def _run(self) -> None:
        while True:
            self._failed.wait()
            if self._stopped.is_set():
                return
            self._wait_until_usable()
            with self._lock:
                self._is_paused = False
                if not self._stopped.is_set():
                    self._failed.clear()
            self._slots.resume()

    def _wait_until_usable(self) -> None:
        delay_seconds = FIRST_DELAY_SECONDS
        if self._check():
            return
        log.warning("claims_paused", reason="a store cannot take the end of a job")
        while not self._stopped.wait(delay_seconds) and not self._check():
            delay_seconds = min(2 * delay_seconds, MAX_DELAY_SECONDS)
        log.info("claims_resumed")

    def _check(self) -> bool:
        try:
            return self.can_end_jobs()
        except Exception:
            # Nothing would be claimed ever again without this thread.
            log.exception("stores_not_checked")
            return False
