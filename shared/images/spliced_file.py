"""Parts of a file, read as one file; large ones without a copy of them."""

import io
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


# A copy of so many bytes takes less time than the calls that read the parts of a file.
_MAX_COPIED_BYTES = 131_072


class _Splice(io.RawIOBase):
    """The raw bytes of the parts, one behind the other; read only."""

    def __init__(self, parts: Iterable[memoryview]) -> None:
        self._parts = [part for part in parts if part]
        self._starts = [0, *accumulate(map(len, self._parts))]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        number = bisect_right(self._starts, self._position) - 1
        if number == len(self._parts):
            return 0
        target = memoryview(buffer)
        offset = self._position - self._starts[number]
        found = self._parts[number][offset : offset + len(target)]
        target[: len(found)] = found
        self._position += len(found)
        return len(found)


def splice(parts: Sequence[memoryview]) -> BinaryIO:
    """Return a file that reads the parts of one or several files in this order."""
    if sum(map(len, parts)) <= _MAX_COPIED_BYTES:
        return io.BytesIO(b"".join(parts))
    return io.BufferedReader(_Splice(parts), 65_536)
