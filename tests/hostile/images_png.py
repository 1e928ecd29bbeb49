"""Hostile PNGs."""

import struct
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from tests.hostile.inputs import HostileInput, send_image
from tests.support import hostile_images as hostile
from tests.support.images import coffee


def photo() -> bytes:
    buffer = BytesIO()
    coffee().resize((150, 100)).save(buffer, "PNG")
    return buffer.getvalue()


def chunks(name: bytes, content: bytes, count: int = 1) -> bytes:
    """Return a small PNG with copies of a chunk before its pixels."""
    return hostile.build_png_of_zeros(side=8, chunk=(name, content), repeated=count)


def header(width: int, height: int, bits: int = 8, colours: int = 0, *others: int, pixels: int = 100) -> bytes:
    """Return a PNG of a header and some pixels."""
    fields = struct.pack(">IIBBBBB", width, height, bits, colours, *(*others, 0, 0, 0)[:3])
    return hostile.build_png(fields, (b"IDAT", hostile.deflate(bytes(pixels))))


def without_pixels() -> bytes:
    return hostile.build_png(struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))


def build_damaged() -> bytes:
    data = bytearray(photo())
    place = data.index(b"IDAT") + 40
    data[place : place + 200] = bytes(200)
    return bytes(data)


def deflate_zeros() -> bytes:
    return hostile.deflate(bytes(1_000_000))


def inflating_pixels(megabytes: int) -> bytes:
    """Return a PNG of 8 x 8 pixels, whose pixels inflate to megabytes."""
    fields = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return hostile.build_png(fields, (b"IDAT", hostile.deflate(bytes(megabytes << 20))))


TEXT = b"Raw profile type exif\0\nexif\n   400000\n" + b"00" * 400_000
DEFLATED_EXIF = b"Raw profile type exif\0\0" + hostile.deflate(bytes(1_000_000))

INPUTS: Sequence[HostileInput] = (
    send_image("its signature alone", 400, lambda: photo()[:8]),
    send_image("the half of a file", 400, lambda: photo()[: len(photo()) // 2]),
    send_image("one byte less", 400, lambda: photo()[:-1]),
    send_image("no pixels", 400, without_pixels),
    send_image("damaged pixels", 400, build_damaged),
    send_image("too few pixels", 400, lambda: header(500, 500)),
    send_image("a width of 0", 400, lambda: header(0, 8)),
    send_image("a width of 2 billion", 413, lambda: header(2**31 - 1, 1)),
    send_image("a width of 4 billion", 413, lambda: header(2**32 - 1, 2**32 - 1)),
    send_image("4 gigapixels", 413, lambda: header(65_000, 65_000)),
    send_image("a million columns", 413, lambda: header(1_000_001, 1, pixels=1_000_002)),
    send_image("65,501 columns", 413, lambda: header(65_501, 1, pixels=65_502)),
    send_image("65,500 columns", 200, lambda: header(65_500, 1, pixels=65_501)),
    send_image("65,500 rows", 200, lambda: header(1, 65_500, pixels=131_000)),
    send_image("64 megapixels and a row", 413, lambda: header(8000, 8001)),
    send_image("64 megapixels of 1 bit", 200, lambda: hostile.build_png_of_zeros(side=8000)),
    send_image("25 interlaced megapixels", 200, lambda: hostile.build_interlaced_png(side=5000)),
    send_image("3 bits a sample", 400, lambda: header(8, 8, 3)),
    send_image("an unknown kind of colours", 400, lambda: header(8, 8, 8, 7)),
    send_image("an unknown compression", 400, lambda: header(8, 8, 8, 0, 9), 200),
    send_image("an unknown filter", 400, lambda: header(8, 8, 8, 0, 0, 9), 200),
    send_image("pixels that inflate to 200 MB", 200, lambda: inflating_pixels(200), 400),
    send_image("a profile that inflates to 100 MB", 200, lambda: hostile.build_inflating_png(b"iCCP", megabytes=100)),
    send_image("a text that inflates to 100 MB", 200, lambda: hostile.build_inflating_png(b"zTXt", megabytes=100)),
    send_image("1,000 compressed texts", 200, lambda: chunks(b"zTXt", b"a\0\0" + deflate_zeros(), 1000)),
    send_image("1,000 international texts", 200, lambda: chunks(b"iTXt", b"a\0\1\0\0\0" + deflate_zeros(), 1000)),
    send_image("1,000 texts that are not compressed", 200, lambda: chunks(b"iTXt", b"a\0\0\0\0\0text", 1000)),
    send_image("60,000 tags of Exif behind its pixels", 422, lambda: hostile.build_png_of_late_exif(tags=60_000)),
    send_image("an orientation in 1,000 texts of a megabyte", 200, lambda: chunks(b"zTXt", DEFLATED_EXIF, 1000)),
    send_image("32 compressed texts", 200, lambda: chunks(b"zTXt", b"a\0\0" + deflate_zeros(), 32)),
    send_image("a quarter of a million texts", 422, lambda: chunks(b"tEXt", b"a\0b", 250_000)),
    send_image("a quarter of a million private chunks", 422, lambda: chunks(b"prVt", b"", 250_000)),
    send_image("a million empty chunks of pixels", 422, lambda: chunks(b"IDAT", b"", 1_000_000)),
    send_image("300,000 frames", 422, lambda: chunks(b"fcTL", bytes(26), 300_000)),
    send_image("4 billion frames in its header", 200, lambda: chunks(b"acTL", struct.pack(">II", 2**32 - 1, 0))),
    send_image("an animation", 200, lambda: hostile.build_animation("PNG", side=300, frames=30)),
    send_image("two headers", 400, lambda: chunks(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)), 413),
    send_image("a palette of 10 MB", 200, lambda: chunks(b"PLTE", bytes(9_999_999)), 400),
    send_image("a transparency of 10 MB", 200, lambda: chunks(b"tRNS", bytes(10_000_000))),
    send_image("60,000 tags of Exif", 422, lambda: hostile.build_png_of_exif(tags=60_000)),
    send_image("an orientation of a million values", 422, lambda: hostile.build_png_of_exif(tags=1, values=1_000_000)),
    send_image("Exif as a text of 800 KB", 422, lambda: chunks(b"tEXt", TEXT)),
    send_image("Exif of 10 MB", 422, lambda: chunks(b"eXIf", bytes(10_000_000))),
    send_image("a chunk of 2 GB", 400, lambda: photo()[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + photo()[33:]),
    send_image("a wrong checksum", 400, lambda: photo()[:-20] + bytes(4) + photo()[-16:], 200),
    send_image("RGBA of 16 bits that is turned", 200, lambda: build_turned()),
)


def build_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    Image.new("I;16", (2000, 1000)).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()
