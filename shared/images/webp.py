"""The chunks of a WebP, and the size of its canvas."""

import struct

from shared.images.structure import Size, Structure, excess_error, truncated_error

MAX_CHUNKS = 10_000  # a frame of an animation is one
_CHUNK = struct.Struct("<4sI")
_FOURTEEN_BITS = 0x3FFF


def read_webp(data: bytes) -> Structure:
    """Read the chunks to the end.

    The size is read because libwebp reserves two canvases before it tells Pillow how large they are.

    Raises:
        TruncatedImage, struct.error: the file stops before its end.
        ImageTooCostly: there are too many chunks.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise truncated_error("WebP")
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + _CHUNK.size > end:
            return Structure(size=_read_size(data))
        length = _CHUNK.unpack_from(data, position)[1]
        position += _CHUNK.size + length + length % 2
    raise excess_error("WebP", MAX_CHUNKS, "chunks")


def _read_size(data: bytes) -> Size | None:
    """Return the size of the canvas (RFC 9649, section 2.7), VP8 (RFC 6386, 9.1), or VP8L (RFC 9649, 3.4)."""
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & _FOURTEEN_BITS, height & _FOURTEEN_BITS
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return 1 + (bits & _FOURTEEN_BITS), 1 + (bits >> 14 & _FOURTEEN_BITS)
    return None
