"""Admission of decodes by a budget of bytes: small images never wait for large ones, large ones wait in turn."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import DecodersBusy, ImageTooLarge

_SMALL_SHARE = 8  # an image is small, and a part of the budget is kept for small ones, below 1/8 of the budget


class MemoryBudget:
    """Divides a number of bytes among concurrent decodes.  Thread-safe.

    One part in eight is kept for small images.  Small ones also take what large ones leave, except while a large one
    waits, so that these get their turn.
    """

    def __init__(self, max_bytes: int) -> None:
        self._reserved = max_bytes // _SMALL_SHARE
        self._max_bytes = max_bytes
        self._small_bytes = self._large_bytes = 0
        self._waiting: deque[object] = deque()  # large images, in turn
        self._changed = threading.Condition()

    @property
    def max_image_bytes(self) -> int:
        """What one image may take at most."""
        return self._max_bytes - self._reserved

    @property
    def used_bytes(self) -> int:
        with self._changed:
            return self._small_bytes + self._large_bytes

    @property
    def has_waiting(self) -> bool:
        """Whether a large image waits."""
        with self._changed:
            return bool(self._waiting)

    def is_small(self, nbytes: int) -> bool:
        return nbytes <= self._reserved

    @contextmanager
    def admit(self, nbytes: int, *, timeout_seconds: float) -> Iterator[None]:
        """Wait until the budget has these bytes, and hold them for the length of the block.

        Raises:
            ImageTooLarge: it never has them.
            DecodersBusy: it did not have them in time.
        """
        if nbytes > self.max_image_bytes:
            raise ImageTooLarge(
                f"Decoding the image takes {-(-nbytes // 1_000_000)} megabytes of memory, "
                f"at most {self.max_image_bytes // 1_000_000} are accepted"
            )
        take = self._take_small if self.is_small(nbytes) else self._take_large
        if not take(nbytes, timeout_seconds):
            raise DecodersBusy("The worker had no memory free to decode the image in time")
        try:
            yield
        finally:
            self._give_back(nbytes)

    def _take_small(self, nbytes: int, timeout_seconds: float) -> bool:
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room_for_small(nbytes), timeout_seconds):
                return False
            self._small_bytes += nbytes
            return True

    def _take_large(self, nbytes: int, timeout_seconds: float) -> bool:
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                if not self._changed.wait_for(lambda: self._has_room_for_large(nbytes, turn), timeout_seconds):
                    return False
                self._large_bytes += nbytes
                return True
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def _has_room_for_small(self, nbytes: int) -> bool:
        if self._small_bytes + nbytes <= self._reserved:
            return True
        return not self._waiting and self._small_bytes + self._large_bytes + nbytes <= self._max_bytes

    def _has_room_for_large(self, nbytes: int, turn: object) -> bool:
        return (
            self._waiting[0] is turn
            and self._large_bytes + nbytes <= self.max_image_bytes
            and self._small_bytes + self._large_bytes + nbytes <= self._max_bytes
        )

    def _give_back(self, nbytes: int) -> None:
        with self._changed:
            if self.is_small(nbytes):
                self._small_bytes -= nbytes
            else:
                self._large_bytes -= nbytes
            self._changed.notify_all()
