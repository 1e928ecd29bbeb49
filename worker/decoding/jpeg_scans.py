"""The scans of a JPEG, from its markers alone.

A progressive JPEG of a few kilobytes can have thousands of scans, each of which makes a decoder visit every block of
the image.  Encoders make about ten.
"""

import re

from shared.errors import ImageTooCostly

MAX_SCANS = 100
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_HAS_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
# A marker that ends the coded data of a scan: neither a stuffed 0xFF byte nor a restart marker.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def check_scans(data: bytes) -> None:
    """Check the number of scans, in time linear in the length of the file.

    Raises:
        ImageTooCostly: there are more than MAX_SCANS.
    """
    if count_scans(data, MAX_SCANS + 1) > MAX_SCANS:
        raise ImageTooCostly(f"The JPEG has more than {MAX_SCANS} scans, which take too long to decode")


def has_separate_scans(data: bytes, components: int) -> bool:
    """Return whether the first scan has not all components, so that the decoder keeps coefficients of the image."""
    start = _find_scan(data, 2)
    return start is not None and data[start + 4 : start + 5] != bytes([components])


def count_scans(data: bytes, at_most: int) -> int:
    """Count the scans up to `at_most`."""
    count, position = 0, 2
    while count < at_most:
        start = _find_scan(data, position)
        if start is None:
            break
        count, position = count + 1, start + 2
    return count


def _find_scan(data: bytes, position: int) -> int | None:
    """Return where the next start-of-scan marker is, from `position` on; None at the end of the image."""
    while found := _MARKER.search(data, position):
        kind = found[1][0]
        if kind == _START_OF_SCAN:
            return found.end() - 2
        if kind == _END_OF_IMAGE:
            return None
        position = found.end()
        if kind not in _HAS_NO_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    return None
