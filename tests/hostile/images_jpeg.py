"""Hostile JPEGs."""

import struct
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from tests.hostile.inputs import HostileInput, send_image
from tests.support import hostile_images as hostile
from tests.support.images import coffee, jpeg

_START_OF_FRAME = b"\xff\xc0"
_START_OF_SCAN = b"\xff\xda"
_END = b"\xff\xd9"


def photo() -> bytes:
    return jpeg(coffee().resize((150, 100)))


def resize(width: int, height: int) -> bytes:
    """Return a JPEG whose header claims a size, without the pixels."""
    data = bytearray(photo())
    place = data.index(_START_OF_FRAME)
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def patch(offset: int, value: int) -> bytes:
    """Return a JPEG with one byte of its frame header changed."""
    data = bytearray(photo())
    data[data.index(_START_OF_FRAME) + offset] = value
    return bytes(data)


def insert(piece: bytes, before: bytes = b"") -> bytes:
    """Return a JPEG with a piece behind its first marker, or before another one."""
    data = photo()
    place = data.index(before) if before else 2
    return data[:place] + piece + data[place:]


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content


def replace_coded_data(content: bytes) -> bytes:
    """Return a JPEG with other coded data."""
    data = photo()
    place = data.index(_START_OF_SCAN)
    place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return data[:place] + content + _END


def without(marker: bytes) -> bytes:
    data = photo()
    start = data.index(marker)
    return data[:start] + data[start + 2 + struct.unpack_from(">H", data, start + 2)[0] :]


def exif(directory: bytes) -> bytes:
    return insert(segment(0xE1, b"Exif\0\0II*\0" + directory))


def long_image(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.new("L", (width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


def many_images() -> bytes:
    frames = [Image.new("RGB", (60, 40), (number, 90, 3)) for number in range(100)]
    buffer = BytesIO()
    frames[0].save(buffer, "MPO", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def segments_between_scans(count: int) -> bytes:
    data = hostile.build_slow_jpeg(side=64, scans=30)
    place = data.rindex(_START_OF_SCAN)
    return data[:place] + segment(0xFE, b"") * count + data[place:]


def markers_between_scans(count: int) -> bytes:
    """Return a JPEG of so many scans that they are counted, and of markers that have no length."""
    data = photo()
    return data[:-2] + b"\xff\x01" * count + b"\xff\xda\x00\x02" * 25 + _END


RESOURCES = b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 5000

INPUTS: Sequence[HostileInput] = (
    send_image("the first marker alone", 400, lambda: b"\xff\xd8\xff"),
    send_image("the half of a file", 400, lambda: photo()[: len(photo()) // 2]),
    send_image("no end", 400, lambda: photo()[:-2]),
    send_image("random bytes behind the first marker", 400, lambda: b"\xff\xd8\xff" + bytes(range(255)) * 1000),
    send_image("zeros behind the first marker", 400, lambda: b"\xff\xd8\xff\xe0\0\x02" + bytes(8_000_000)),
    send_image("hundreds of scans", 422, lambda: hostile.build_slow_jpeg(side=1000, scans=700)),
    send_image("9 megapixels of 100 scans", 422, lambda: hostile.build_slow_jpeg(side=3000, scans=99)),
    send_image("64 megapixels of 22 scans", 422, lambda: hostile.build_slow_jpeg(side=8000, scans=22)),
    send_image("as many scans as are accepted", 200, lambda: hostile.build_slow_jpeg(side=1000, scans=98)),
    send_image("a million segments", 422, lambda: hostile.build_jpeg_of_segments(segments=1_000_000, nbytes=1)),
    send_image("a million comments", 422, lambda: insert(segment(0xFE, b"") * 1_000_000)),
    send_image("half a million segments between scans", 422, lambda: segments_between_scans(500_000)),
    send_image("10 million markers without length", 422, lambda: markers_between_scans(10_000_000)),
    send_image("half a million Huffman tables", 422, lambda: insert(segment(0xC4, b"") * 500_000, _START_OF_SCAN)),
    send_image("half a million quantization tables", 422, lambda: insert(segment(0xDB, b"") * 500_000)),
    send_image("metadata of 10 MB", 422, lambda: hostile.build_jpeg_of_segments(segments=160, nbytes=65_000)),
    send_image("3,980 segments of Exif", 422, lambda: hostile.build_jpeg_of_segments(segments=3980, nbytes=1000)),
    send_image("half a million tables in 480 segments", 422, lambda: insert(segment(0xDB, bytes(65_000)) * 480)),
    send_image("2 million resources of Photoshop", 200, lambda: insert(segment(0xED, RESOURCES) * 480)),
    send_image("a profile in 500 parts", 200, lambda: insert(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(9)) * 500)),
    send_image("fill bytes before a segment", 422, lambda: insert(b"\xff" * 8_000_000)),
    send_image("junk between segments", 400, lambda: insert((bytes(1000) + segment(0xFE, b"")) * 3900)),
    send_image("a width of 0", 400, lambda: resize(0, 100)),
    send_image("a height of 0", 400, lambda: resize(100, 0)),
    send_image("4 gigapixels", 413, lambda: resize(65_535, 65_535)),
    send_image("64 megapixels and a row", 413, lambda: resize(8000, 8001)),
    send_image("65,501 columns", 413, lambda: resize(65_501, 1)),
    send_image("65,500 columns", 200, lambda: long_image(65_500, 1)),
    send_image("65,500 rows", 200, lambda: long_image(1, 65_500)),
    send_image("a larger size than its pixels", 400, lambda: resize(6000, 6000), 200),
    send_image("12 bits a sample", 400, lambda: patch(4, 12)),
    send_image("no components", 400, lambda: patch(9, 0)),
    send_image("255 components", 400, lambda: patch(9, 255)),
    send_image("sampling factors of 0", 400, lambda: patch(11, 0)),
    send_image("sampling factors of 15", 400, lambda: patch(11, 255)),
    send_image("lossless coding", 400, lambda: patch(1, 0xC3)),
    send_image("hierarchical coding", 400, lambda: patch(1, 0xC5)),
    send_image("two frames", 400, lambda: insert(photo()[photo().index(_START_OF_FRAME) :][:19], _START_OF_SCAN)),
    send_image("no frame", 400, lambda: without(_START_OF_FRAME)),
    send_image("no quantization tables", 400, lambda: photo().replace(b"\xff\xdb", b"\xff\xfe")),
    send_image("coded data of zeros", 200, lambda: replace_coded_data(bytes(1_000_000)), 400),
    send_image("coded data of restart markers", 200, lambda: replace_coded_data(b"\xff\xd0" * 2_000_000), 400),
    send_image("coded data of stuffed bytes", 200, lambda: replace_coded_data(b"\xff\0" * 2_000_000), 400),
    send_image("a directory of Exif that is its own next", 200, lambda: exif(struct.pack("<IHI", 8, 0, 8))),
    send_image("a directory of Exif at its end", 200, lambda: exif(struct.pack("<I", 1 << 31))),
    send_image(
        "an orientation of 4 billion values", 422, lambda: exif(struct.pack("<IHHHII", 8, 1, 0x112, 3, 2**32 - 1, 8))
    ),
    send_image("5,000 tags of Exif", 422, lambda: exif(struct.pack("<IH", 8, 5000) + bytes(60_000))),
    send_image("100 images in one file", 200, many_images),
    send_image("a segment longer than the file", 400, lambda: photo()[:2] + b"\xff\xe1\xff\xff" + photo()[2:900]),
    send_image("a program behind its end", 200, lambda: photo() + b"PK\x03\x04<?php ?>" * 1000),
)
