"""Room for the bytes that the clients of one process have sent, within its budget."""

from collections.abc import Callable

from api.server.budget import ByteBudget, Reservation
from api.server.connection import Connection
from api.server.options import ServerLimits
from api.server.peers import PeerShares
from api.server.uploads import find_loser

# A head that comes in pieces counts to the budget of bytes from here on.
FREE_HEAD_BYTES = 4096
# That make room for the bytes that one connection has sent.
MAX_LOSERS = 32


class UploadRoom:
    """For the thread of the loop alone.

    Args:
        refuse: called with the connection of an upload that makes room for another; it releases what that holds.
        clock: seconds, as of the deadlines of connections.
    """

    def __init__(
        self,
        uploads: PeerShares[Connection],
        limits: ServerLimits,
        *,
        refuse: Callable[[Connection], object],
        clock: Callable[[], float],
    ) -> None:
        self._uploads = uploads
        self._limits = limits
        self._refuse = refuse
        self._clock = clock
        self._budget = ByteBudget(limits.max_buffered_bytes)

    def open_reservation(self) -> Reservation:
        """Return a reservation that holds nothing so far."""
        return Reservation(self._budget)

    def reserve(self, connection: Connection, reservation: Reservation, nbytes: int) -> bool:
        """Reserve room for bytes that have come; uploads that hold too much make room.  Return False if none does."""
        slow_before = self._limits.transfer.get_slow_bound(self._clock())
        for _ in range(MAX_LOSERS):
            if reservation.grow(nbytes):
                self._uploads.hold(connection, connection.uploader, reservation.nbytes)
                return True
            loser = find_loser(
                self._uploads, connection, nbytes, slow_before=slow_before, max_bytes=self._limits.max_buffered_bytes
            )
            if loser is None:
                return False
            self._refuse(loser)
        return False

    def reserve_head(self, connection: Connection) -> bool:
        """Reserve room for what has come of a head, as reserve() does."""
        if len(connection.received) <= FREE_HEAD_BYTES:
            return True
        if connection.head_reservation is None:
            connection.head_reservation = self.open_reservation()
        missing = len(connection.received) - connection.head_reservation.nbytes
        return missing <= 0 or self.reserve(connection, connection.head_reservation, missing)

    def reserve_further(self, connection: Connection) -> bool:
        """Reserve room for further requests that have come already; no upload makes room for them."""
        if len(connection.received) <= FREE_HEAD_BYTES:
            return True
        connection.head_reservation = self.open_reservation()
        return connection.head_reservation.grow(len(connection.received))
