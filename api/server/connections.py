"""All connections of one process: what the selector watches, which wait for their clients, and which is dropped."""

import selectors
from collections.abc import Callable

from api.server.connection import NEVER, Connection, Phase
from api.server.options import DropReason, ServerLimits
from api.server.peers import PeerShares, WaitingConnections

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Connections:
    """Used by the loop's thread alone.

    uploads: the bytes of heads and bodies that are not complete.
    """

    def __init__(
        self, selector: selectors.BaseSelector, limits: ServerLimits, count_drop: Callable[[DropReason], None]
    ) -> None:
        self._selector = selector
        self._limits = limits
        self._count_drop = count_drop
        self._all: set[Connection] = set()
        self._waiting: WaitingConnections[Connection] = WaitingConnections(limits.max_connections_per_peer)
        self._unsent: PeerShares[Connection] = PeerShares()
        self.uploads: PeerShares[Connection] = PeerShares()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def has_room(self) -> bool:
        return len(self._all) < self._limits.max_connections

    def list_all(self) -> list[Connection]:
        return list(self._all)

    def list_expired(self, now: float) -> list[Connection]:
        return [connection for connection in self._all if connection.deadline <= now]

    def add(self, connection: Connection) -> None:
        self._all.add(connection)

    def watch(self, connection: Connection, events: int) -> None:
        """Have the selector report these events, or nothing more for 0."""
        before = connection.watched_events
        if events == before:
            return
        connection.watched_events = events
        if not before:
            self._selector.register(connection.socket, events, connection)
        elif events:
            self._selector.modify(connection.socket, events, connection)
        else:
            self._selector.unregister(connection.socket)

    def wait_for_client(self, connection: Connection, phase: Phase, deadline: float) -> None:
        """Begin a phase without a complete request; the peer's oldest is dropped if it has too many."""
        connection.phase, connection.deadline = phase, deadline
        self._wait(connection)

    def stop_waiting(self, connection: Connection) -> None:
        """Count the connection to its peer no more: its request is complete, or was answered."""
        self._waiting.remove(connection)
        self.uploads.remove(connection)

    def wait_for_reader(self, connection: Connection, deadline: float) -> None:
        """Begin to send what the client was slow to read; what is too much for all is dropped by peer.

        Until the client has read it, it has a connection without a request that runs, like others that wait.
        """
        connection.phase, connection.deadline = Phase.WRITING, deadline
        self._unsent.hold(connection, connection.peer, connection.unsent_bytes)
        self.watch(connection, WRITE)
        self._wait(connection)
        self._drop_surplus()

    def _drop_surplus(self) -> None:
        while self._unsent.total > self._limits.max_buffered_bytes and len(self._unsent) > 1:
            self.drop(self._unsent.find_surplus(), DropReason.UNREAD_RESPONSES)

    def wait_for_app(self, connection: Connection, transfer_deadline: float) -> None:
        """Wait for more of a response that is pushed, and for the client to read what it was slow to read.

        Args:
            transfer_deadline: until when the client may take for that.
        """
        connection.phase = Phase.STREAMING
        if not connection.unsent:
            connection.deadline = NEVER
            self.stop_writing(connection)
            self.watch(connection, READ)
            return
        connection.deadline = transfer_deadline
        self._unsent.hold(connection, connection.peer, connection.unsent_bytes)
        self.watch(connection, READ | WRITE)
        self._drop_surplus()

    def count_sent(self, connection: Connection, nbytes: int) -> None:
        self._unsent.hold(connection, connection.peer, self._unsent.get_amount(connection) - nbytes)

    def stop_writing(self, connection: Connection) -> None:
        self._unsent.remove(connection)

    def drop_oldest(self) -> bool:
        """Drop a connection that waits for its client, of the peer that has the most; return False if there is none."""
        oldest = self._waiting.get_oldest()
        if oldest is not None:
            self.drop(oldest, DropReason.CONNECTION_LIMIT)
        return oldest is not None

    def _wait(self, connection: Connection) -> None:
        surplus = self._waiting.add(connection, connection.peer)
        if surplus is not None:
            self.drop(surplus, DropReason.PEER_LIMIT)

    def count_drop(self, reason: DropReason) -> None:
        self._count_drop(reason)

    def drop(self, connection: Connection, reason: DropReason) -> None:
        self._count_drop(reason)
        self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close the socket and give back all that the connection held; a second call does nothing."""
        if connection.phase is Phase.CLOSED:
            return
        self.watch(connection, 0)
        connection.phase = Phase.CLOSED
        connection.release()
        self.stop_waiting(connection)
        self.stop_writing(connection)
        self._all.discard(connection)
        if connection.unsent:
            connection.reset_on_close()
        connection.unsent.clear()
        connection.received.clear()
        connection.socket.close()
