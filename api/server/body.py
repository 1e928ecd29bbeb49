"""A request's body while it arrives: by length or in chunks, within the limit and the budget.  No I/O."""

from collections.abc import Callable
from io import BytesIO

from api.server.budget import Reservation
from api.server.chunks import BrokenChunks, ChunkDecoder
from shared.errors import BodyTooLarge, UnreadableBody, UploadsFull

READ_BYTES = 256 * 1024


class BodyReceiver:
    """Collects one body.

    content: a stream that needs no further copy to be read as bytes.
    wanted_bytes: how many to read next: of a body of known length never more than it has.
    """

    def __init__(
        self, length: int | None, max_bytes: int, reservation: Reservation, reserve: Callable[[int], bool]
    ) -> None:
        """Expect `length` bytes, or chunks if it is None.

        Args:
            reserve: grows the reservation by the bytes that have come, or returns False.
        """
        self.content = BytesIO()
        self.reservation = reservation
        self._length = length
        self._max_bytes = max_bytes
        self._reserve = reserve
        self._decoder = ChunkDecoder() if length is None else None

    @property
    def is_complete(self) -> bool:
        return self._decoder.is_complete if self._decoder else self.content.tell() == self._length

    @property
    def wanted_bytes(self) -> int:
        return READ_BYTES if self._length is None else min(READ_BYTES, self._length - self.content.tell())

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the connection; return those that follow the body.

        Raises:
            UnreadableBody: they are no chunks.
            BodyTooLarge: the chunks hold more than the limit.
            UploadsFull: the budget has no room for them.
        """
        if self._decoder is None:
            missing = (self._length or 0) - self.content.tell()
            self._keep([data[:missing]])
            return data[missing:]
        try:
            pieces = self._decoder.feed(data)
        except BrokenChunks as error:
            raise UnreadableBody("The request body does not hold together as chunks.") from error
        self._keep(pieces)
        return self._decoder.rest if self._decoder.is_complete else b""

    def describe_cut(self) -> UnreadableBody:
        """Return the error of a client that stops sending before the end."""
        promised = "the last chunk" if self._length is None else f"{self._length} bytes"
        return UnreadableBody(
            f"The request body was cut short: {self.content.tell()} bytes came, and the end should follow {promised}."
        )

    def _keep(self, pieces: list[bytes]) -> None:
        nbytes = sum(map(len, pieces))
        if self.content.tell() + nbytes > self._max_bytes:
            raise BodyTooLarge("The request body is larger than this service takes.")
        if nbytes and not self._reserve(nbytes):
            raise UploadsFull()
        for piece in pieces:
            self.content.write(piece)
