"""A response whose pieces come after its request has run: the app pushes them, the loop sends them, no thread waits.

The app puts a PushStream into the StreamSlot that it finds under STREAM_KEY, and returns a response without a body.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

_LAST_CHUNK = b"0\r\n\r\n"


class PushStream:
    """The body of one response.  Thread-safe.

    on_close: called once, when nothing more can be sent: the stream has ended, or its client has gone.  It must neither
        block nor raise.
    """

    def __init__(self, on_close: Callable[[], object]) -> None:
        self._on_close = on_close
        self._lock = threading.Lock()
        self._pieces: list[bytes] = []
        self._wake: Callable[[], object] | None = None
        self._is_woken = False
        self._is_ended = False
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        return not (self._is_ended or self._is_closed)

    def push(self, data: bytes) -> None:
        """Add bytes to the body; they are dropped if the stream has ended."""
        with self._lock:
            if self.is_open:
                self._pieces.append(data)
        self._call()

    def end(self) -> None:
        """End the body after what was pushed."""
        with self._lock:
            self._is_ended = True
        self._call()

    def attach(self, wake: Callable[[], object]) -> None:
        """Have wake() called, on any thread, when take() returns something."""
        with self._lock:
            self._wake = wake
        self._call()

    def take(self) -> tuple[bytes, bool]:
        """Return what was pushed since the last call, and whether that is the end."""
        with self._lock:
            self._is_woken = False
            data, self._pieces = b"".join(self._pieces), []
            return data, self._is_ended

    def close(self) -> None:
        """Drop what was not taken; a second call does nothing."""
        with self._lock:
            is_first = not self._is_closed
            self._is_closed = True
            self._pieces.clear()
        if is_first:
            self._on_close()

    def _call(self) -> None:
        """Wake the loop, unless it is woken already or there is nothing for it."""
        with self._lock:
            is_due = bool(self._pieces) or self._is_ended
            wake = None if self._is_woken or self._is_closed or not is_due else self._wake
            self._is_woken = self._is_woken or wake is not None
        if wake is not None:
            wake()


@dataclass(slots=True)
class StreamSlot:
    """Where the app puts the stream of a response."""

    stream: PushStream | None = None

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()


@dataclass(frozen=True, slots=True)
class PushedBody:
    """A stream, and how it is sent.

    is_chunked: for HTTP/1.1; a client of HTTP/1.0 reads up to the end of the connection.
    """

    stream: PushStream
    is_chunked: bool

    def take(self) -> tuple[bytes, bool]:
        """Return the bytes to send next, and whether they are the last."""
        data, is_last = self.stream.take()
        if not self.is_chunked:
            return data, is_last
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk + (_LAST_CHUNK if is_last else b""), is_last
