"""Hostile WebPs."""

import struct
from collections.abc import Sequence
from io import BytesIO

from tests.hostile.inputs import HostileInput, send_image
from tests.support import hostile_images as hostile
from tests.support.images import coffee


def photo(**options: object) -> bytes:
    buffer = BytesIO()
    coffee().resize((150, 100)).save(buffer, "WEBP", **options)
    return buffer.getvalue()


def riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def extend(*chunks: bytes, side: int = 150, flags: int = 2) -> bytes:
    """Return an extended WebP with these chunks behind its header."""
    header = bytes((flags, 0, 0, 0)) + 2 * struct.pack("<I", side - 1)[:3]
    return riff(chunk(b"VP8X", header) + b"".join(chunks))


def lossless(width: int, height: int) -> bytes:
    """Return a lossless WebP of a size, without its pixels."""
    return riff(chunk(b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + bytes(50)))


def build_damaged() -> bytes:
    data = bytearray(photo())
    data[60:400] = bytes(340)
    return bytes(data)


FRAME = chunk(b"ANMF", bytes(16) + photo()[12:])

INPUTS: Sequence[HostileInput] = (
    send_image("its signature alone", 400, lambda: riff(b"")),
    send_image("the half of a file", 400, lambda: photo()[: len(photo()) // 2]),
    send_image("a length of 4 GB", 400, lambda: b"RIFF\xff\xff\xff\xffWEBP" + photo()[12:]),
    send_image("a length of 0", 400, lambda: b"RIFF\0\0\0\0WEBP" + photo()[12:]),
    send_image("damaged pixels", 400, build_damaged, 200),
    send_image("a canvas of 268 megapixels", 413, lambda: hostile.build_webp_of_a_huge_canvas(side=16_384)),
    send_image("a canvas of 280 terapixels", 413, lambda: extend(FRAME, side=2**24)),
    send_image("a lossless image of 268 megapixels", 413, lambda: lossless(16_384, 16_384)),
    send_image("a lossless image without pixels", 400, lambda: lossless(4000, 4000), 200),
    send_image("half a million unknown chunks", 422, lambda: riff(photo()[12:] + b"abcd\0\0\0\0" * 500_000)),
    send_image("200,000 frames", 422, lambda: extend(chunk(b"ANMF", bytes(16)) * 200_000)),
    send_image("2,000 frames", 200, lambda: animation(2000), 400),
    send_image("an animation without frames", 400, lambda: extend(chunk(b"ANIM", bytes(6)))),
    send_image("a chunk of 4 GB", 400, lambda: riff(photo()[12:] + b"abcd\xff\xff\xff\xff"), 200),
    send_image("25 megapixels of 60 bytes", 200, lambda: hostile.build_large_webp(side=5000)),
    send_image("metadata of 10 MB", 422, lambda: photo(exif=b"Exif\0\0" + bytes(10_000_000))),
    send_image("60,000 tags of Exif", 422, lambda: photo(exif=b"Exif\0\0II*\0" + tags(60_000))),
    send_image("a profile of 10 MB", 200, lambda: photo(icc_profile=bytes(10_000_000))),
    send_image("alpha that is damaged", 400, lambda: extend(chunk(b"ALPH", bytes(99)), photo()[12:], flags=16), 200),
)


def tags(count: int) -> bytes:
    return struct.pack("<IH", 8, count) + struct.pack("<HHII", 1000, 3, 1, 0) * count + bytes(4)


def animation(frames: int) -> bytes:
    return extend(chunk(b"ANIM", bytes(6)), chunk(b"ANMF", frame_header() + photo()[12:]) * frames)


def frame_header() -> bytes:
    return bytes(6) + struct.pack("<I", 149)[:3] + struct.pack("<I", 99)[:3] + bytes(4)
