"""A response that the app pushes piece by piece (api/server/push.py): it is sent as the client reads it."""

from collections.abc import Callable

from api.server.connection import NEVER, Connection
from api.server.connections import Connections
from api.server.push import PushedBody
from api.server.transfer import MinimumRate


class Streaming:
    """For the thread of the loop alone."""

    def __init__(self, connections: Connections, transfer: MinimumRate, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._transfer = transfer
        self._clock = clock

    def begin(self, connection: Connection, body: PushedBody, *, wake: Callable[[], object]) -> None:
        """Send what the app pushes from now on; further requests on the connection are not read.

        Args:
            wake: called on any thread when push() has something to send.
        """
        connection.pushed = body
        connection.keeps_alive = False
        connection.received.clear()
        connection.release_head()
        self._connections.wait_for_app(connection, self._transfer.start(self._clock()))
        body.stream.attach(wake)

    def push(self, connection: Connection) -> bool:
        """Send what was pushed; return whether it was the last."""
        assert connection.pushed is not None
        data, is_last = connection.pushed.take()
        if data:
            connection.unsent.append(memoryview(data))
        self._send(connection)
        if is_last:
            connection.release_stream()
            self._connections.stop_writing(connection)
        return is_last

    def handle(self, connection: Connection) -> None:
        """Send what the client reads by now; it has gone if it closes its side."""
        if connection.discard() == 0:
            self._connections.close(connection)
        elif connection.unsent:
            self._send(connection)

    def _send(self, connection: Connection) -> None:
        now = self._clock()
        deadline = self._transfer.start(now) if connection.deadline == NEVER else connection.deadline
        self._connections.wait_for_app(connection, self._transfer.extend(deadline, now, connection.send()))
