"""The steward shows that its stack is alive, and touches no bucket before it is known to be of its stack."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import structlog

from shared.errors import StackUnconfirmed, Unavailable, UnusableStores
from shared.stack import StackIdentity
from shared.store_check import StoreCheck

T = TypeVar("T")
log = structlog.get_logger()


class StackGuard:
    """Renews the mark of the stack, after the checks that could not be made at start.  renew() is for one thread."""

    def __init__(self, check: StoreCheck, identity: StackIdentity, *, end: Callable[[], None]) -> None:
        """Take a function that ends the process: it is called if the stores turn out to be of another stack."""
        self._check = check
        self._identity = identity
        self._end = end
        self._is_confirmed = threading.Event()
        self.has_failed = False

    def renew(self) -> None:
        """Renew the mark, or end the process.

        Raises:
            Unavailable: a store did not answer.
        """
        try:
            self._check.run()
            self._identity.renew()
        except UnusableStores as error:
            log.error("stores_unusable", reason=str(error))
            self.has_failed = True
            self._end()
            return
        self._is_confirmed.set()

    def require(self, duty: Callable[[], T]) -> Callable[[], T]:
        """Return the duty with a check in front of it that this steward has renewed the mark once."""

        def run() -> T:
            if not self._is_confirmed.is_set():
                raise StackUnconfirmed()
            return duty()

        return run

    def release(self) -> None:
        """Show that this steward has ended."""
        if not self.has_failed:
            with suppress(Unavailable):
                self._identity.release()
