"""The segments and scans of a JPEG, from its markers alone, and which of them a decoder is to see.

Pillow refuses a file for a comment or a profile that is damaged, so it gets the segments that have an influence on the
pixels, and no others.

A progressive JPEG of a few kilobytes can have thousands of scans, each of which makes a decoder visit every block of
the image.  Encoders make about ten.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.errors import ImageTooCostly, NotAnImage
from shared.images.spliced_file import splice
from shared.images.structure import Size, Structure, excess_error, malformed_error, truncated_error

MAX_SCANS = 100
# An image of any size may have these, and a small one more: as many as visit this number of pixels.
ORDINARY_SCANS = 20
MAX_SCANNED_PIXELS = 100_000_000
MAX_SEGMENTS = 4_000  # before the first scan, and from then on
_MAX_JUNK_BYTES = 65_536  # between all segments, which parsers skip byte by byte

MAX_TABLE_BYTES = 65_536  # which Pillow parses one by one; an image has four tables
MAX_EXIF_SEGMENTS = 100  # MAX_EXIF_BYTES need 62

_START_OF_SCAN, _END_OF_IMAGE, _TABLES, _APP0, _APP1, _APP14, _COMMENT = 0xDA, 0xD9, 0xDB, 0xE0, 0xE1, 0xEE, 0xFE
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
# Frames that no decoder here has, and the only precision that it has.
_UNSUPPORTED_FRAMES = {0xF7: "JPEG-LS", **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF), "hierarchical")}
_SAMPLE_BITS = 8
_ANCILLARY = frozenset({*range(0xE0, 0xF0), _COMMENT})
_HAS_NO_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_EXIF = b"Exif\x00\x00"
# By marker: what an ancillary segment with an influence begins with, and its least length.  The colours follow from
# the first two; the last may tell the orientation.
_NEEDED = {_APP0: (b"JFIF\x00", 14), _APP14: (b"Adobe", 12), _APP1: (b"http://ns.adobe.com/xap/1.0/\x00", 29)}
# A marker that ends the coded data of a scan: neither a stuffed 0xFF byte nor a restart marker.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def read_jpeg(data: bytes) -> Structure:
    """Read the segments up to the first scan, and count the scans.

    Raises:
        TruncatedImage: the file has no scan, or no end.
        NotAnImage: there is no segment where one must be, or it is coded in a way that is not supported.
        ImageTooCostly: there are too many segments, or too much in them.
    """
    header = _Header(memoryview(data))
    for start, marker in _iterate_segments(data):
        if marker == _START_OF_SCAN:
            # The search starts at the end of the file; a thumbnail's end marker lies before this point.
            if data.rfind(b"\xff\xd9", start) < 0:
                break
            return Structure(
                scans=_bound_scans(data, start), source=splice(header.select(start)), exif=header.join_exif()
            )
        header.add(marker, start, _find_end(data, start))
    raise truncated_error("JPEG")


@dataclass(slots=True)
class _Header:
    """The segments before the first scan that have an influence on the pixels."""

    data: memoryview
    segments: list[memoryview] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    table_bytes: int = 0

    def add(self, marker: int, start: int, end: int) -> None:
        _check_frame(marker, self.data[start + 4 : end])
        content = bytes(self.data[start + 4 : end]) if marker in _NEEDED else b""
        if marker == _APP1 and content.startswith(_EXIF):
            self.exif.append(content.removeprefix(_EXIF))
        if marker == 0xFF or (marker in _ANCILLARY and not _is_needed(marker, content)):
            return
        self.table_bytes += end - start if marker == _TABLES else 0
        self.segments.append(self.data[start:end])

    def select(self, scan: int) -> list[memoryview]:
        """Return the parts of the file for the decoder, the first scan of which is at `scan`.

        Raises:
            ImageTooCostly: there are too many tables.
        """
        if self.table_bytes > MAX_TABLE_BYTES:
            raise excess_error("JPEG", MAX_TABLE_BYTES, "bytes of quantization tables")
        return [self.data[:2], *self.segments, self.data[scan:]]

    def join_exif(self) -> bytes | None:
        """Return the Exif metadata of all segments, which Pillow would read if it had them.

        Raises:
            ImageTooCostly: there is too much of it.
        """
        if len(self.exif) > MAX_EXIF_SEGMENTS:
            raise excess_error("JPEG", MAX_EXIF_SEGMENTS, "segments of Exif metadata")
        return _EXIF + b"".join(self.exif) if self.exif else None


def _check_frame(marker: int, content: memoryview) -> None:
    if marker in _UNSUPPORTED_FRAMES:
        raise NotAnImage(
            f"A JPEG of the kind {_UNSUPPORTED_FRAMES[marker]} is not supported: send it as an ordinary JPEG or as PNG"
        )
    if marker in _FRAMES and content and content[0] != _SAMPLE_BITS:
        raise NotAnImage(f"A JPEG of {content[0]} bits a sample is not supported: send it with 8 bits, or as PNG")


def _is_needed(marker: int, content: bytes) -> bool:
    prefix, least = _NEEDED.get(marker, (b"", 0))
    return bool(prefix) and content.startswith(prefix) and len(content) >= least


def check_scans(scans: int, size: Size) -> None:
    """Check the number of scans of an image, by its size: the product is what they cost.

    Raises:
        ImageTooCostly: there are too many.
    """
    pixels = max(1, size[0] * size[1])
    limit = min(MAX_SCANS, max(ORDINARY_SCANS, MAX_SCANNED_PIXELS // pixels))
    if scans > limit:
        raise ImageTooCostly(
            f"The JPEG image of {pixels} pixels has more than {limit} scans, which take too long to decode"
        )


def has_separate_scans(data: bytes, components: int) -> bool:
    """Return whether the first scan has not all components, so that the decoder keeps coefficients of the image."""
    start = _find_scan(data, 2)
    return start is not None and data[start + 4 : start + 5] != bytes([components])


def count_scans(data: bytes, at_most: int, position: int = 2) -> int:
    """Count the scans from `position` on, up to `at_most`, in time linear in the length of the file.

    Raises:
        ImageTooCostly: there are too many segments between them.
    """
    count = segments = 0
    while count < at_most and (found := _MARKER.search(data, position)):
        kind, position = found[1][0], found.end()
        if kind == _END_OF_IMAGE:
            break
        if kind == _START_OF_SCAN:
            count += 1
        else:
            # Those without length cost as much as the others, and encoders write only restart markers, which
            # the search skips.
            segments += 1
            position = _find_end(data, found.start())
        if segments > MAX_SEGMENTS:
            raise excess_error("JPEG", MAX_SEGMENTS, "segments")
    return count


def _bound_scans(data: bytes, start: int) -> int:
    """Return a number of scans that is not too low, and is exact if it is above ORDINARY_SCANS."""
    # Fast: it counts those of thumbnails and of bytes behind the image too.
    count = data.count(bytes([0xFF, _START_OF_SCAN]), start)
    return count if count <= ORDINARY_SCANS else count_scans(data, MAX_SCANS + 1, start)


def _iterate_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and marker of each segment from the second on, to the end of the file.

    Raises:
        NotAnImage, ImageTooCostly: there is none where one must be, or there are too many.
    """
    position, junk = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = data.find(b"\xff", position, position + _MAX_JUNK_BYTES)
        junk += found - position
        if found < 0 and position + _MAX_JUNK_BYTES >= len(data):
            return
        if found < 0 or junk > _MAX_JUNK_BYTES:
            raise malformed_error("JPEG")
        marker = data[found + 1]
        yield found, marker
        position = found + 1 if marker == 0xFF else _find_end(data, found)
    raise excess_error("JPEG", MAX_SEGMENTS, "segments")


def _find_end(data: bytes, start: int) -> int:
    """Return where the segment that starts with a marker at `start` ends."""
    return start + 2 + (0 if data[start + 1] in _HAS_NO_LENGTH else int.from_bytes(data[start + 2 : start + 4], "big"))


def _find_scan(data: bytes, position: int) -> int | None:
    """Return where the next start-of-scan marker is, from `position` on; None at the end of the image."""
    while found := _MARKER.search(data, position):
        kind, position = found[1][0], found.end()
        if kind == _START_OF_SCAN:
            return found.start()
        if kind == _END_OF_IMAGE:
            return None
        position = _find_end(data, found.start())
    return None
