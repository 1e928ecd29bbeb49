"""Hostile TIFFs."""

import struct
from collections.abc import Sequence
from io import BytesIO

from tests.hostile.inputs import HostileInput, send_image
from tests.support import hostile_images as hostile
from tests.support.images import coffee

_RAW, _DEFLATE, _JPEG = 1, 8, 7
Entry = tuple[int, int, int, int]


def photo(**options: object) -> bytes:
    buffer = BytesIO()
    coffee().resize((150, 100)).save(buffer, "TIFF", **options)
    return buffer.getvalue()


def header(width: int, height: int, *entries: Entry, compression: int = _RAW, data: bytes = bytes(64)) -> bytes:
    """Return a grey TIFF of 8 bits, in which other entries replace those of the same tag."""
    tags: dict[int, Entry] = {
        256: (256, 4, 1, width),
        257: (257, 4, 1, height),
        258: (258, 3, 1, 8),
        259: (259, 3, 1, compression),
        262: (262, 3, 1, 1),
        273: (273, 4, 1, 4096),
        277: (277, 3, 1, 1),
        279: (279, 4, 1, len(data)),
    }
    return hostile.build_tiff(*(tags | {entry[0]: entry for entry in entries}).values(), data=data)


def strips(count: int, compression: int = _DEFLATE) -> bytes:
    data = hostile.build_tiff_of_strips(width=8, height=count)
    return data.replace(struct.pack("<HHII", 259, 3, 1, 8), struct.pack("<HHII", 259, 3, 1, compression))


def tags(count: int) -> bytes:
    return b"II*\0" + struct.pack("<IH", 8, count) + struct.pack("<HHII", 40_000, 3, 1, 0) * count + bytes(4)


def big_tiff(count: int) -> bytes:
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, count) + bytes(1000)


def jpeg_strips() -> bytes:
    strip = hostile.build_slow_jpeg(side=64, scans=90)
    offsets, lengths = struct.pack("<I", 12_096) * 1000, struct.pack("<I", len(strip)) * 1000
    entries = ((273, 4, 1000, 4096), (278, 4, 1, 64), (279, 4, 1000, 8096))
    return header(64, 64_000, *entries, compression=_JPEG, data=offsets + lengths + strip)


def many_directories(count: int) -> bytes:
    """Return a TIFF whose directories are a chain, of which only the first has an image."""
    data = bytearray(photo())
    start = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * entries, len(data))
    for _ in range(count):
        data += struct.pack("<HI", 0, len(data) + 6)
    return bytes(data)


def preview(*entries: Entry, data: bytes = bytes(64)) -> bytes:
    """Return a grey TIFF whose only image is marked as a preview."""
    return header(8, 8, (254, 4, 1, 1), *entries, data=data)


def preview_of_many(count: int) -> bytes:
    """Return a preview whose sub-directories are the same thousand tags, at many places."""
    directory = struct.pack("<H", 1000) + struct.pack("<HHII", 40_000, 3, 1, 0) * 1000 + bytes(4)
    places = struct.pack(f"<{count}I", *(4096 + 4 * count + 2 * number for number in range(count)))
    return preview((330, 4, count, 4096), data=places + directory + bytes(2 * count))


