"""Refuses work after a start without the stores, until they have been checked, or if this gateway must not use them."""

import threading
import time

import structlog

from shared.errors import ForeignStack, StackUnconfirmed, Unavailable, UnusableStores, WrongStores
from shared.store_check import StoreCheck

log = structlog.get_logger()

CHECK_INTERVAL_SECONDS = 1.0
_FOREIGN = "A store is in use by another stack; the gateway's log names the setting."


class StoreGuard:
    """Makes the checks until they have succeeded once, and keeps why work is refused.  Thread-safe.

    Clients see the reason, so it names no host; the log has the whole one.
    """

    def __init__(self, check: StoreCheck) -> None:
        self._lock = threading.Lock()
        self._check = check
        self._refusal: tuple[type[Unavailable], str] | None = None
        self._logged = ""

    def start(self) -> None:
        """Refuse work from now on, and make the checks on a thread, which ends once they have succeeded."""
        self._refusal = StackUnconfirmed, "The stores have not been checked yet; try again in a few seconds."
        threading.Thread(target=self._run, name="store-check", daemon=True).start()

    def check(self) -> None:
        """Make the checks that have not succeeded yet.

        Raises:
            WrongStores: the gateway must not use them.
            Unavailable: a store does not answer; whether work is refused is not changed, but why.
        """
        with self._lock:
            try:
                self._check.run()
            except UnusableStores as error:
                self._log(str(error))
                self._refusal = WrongStores, _FOREIGN if isinstance(error, ForeignStack) else str(error)
            except Unavailable as error:
                if self._refusal:  # which says by now what does not answer
                    self._refusal = type(error), str(error)
                raise
            else:
                self._refusal = None
        self.require()

    def require(self) -> None:
        """Raise WrongStores, StackUnconfirmed or what the last check found unavailable; nothing is sent."""
        if refusal := self._refusal:
            kind, reason = refusal
            raise kind(reason)

    def _log(self, reason: str) -> None:
        if reason != self._logged:
            log.error("stores_unusable", reason=reason)
            self._logged = reason

    def _run(self) -> None:
        while True:
            try:
                return self.check()
            except Unavailable:
                time.sleep(CHECK_INTERVAL_SECONDS)
