"""The chunks of a PNG."""

import struct

from shared.images.structure import Structure, excess_error, truncated_error

MAX_PIXEL_CHUNKS = 100_000  # IDAT, and those of an animation's frames
MAX_OTHER_CHUNKS = 2_000
# Pillow inflates each to a megabyte at most.
MAX_DEFLATED_CHUNKS = 32
_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_DEFLATED = frozenset({b"iCCP", b"zTXt"})
_HEADER = struct.Struct(">I4s")


def read_png(data: bytes) -> Structure:
    """Read the chunks to the end.

    Raises:
        TruncatedImage, struct.error: the file stops before its end.
        ImageTooCostly: there are too many chunks.
    """
    position = 8
    pixels = others = deflated = 0
    late_exif = None
    while True:
        length, kind = _HEADER.unpack_from(data, position)
        end = position + 12 + length
        if end > len(data):
            raise truncated_error("PNG")
        if kind == b"IEND":
            return Structure(late_exif=late_exif)
        if kind == b"eXIf" and pixels:
            late_exif = b"Exif\x00\x00" + data[position + 8 : end - 4]
        pixels += kind in _PIXELS
        others += kind not in _PIXELS
        deflated += kind in _DEFLATED or (kind == b"iTXt" and _is_deflated(data, position + 8, end - 4))
        _check_counts(pixels, others, deflated)
        position = end


def _is_deflated(data: bytes, start: int, end: int) -> bool:
    """Return whether an international text is compressed, by the flag behind its keyword (PNG, section 11.3.3.4)."""
    flag = data.find(b"\0", start, end) + 1
    return start < flag < end and data[flag] != 0


def _check_counts(pixels: int, others: int, deflated: int) -> None:
    if pixels > MAX_PIXEL_CHUNKS:
        raise excess_error("PNG", MAX_PIXEL_CHUNKS, "chunks of pixels")
    if others > MAX_OTHER_CHUNKS:
        raise excess_error("PNG", MAX_OTHER_CHUNKS, "chunks besides its pixels")
    if deflated > MAX_DEFLATED_CHUNKS:
        raise excess_error("PNG", MAX_DEFLATED_CHUNKS, "compressed texts and profiles")
