"""One client's connection: its phase, its deadline, and its non-blocking socket."""

import math
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from api.server.body import READ_BYTES, BodyReceiver
from api.server.budget import Reservation
from api.server.push import PushedBody

NEVER = math.inf
# Of the rest of a refused body, or beside a response that is pushed.
MAX_DISCARDED_BYTES = 256 * 1024 * 1024
_MAX_PIECES = 64


class Phase(StrEnum):
    """What a connection is waiting for.

    IDLE: the first byte of a further request.  HEAD, BODY: the rest of them.  RUNNING: the app.
    STREAMING: the app, to push more of the response.  WRITING: the client, to read the response.  LINGERING: the
    client, to close.
    """

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    RUNNING = "running"
    STREAMING = "streaming"
    WRITING = "writing"
    LINGERING = "lingering"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A listening socket; `is_internal`: it serves health and metrics."""

    socket: Any
    address: Any
    is_internal: bool


class Connection:
    """Belongs to the loop's thread, except while it is RUNNING: then to the thread of its request."""

    __slots__ = (
        "address", "body", "deadline", "discarded_bytes", "head_reservation", "is_last", "is_late", "keeps_alive",
        "linger_until", "listener", "number", "peer", "phase", "pushed", "received", "request", "searched", "socket",
        "unsent", "uploader", "watched_events",
    )  # fmt: skip

    def __init__(self, client: socket.socket, address: Any, peer: str | None, listener: Listener) -> None:
        self.socket = client
        self.address = address
        self.peer = peer
        # Behind a trusted proxy it is the client of the last head.
        self.uploader = peer
        self.listener = listener
        self.phase = Phase.HEAD
        self.deadline = NEVER
        self.received = bytearray()
        self.searched = 0
        self.request: Any = None
        self.number = 0
        self.body: BodyReceiver | None = None
        self.head_reservation: Reservation | None = None
        self.unsent: deque[memoryview] = deque()
        self.pushed: PushedBody | None = None
        self.is_last = False
        self.is_late = False
        self.keeps_alive = False
        self.linger_until = NEVER
        self.discarded_bytes = 0
        self.watched_events = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self, max_bytes: int) -> bytes | None:
        """Return bytes, b"" at the end of what the client sends, and None if there are none now.

        Raises:
            OSError: the connection is broken.
        """
        try:
            return self.socket.recv(max_bytes)
        except (BlockingIOError, InterruptedError):
            return None

    def discard(self) -> int | None:
        """Receive bytes and drop them; return how many, 0 if no more are to come, and None if there are none now.

        Raises:
            OSError: the connection is broken.
        """
        data = self.receive(READ_BYTES)
        if data is None:
            return None
        self.discarded_bytes += len(data)
        return len(data) if self.discarded_bytes <= MAX_DISCARDED_BYTES else 0

    @property
    def unsent_bytes(self) -> int:
        return sum(map(len, self.unsent))

    def send(self) -> int:
        """Send as much as the socket takes now; return the bytes.

        Raises:
            OSError: the connection is broken.
        """
        return send_pieces(self.socket, self.unsent)

    def reset_on_close(self) -> None:
        """Have close() discard what the system would still try to send for minutes, megabytes of it."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request has come."""
        return self.phase is Phase.IDLE or (self.phase is Phase.HEAD and not self.received)

    def release_head(self) -> None:
        if self.head_reservation is not None:
            self.head_reservation.release()
            self.head_reservation = None

    def release_body(self) -> None:
        if self.body is not None:
            self.body.reservation.release()
            self.body = None

    def release_request(self) -> None:
        """Give back what the request held, but not what its further ones do."""
        self.release_body()
        self.request = None

    def release_stream(self) -> None:
        if self.pushed is not None:
            self.pushed.stream.close()
            self.pushed = None

    def release(self) -> None:
        """Give back everything."""
        self.release_head()
        self.release_request()
        self.release_stream()


def send_pieces(client: socket.socket, pieces: "deque[memoryview]") -> int:
    """Send as much as a non-blocking socket takes, and remove it from `pieces`; return the bytes.

    Raises:
        OSError: the connection is broken.
    """
    total = 0
    while pieces:
        batch = [pieces[index] for index in range(min(len(pieces), _MAX_PIECES))]
        try:
            sent = client.sendmsg(batch)
        except (BlockingIOError, InterruptedError):
            return total
        total += sent
        if not _drop_sent(pieces, sent):
            return total
    return total


def _drop_sent(pieces: "deque[memoryview]", sent: int) -> bool:
    """Remove sent bytes from the front; return whether whole pieces were sent, so that the socket may take more."""
    while sent:
        first = pieces[0]
        if sent < len(first):
            pieces[0] = first[sent:]
            return False
        sent -= len(first)
        pieces.popleft()
    return True
