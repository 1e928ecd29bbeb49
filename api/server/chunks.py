"""A decoder of the chunked transfer coding (RFC 9112, section 7.1) that is fed bytes as they come.

It accepts what gunicorn's blocking reader accepts, and bounds what chunks may cost.  Trailers are checked and dropped.
"""

from collections.abc import Callable

from gunicorn.http.body import CHUNK_EXT_RE  # type: ignore[import-untyped]

MAX_LINE_BYTES = 1024
MAX_TRAILER_BYTES = 8192
# What does not belong to the content: a body of one-byte chunks costs the CPU a hundred times its size.
MAX_FRAMING_BYTES = 64 * 1024
_FRAMING_SHARE = 8
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_MAX_SIZE_DIGITS = 16
_LINE_END = b"\r\n"


class BrokenChunks(ValueError):
    """The bytes are not chunks, or cost too much for what they hold."""


class ChunkDecoder:
    """Decodes one body.  `rest` holds the bytes behind its end once `is_complete`."""

    def __init__(self) -> None:
        self.is_complete = False
        self._buffer = bytearray()
        self._missing = 0
        self._content_bytes = 0
        self._framing_bytes = 0
        self._step: Callable[[], bytes | None] = self._read_size

    @property
    def rest(self) -> bytes:
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes; return the content in them.

        Raises:
            BrokenChunks: they are no chunks.
        """
        self._buffer += data
        pieces: list[bytes] = []
        while not self.is_complete and (piece := self._step()) is not None:
            if piece:
                pieces.append(piece)
        return pieces

    # Each step returns content, b"" if it made progress without any, and None if it needs more bytes.

    def _read_size(self) -> bytes | None:
        line = self._take_line(MAX_LINE_BYTES)
        if line is None:
            return None
        self._missing = parse_chunk_size(line)
        self._step = self._read_content if self._missing else self._read_trailers
        return b""

    def _read_content(self) -> bytes | None:
        if not self._buffer:
            return None
        piece = bytes(self._buffer[: self._missing])
        del self._buffer[: len(piece)]
        self._missing -= len(piece)
        self._content_bytes += len(piece)
        if not self._missing:
            self._step = self._read_end
        return piece

    def _read_end(self) -> bytes | None:
        if len(self._buffer) < len(_LINE_END):
            return None
        if not self._buffer.startswith(_LINE_END):
            raise BrokenChunks("a chunk does not end where its size says")
        self._drop(len(_LINE_END))
        self._step = self._read_size
        return b""

    def _read_trailers(self) -> bytes | None:
        line = self._take_line(MAX_TRAILER_BYTES)
        if line is None:
            return None
        self._missing += len(line)
        if self._missing > MAX_TRAILER_BYTES or (line and line.find(b":") <= 0):
            raise BrokenChunks("the trailers are too long, or are none")
        self.is_complete = not line
        return b""

    def _take_line(self, max_bytes: int) -> bytes | None:
        end = self._buffer.find(b"\n", 0, max_bytes + len(_LINE_END))
        if end < 0:
            if len(self._buffer) > max_bytes:
                raise BrokenChunks("a line is too long")
            return None
        line = bytes(self._buffer[: end + 1])
        if not line.endswith(_LINE_END) or b"\r" in line[:-2]:
            raise BrokenChunks("a line does not end with CR LF")
        self._drop(len(line))
        return line[:-2]

    def _drop(self, nbytes: int) -> None:
        del self._buffer[:nbytes]
        self._framing_bytes += nbytes
        if self._framing_bytes > MAX_FRAMING_BYTES + self._content_bytes // _FRAMING_SHARE:
            raise BrokenChunks("the chunks are too small")


def parse_chunk_size(line: bytes) -> int:
    """Return the size in a chunk's first line, whose extensions are checked and dropped.

    Raises:
        BrokenChunks: there is no size, or an extension is malformed.
    """
    digits, semicolon, extensions = line.partition(b";")
    if semicolon:
        digits = digits.rstrip(b" \t")
        if not CHUNK_EXT_RE.fullmatch(b";" + extensions):
            raise BrokenChunks("a chunk extension is malformed")
    if not 0 < len(digits) <= _MAX_SIZE_DIGITS or not _HEX_DIGITS.issuperset(digits):
        raise BrokenChunks("a chunk has no size")
    return int(digits, 16)
