"""Hostile BMPs."""

import struct
from collections.abc import Sequence
from io import BytesIO

from tests.hostile.inputs import HostileInput, send_image
from tests.support import hostile_images as hostile
from tests.support.images import coffee

runs = hostile.build_run_length_bmp
_LARGE = (60_000, 1000)
_MEDIUM = (20_000, 1000)


def photo() -> bytes:
    buffer = BytesIO()
    coffee().resize((150, 100)).save(buffer, "BMP")
    return buffer.getvalue()


def patch(offset: int, layout: str, *values: int) -> bytes:
    """Return a BMP with other fields at an offset of its headers."""
    data = bytearray(photo())
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


INPUTS: Sequence[HostileInput] = (
    send_image("its signature alone", 400, lambda: b"BM"),
    send_image("the half of a file", 400, lambda: photo()[: len(photo()) // 2]),
    send_image("a kilobyte of ends of lines", 400, lambda: runs(b"\0\0" * 500, size=_LARGE), 200),
    send_image("a kilobyte of ends of lines of 4 bits", 400, lambda: runs(b"\0\0" * 500, size=_LARGE, bits=4), 200),
    send_image("runs with ends of lines", 200, lambda: runs(b"\1\1\0\0" * 1000, size=_MEDIUM)),
    send_image("runs of 4 bits with ends of lines", 200, lambda: runs(b"\1\1\0\0" * 1000, size=_MEDIUM, bits=4)),
    send_image("moves", 200, lambda: runs(b"\0\2\xff\xff" * 2000, size=_MEDIUM)),
    send_image("moves of no pixels", 400, lambda: runs(b"\0\2\0\0" * 250_000, size=_LARGE)),
    send_image("runs outside of a row", 400, lambda: runs(b"\xff\1" * 250_000, size=(8, 8_000)), 200),
    send_image("literal pixels that are missing", 400, lambda: runs(b"\0\xff", size=_LARGE)),
    send_image("an end before its pixels", 400, lambda: runs(b"\0\1", size=_LARGE)),
    send_image("no run-length data", 400, lambda: runs(b"", size=_LARGE)),
    send_image("16 MB of run-length data", 422, lambda: runs(b"\0\0" * 8_000_000, size=_LARGE)),
    send_image("4 gigapixels of runs", 413, lambda: runs(b"\0\0", size=(65_000, 65_000))),
    send_image("a million columns of runs", 413, lambda: runs(b"\0\0", size=(1_000_001, 1))),
    send_image("a width of 0", 400, lambda: patch(18, "<i", 0)),
    send_image("a negative width", 400, lambda: patch(18, "<i", -150), 413),
    send_image("the least negative height", 413, lambda: patch(22, "<i", -(2**31)), 400),
    send_image("a turned height", 200, lambda: patch(22, "<i", -100)),
    send_image("65,501 columns", 413, lambda: patch(18, "<ii", 65_501, 1)),
    send_image("pixels behind the end of the file", 400, lambda: patch(10, "<I", 2**32 - 1)),
    send_image("a header of 4 GB", 400, lambda: patch(14, "<I", 2**32 - 1)),
    send_image("a header of 1 byte", 400, lambda: patch(14, "<I", 1)),
    send_image("3 bits a pixel", 400, lambda: patch(28, "<H", 3)),
    send_image("an unknown compression", 400, lambda: patch(30, "<I", 99)),
    send_image("4 billion colours", 400, lambda: patch(28, "<HIIiiI", 8, 0, 0, 0, 0, 2**32 - 1)),
    send_image("masks of no bits", 400, lambda: patch(30, "<I", 3)),
)
