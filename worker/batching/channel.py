"""A two-way channel of messages between a host process and its engine process, over a pair of connected sockets."""

import os
import socket
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Self

from worker.batching.messages import Message, decode, encode

# Each side reports at this interval that it is neither hung nor stopped, if it has nothing else to send.
ALIVE_INTERVAL_SECONDS = 2.0
# A side that is silent for longer is hung.
SILENCE_TIMEOUT_SECONDS = 30.0


class ChannelClosed(Exception):
    """The other process has ended, or closed the channel."""


class Channel:
    """Any thread may send; one thread receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Return the channel of an inherited socket."""
        return cls(Connection(fd))

    def send(self, message: Message) -> None:
        """Send a message; blocks while the other side does not receive.

        Raises:
            ChannelClosed: the other side has ended.
        """
        data = encode(message)
        try:
            with self._sending:
                self._connection.send_bytes(data)
        except OSError as error:
            raise ChannelClosed from error

    def receive(self, *, timeout_seconds: float | None = None) -> Message:
        """Return the next message.

        Raises:
            TimeoutError: there was none in time.
            ChannelClosed: the other side has ended.
        """
        try:
            if not self._has_message(timeout_seconds):
                raise TimeoutError
            return decode(self._connection.recv_bytes())
        except TimeoutError:
            raise
        except (OSError, EOFError) as error:
            raise ChannelClosed from error

    def _has_message(self, timeout_seconds: float | None) -> bool:
        if timeout_seconds is None:
            return self._connection.poll(None)
        # In two halves: when all processes of a worker were paused, the first is over at once, and the other side gets
        # the second to report.
        return any(self._connection.poll(timeout_seconds / 2) for _ in range(2))

    def shut_down(self) -> None:
        """End the conversation: receive() raises ChannelClosed, here and on the other side."""
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as connected:
            connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the descriptor; for the thread that receives, when it has ended to do so."""
        with self._sending:
            self._connection.close()


def open_channel() -> tuple[Channel, socket.socket]:
    """Return one end of a new channel, and the socket that a child process inherits as the other."""
    ours, theirs = socket.socketpair()
    return Channel.from_fd(ours.detach()), theirs
