"""The segments and scans of a JPEG, from its markers alone.

A progressive JPEG of a few kilobytes can have thousands of scans, each of which makes a decoder visit every block of
the image.  Encoders make about ten.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.errors import ImageTooCostly, NotAnImage
from shared.images.directory import check_exif
from shared.images.structure import Size, Structure, excess_error, malformed_error, truncated_error

MAX_SCANS = 100
# An image of any size may have these, and a small one more: as many as visit this number of pixels.
ORDINARY_SCANS = 20
MAX_SCANNED_PIXELS = 100_000_000
MAX_SEGMENTS = 4_000  # before the first scan, and from then on
_MAX_JUNK_BYTES = 65_536  # between all segments, which parsers skip byte by byte

# Pillow parses these one by one: an image has four tables, and Photoshop writes some dozens of resources.
MAX_TABLE_BYTES = 65_536
MAX_RESOURCES = 4_000
# Pillow joins them one by one, each time with a copy; MAX_EXIF_BYTES need 62.
MAX_EXIF_SEGMENTS = 100

_START_OF_SCAN, _END_OF_IMAGE, _TABLES, _APP1, _APP13 = 0xDA, 0xD9, 0xDB, 0xE1, 0xED
_JPEG_LS = 0xF7
_FRAMES = frozenset({*range(0xC0, 0xD0), _JPEG_LS}) - {0xC4, 0xC8, 0xCC}  # start of frame, of each process
_HAS_NO_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_EXIF = b"Exif\x00\x00"
# A marker that ends the coded data of a scan: neither a stuffed 0xFF byte nor a restart marker.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def read_jpeg(data: bytes) -> Structure:
    """Read the segments up to the first scan, and count the scans.

    Raises:
        TruncatedImage: the file has no scan, or no end.
        NotAnImage: there is no segment where one must be, or samples have more than 8 bits.
        ImageTooCostly: there are too many segments, or too much in them.
    """
    metadata = _Metadata()
    for start, marker in _iterate_segments(data):
        if marker == _START_OF_SCAN:
            # The search starts at the end of the file; a thumbnail's end marker lies before this point.
            if data.rfind(b"\xff\xd9", start) < 0:
                break
            metadata.check()
            return Structure(scans=_bound_scans(data, start))
        if marker in _FRAMES:
            _check_frame(marker, data[start + 4])
        metadata.add(marker, data[start + 4 : _find_end(data, start)])
    raise truncated_error("JPEG")


def _check_frame(marker: int, bits: int) -> None:
    """Check by its marker, and by its bits a sample, that a frame can be decoded.

    Raises:
        NotAnImage: it cannot.
    """
    if marker == _JPEG_LS:
        raise NotAnImage("The image is compressed by JPEG-LS, which is not supported; save it as PNG")
    if bits != 8:
        raise NotAnImage(f"The JPEG image has {bits} bits a sample, 8 can be decoded; save it with 8")


@dataclass(slots=True)
class _Metadata:
    """What Pillow parses of the segments before the first scan."""

    exif: list[bytes] = field(default_factory=list)
    table_bytes: int = 0
    resources: int = 0

    def add(self, marker: int, content: bytes) -> None:
        if marker == _APP1 and content.startswith(_EXIF):
            self.exif.append(content.removeprefix(_EXIF))
        elif marker == _TABLES:
            self.table_bytes += len(content)
        elif marker == _APP13:
            self.resources += content.count(b"8BIM")

    def check(self) -> None:
        if self.table_bytes > MAX_TABLE_BYTES:
            raise excess_error("JPEG", MAX_TABLE_BYTES, "bytes of quantization tables")
        if self.resources > MAX_RESOURCES:
            raise excess_error("JPEG", MAX_RESOURCES, "Photoshop resources")
        if len(self.exif) > MAX_EXIF_SEGMENTS:
            raise excess_error("JPEG", MAX_EXIF_SEGMENTS, "segments of Exif metadata")
        check_exif(b"".join(self.exif))


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
