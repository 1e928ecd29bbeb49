"""The chunks of a PNG: which of them a decoder is to see.

Pillow refuses a file for a wrong checksum, a damaged profile or a long text in a chunk that has no influence on the
pixels, and some of these only after it has decoded them.  So it gets the chunks that have one, and no others.
"""

import struct
import zlib
from dataclasses import dataclass, field

from shared.errors import NotAnImage
from shared.images.spliced_file import splice
from shared.images.structure import Structure, excess_error, truncated_error

MAX_PIXEL_CHUNKS = 100_000  # IDAT, and those of an animation's frames
MAX_OTHER_CHUNKS = 2_000
MAX_TEXT_BYTES = 1_000_000  # of the metadata that is a text, inflated; Pillow takes as much
_HEADER = struct.Struct(">I4s")
_SIGNATURE_BYTES = 8
_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_CRITICAL = frozenset({b"IHDR", b"PLTE"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# Texts in which Pillow finds the orientation.
_KEYWORDS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0", b"exif\0")
_MIN_TRANSPARENCY_BYTES = {0: 2, 2: 6}  # by the kind of colours: grey, RGB


def read_png(data: bytes) -> Structure:
    """Read the chunks to the end.

    The file for the decoder has header, palette, transparency, pixels, and the metadata that tells the orientation,
    also if that is behind the pixels.  Of an animation it has the image that viewers without animations show.

    Raises:
        TruncatedImage, struct.error: the file stops before its end.
        NotAnImage: it has the form that only Apple's decoders read.
        ImageTooCostly: there are too many chunks.
    """
    chunks = _Chunks(memoryview(data))
    position, pixels, others = _SIGNATURE_BYTES, 0, 0
    while True:
        length, kind = _HEADER.unpack_from(data, position)
        end = position + 12 + length
        if end > len(data):
            raise truncated_error("PNG")
        chunks.add(kind, position, end)
        if kind == b"IEND":
            return Structure(source=splice(chunks.select()))
        pixels += kind in _PIXELS
        others += kind not in _PIXELS
        _check_counts(pixels, others)
        position = end


@dataclass(slots=True)
class _Chunks:
    """The chunks that have an influence on the pixels.

    head: header, palette and transparency; pixels: where runs of IDAT start and end; metadata: the last one of a kind.
    """

    data: memoryview
    head: list[memoryview] = field(default_factory=list)
    pixels: list[tuple[int, int]] = field(default_factory=list)
    metadata: dict[bytes, memoryview] = field(default_factory=dict)
    end: memoryview = field(default_factory=lambda: memoryview(b""))

    def add(self, kind: bytes, start: int, end: int) -> None:
        chunk = self.data[start:end]
        if kind == b"IDAT":
            self._add_pixels(start, end)
        elif kind == b"IEND":
            self.end = chunk
        elif kind == b"CgBI":
            raise NotAnImage("A PNG in Apple's own form (CgBI) is not supported: save it as an ordinary PNG")
        elif not self.pixels and (kind in _CRITICAL or (kind == b"tRNS" and self._is_transparency(chunk))):
            self.head.append(chunk)
        elif (keyword := _find_keyword(kind, chunk)) and _is_intact(chunk):
            self.metadata[keyword] = chunk

    def select(self) -> list[memoryview]:
        """Return the parts of the file for the decoder."""
        signature = self.data[:_SIGNATURE_BYTES]
        metadata = [chunk for chunk in self.metadata.values() if _is_short_text(chunk)]
        pixels = [self.data[start:end] for start, end in self.pixels]
        return [signature, *self.head, *metadata, *pixels, self.end]

    def _add_pixels(self, start: int, end: int) -> None:
        if self.pixels and self.pixels[-1][1] == start:
            start = self.pixels.pop()[0]
        self.pixels.append((start, end))

    def _is_transparency(self, chunk: memoryview) -> bool:
        header = self.head[0] if self.head else b""
        colours = header[17] if len(header) > 17 else 0
        return _is_intact(chunk) and len(chunk) - 12 >= _MIN_TRANSPARENCY_BYTES.get(colours, 1)


def _find_keyword(kind: bytes, chunk: memoryview) -> bytes | None:
    """Return what names metadata that may tell the orientation; None for any other chunk."""
    if kind == b"eXIf":
        return kind
    if kind not in _TEXTS:
        return None
    start = bytes(chunk[8 : 8 + max(map(len, _KEYWORDS))])
    return next((keyword for keyword in _KEYWORDS if start.startswith(keyword)), None)


def _is_intact(chunk: memoryview) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _is_short_text(chunk: memoryview) -> bool:
    """Return whether a chunk is no text, or one that Pillow takes: short also when it is inflated (PNG, 11.3.3)."""
    kind, content = bytes(chunk[4:8]), chunk[8:-4]
    if kind not in _TEXTS:
        return True
    if len(content) > MAX_TEXT_BYTES:
        return False
    text = bytes(content).partition(b"\0")[2]
    if kind == b"tEXt":
        return True
    if kind == b"zTXt":
        return text[:1] == b"\0" and _is_short_deflated(text[1:])
    is_deflated, fields = text[:1] != b"\0", text[2:].split(b"\0", 2)
    return len(fields) == 3 and (not is_deflated or _is_short_deflated(fields[2]))


def _is_short_deflated(data: bytes) -> bool:
    inflater = zlib.decompressobj()
    try:
        return len(inflater.decompress(data, MAX_TEXT_BYTES)) < MAX_TEXT_BYTES
    except zlib.error:
        return False


def _check_counts(pixels: int, others: int) -> None:
    if pixels > MAX_PIXEL_CHUNKS:
        raise excess_error("PNG", MAX_PIXEL_CHUNKS, "chunks of pixels")
    if others > MAX_OTHER_CHUNKS:
        raise excess_error("PNG", MAX_OTHER_CHUNKS, "chunks besides its pixels")
