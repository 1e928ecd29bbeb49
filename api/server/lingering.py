"""The end of a connection: the client is not reset before it has read its response."""

import socket
from collections.abc import Callable

from api.server.connection import Connection, Phase
from api.server.connections import READ, Connections

# Unless a client was refused for its slowness, it may send the rest of a refused body for so long.
MAX_LINGER_SECONDS = 30.0


class Lingering:
    """For the thread of the loop alone.

    Args:
        seconds: how long a client that was answered may take to close, or to send more of a refused body.
    """

    def __init__(self, connections: Connections, seconds: float, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._seconds = seconds
        self._clock = clock

    def begin(self, connection: Connection) -> None:
        """Close the sending side, and discard what still comes."""
        connection.socket.shutdown(socket.SHUT_WR)
        now = self._clock()
        connection.received.clear()
        connection.release()
        longest = self._seconds if connection.is_late else max(MAX_LINGER_SECONDS, self._seconds)
        connection.linger_until = now + longest
        self._connections.wait_for_client(connection, Phase.LINGERING, now + self._seconds)
        self._connections.watch(connection, READ)
        self.discard(connection)

    def discard(self, connection: Connection) -> None:
        """Discard what has come; close the connection if that is its end, or more than any client may send."""
        nbytes = connection.discard()
        if nbytes == 0:
            self._connections.close(connection)
        elif nbytes is not None:
            connection.deadline = min(self._clock() + self._seconds, connection.linger_until)
