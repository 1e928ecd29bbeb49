"""Threads that attempt deliveries: each makes one attempt after the other until none is due.

They are daemons, so a slow receiver does not hold up the end of the steward: its message is attempted again by
another one, when its lease has expired.
"""

import threading
from collections.abc import Callable, Sequence

import structlog

from shared.errors import Unavailable
from shared.webhooks.delivery import ClaimedDelivery

log = structlog.get_logger()

Claim = Callable[[int], Sequence[ClaimedDelivery]]
"""Claims so many deliveries at most."""


class DeliveryThreads:
    """Thread-safe."""

    def __init__(self, claim: Claim, attempt: Callable[[ClaimedDelivery], object], *, threads: int) -> None:
        self._claim = claim
        self._attempt = attempt
        self._threads = threads
        self._lock = threading.Lock()
        self._running = 0
        self._stopped = threading.Event()

    def send_due(self) -> None:
        """Begin attempts of what is due, as far as threads are free; they end later.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        free = self._threads - self._running
        if self._stopped.is_set() or free <= 0:
            return
        for claimed in self._claim(free):
            with self._lock:
                self._running += 1
            threading.Thread(target=self._run, args=(claimed,), name="webhook", daemon=True).start()

    def stop(self) -> None:
        """Begin no attempt any more."""
        self._stopped.set()

    def _run(self, claimed: ClaimedDelivery | None) -> None:
        try:
            while claimed is not None:
                self._attempt(claimed)
                claimed = None if self._stopped.is_set() else next(iter(self._claim(1)), None)
        except Unavailable as error:
            log.warning("webhook_interrupted", reason=str(error))
        except Exception:
            log.exception("webhook_crashed")
        finally:
            with self._lock:
                self._running -= 1
