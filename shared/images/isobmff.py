"""Boxes of the ISO base media file format (ISO/IEC 14496-12), the container of HEIC and AVIF."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.images.structure import excess_error, malformed_error

MAX_BOXES = 4_000  # in one box or file: a property for each of 4,000 tiles would be unusual
_SIZE_TO_END, _SIZE_IS_LONG = 0, 1


@dataclass(slots=True)
class Cursor:
    """Reads big-endian numbers of a file one by one, up to `end`."""

    data: bytes
    position: int
    end: int

    def take(self, nbytes: int) -> int:
        """Return the next number, of that many bytes; 0 of none.

        Raises:
            NotAnImage: there are not as many.
        """
        start = self.position
        self.skip(nbytes)
        return int.from_bytes(self.data[start : self.position], "big")

    def skip(self, nbytes: int) -> None:
        """Move on.

        Raises:
            NotAnImage: there are not as many bytes.
        """
        if nbytes < 0 or self.position + nbytes > self.end:
            raise malformed_error("HEIC or AVIF")
        self.position += nbytes


@dataclass(frozen=True, slots=True)
class Box:
    """A box of a file.

    start: of its header; content: where what it holds starts; end: behind it, which may be beyond the end of the file.
    """

    kind: bytes
    start: int
    content: int
    end: int

    def read(self, data: bytes) -> Cursor:
        return Cursor(data, self.content, self.end)

    def read_full(self, data: bytes) -> tuple[int, int, Cursor]:
        """Return version and flags of a full box, and a cursor behind them."""
        cursor = self.read(data)
        return cursor.take(1), cursor.take(3), cursor


def iterate_boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two places; the last one may go beyond `end`.

    Raises:
        NotAnImage: a box is shorter than its header.
        ImageTooCostly: there are too many.
    """
    for _ in range(MAX_BOXES):
        if end - start < 8:
            return
        size, kind, header = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == _SIZE_IS_LONG:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if size == _SIZE_TO_END:
            size = end - start
        if size < header:
            raise malformed_error("HEIC or AVIF")
        yield Box(kind, start, start + header, start + size)
        start += size
    raise excess_error("HEIC or AVIF", MAX_BOXES, "boxes")


def list_children(data: bytes, parent: Box, *, skipped: int = 0) -> list[Box]:
    """Return the boxes in a box, behind its first bytes.

    Raises:
        NotAnImage: one goes beyond its parent.
        ImageTooCostly: there are too many.
    """
    children = list(iterate_boxes(data, parent.content + skipped, parent.end))
    if children and children[-1].end > parent.end:
        raise malformed_error("HEIC or AVIF")
    return children