INPUTS: Sequence[HostileInput] = (
    send_image("its signature alone", 400, lambda: b"II*\0"),
    send_image("the half of a file", 400, lambda: photo()[: len(photo()) // 2]),
    send_image("a directory at 4 GB", 400, lambda: b"II*\0\xff\xff\xff\xff" + bytes(100)),
    send_image("a directory at its own start", 422, lambda: b"II*\0\0\0\0\0" + bytes(100)),
    send_image("an empty directory", 400, lambda: b"II*\0\x08\0\0\0" + bytes(100)),
    send_image("a million strips", 422, lambda: strips(1_000_000)),
    send_image("a million strips without compression", 422, lambda: strips(1_000_000, _RAW)),
    send_image("50,000 strips", 200, lambda: strips(50_000)),
    send_image("50,000 strips without compression", 200, lambda: strips(50_000, _RAW), 400),
    send_image("strips behind the end of the file", 400, lambda: strips(1000)[:-9000]),
    send_image("4 billion strips", 422, lambda: header(8, 8, (273, 4, 2**32 - 1, 4096))),
    send_image("strips of 4 GB", 400, lambda: header(8, 8, (279, 4, 1, 2**32 - 1))),
    send_image("60,000 tags", 422, lambda: tags(60_000)),
    send_image("a BigTIFF of 2^60 tags", 422, lambda: big_tiff(2**60)),
    send_image("a BigTIFF without its tags", 400, lambda: big_tiff(900)),
    send_image("millions of samples", 422, lambda: hostile.build_tiff_of_samples(count=4_000_000)),
    send_image("65,535 samples a pixel", 400, lambda: header(8, 8, (277, 3, 1, 65_535))),
    send_image("no bits a sample", 400, lambda: header(8, 8, (258, 3, 1, 0))),
    send_image("a million resolutions", 422, lambda: header(8, 8, (282, 5, 1_000_000, 4096), data=bytes(8_000_000))),
    send_image("a million colours", 422, lambda: header(8, 8, (320, 3, 1_000_000, 4096), data=bytes(2_000_000))),
    send_image(
        "3 million fractions of XMP", 422, lambda: header(8, 8, (700, 5, 3_000_000, 4096), data=bytes(24_000_000))
    ),
    send_image("a profile of numbers", 422, lambda: header(8, 8, (34675, 3, 9_000_000, 4096), data=bytes(18_000_000))),
    send_image("strips at fractions", 400, lambda: header(8, 8, (273, 5, 60_000, 4096), data=bytes(480_000))),
    send_image("metadata of 30 MB", 200, lambda: header(8, 8, (700, 7, 30_000_000, 4096), data=bytes(30_000_000))),
    send_image("a tile larger than its image", 422, lambda: hostile.build_tiff_of_a_huge_tile(side=15_000)),
    send_image(
        "a tile of no pixels", 400, lambda: header(8, 8, (322, 4, 1, 0), (323, 4, 1, 0), (324, 4, 1, 4096)), 200
    ),
    send_image("a width of 0", 400, lambda: header(0, 8)),
    send_image("4 gigapixels", 413, lambda: header(65_000, 65_000)),
    send_image("2^62 pixels", 413, lambda: header(2**31 - 1, 2**31 - 1)),
    send_image("a million rows", 413, lambda: header(1, 1_000_001)),
    send_image("65,501 columns", 413, lambda: header(65_501, 1)),
    send_image("65,500 columns", 200, lambda: header(65_500, 1, data=bytes(65_500))),
    send_image("an unknown compression", 400, lambda: header(8, 8, compression=12_345)),
    send_image("damaged LZW", 400, lambda: header(64, 64, compression=5, data=bytes(range(256)) * 16)),
    send_image("deflated zeros of 200 MB", 200, lambda: deflated_strip(200), 400),
    send_image("strips that are one progressive JPEG", 422, jpeg_strips),
    send_image("a hundred thousand directories", 200, lambda: many_directories(100_000)),
    send_image("a directory that is its own next", 200, lambda: many_directories(0), 400),
    send_image("a preview of which there is no image", 200, preview),
    send_image("a preview of 4 billion images", 200, lambda: preview((330, 4, 2**32 - 1, 4096), data=bytes(400))),
    send_image("a preview of an image behind the end", 400, lambda: preview((330, 4, 1, 2**31))),
    send_image("a preview of 60,000 directories of any bytes", 422, lambda: preview_of_many(60_000)),
    send_image("sub-directories that are their own", 200, lambda: header(8, 8, (330, 4, 1, 8))),
    send_image("an orientation of 9", 200, lambda: header(8, 8, (274, 3, 1, 9))),
    send_image("an orientation of 65 values", 422, lambda: header(8, 8, (274, 3, 65, 4096))),
    send_image("old JPEG without tables", 400, lambda: header(64, 64, compression=6, data=bytes(500))),
    send_image("CCITT of zeros", 400, lambda: header(5000, 5000, (258, 3, 1, 1), compression=4, data=bytes(5000)), 200),
)


def deflated_strip(megabytes: int) -> bytes:
    return header(64, 64, compression=_DEFLATE, data=hostile.deflate(bytes(megabytes << 20)))
