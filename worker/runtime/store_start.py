"""The check of the stores at the start of a process that takes work: it takes none before they have been checked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from shared.errors import Unavailable, UnusableStores
from shared.store_check import StoreCheck

log = structlog.get_logger()
STORES_POLL_SECONDS = 0.5


@contextmanager
def end_if_unusable(name: str) -> Iterator[None]:
    """End the process in one line if a check finds that it must not use its stores; `name` is the process's."""
    try:
        yield
    except UnusableStores as error:
        raise SystemExit(f"The {name} cannot start: {error}") from None


def wait_for_stores(check: StoreCheck, name: str) -> None:
    """Return once each check has succeeded, at start or now; log each new reason why one does not."""
    logged = ""
    while True:
        try:
            with end_if_unusable(name):
                return check.run()
        except Unavailable as error:
            cause = str(error.__cause__ or "")
            if cause != logged:
                log.warning("stores_not_checked", reason=str(error), cause=cause)
                logged = cause
            time.sleep(STORES_POLL_SECONDS)
