"""Errors of the object store with single objects, which hold up no work on the others."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from shared.errors import StorageUnavailable

log = structlog.get_logger()

# So many errors in a row mean that the store does not answer at all.
MAX_IN_A_ROW = 16


class Failures:
    """Collects the errors of calls, each for one object, until too many in a row have failed.  Thread-safe."""

    def __init__(self, max_in_a_row: int = MAX_IN_A_ROW) -> None:
        self._max_in_a_row = max_in_a_row
        self._lock = threading.Lock()
        self._first: StorageUnavailable | None = None
        self._in_a_row = 0

    @contextmanager
    def tolerate(self, key: str) -> Iterator[None]:
        """Log and keep an error of the block, which is about the object `key`.

        Raises:
            StorageUnavailable: that error, if it is one too many.
        """
        try:
            yield
        except StorageUnavailable as error:
            log.warning("object_skipped", key=key, reason=str(error.__cause__ or error).partition("\n")[0])
            self.add(error)
            with self._lock:
                self._in_a_row += 1
                if self._in_a_row >= self._max_in_a_row:
                    raise
        else:
            with self._lock:
                self._in_a_row = 0

    def add(self, error: StorageUnavailable) -> None:
        """Keep an error that does not count."""
        with self._lock:
            self._first = self._first or error

    def raise_first(self) -> None:
        """Raise the first error, if there was one."""
        if self._first:
            raise self._first
