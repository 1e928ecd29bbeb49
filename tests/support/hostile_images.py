"""Small files that take much time or memory to decode."""

import struct
import zlib
from io import BytesIO

from PIL import Image

from tests.support.images import EXIF_ORIENTATION, ROTATED_LEFT, png_chunk

_START_OF_SCAN = b"\xff\xda"


def build_slow_jpeg(*, side: int, scans: int) -> bytes:
    """Return a progressive JPEG of one colour that has about `scans` scans, each of which visits every block."""
    buffer = BytesIO()
    Image.new("L", (side, side), 90).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(_START_OF_SCAN)
    end = data.rindex(b"\xff\xd9")
    return data[:last] + data[last:end] * (scans - data.count(_START_OF_SCAN) + 1) + data[end:]


def build_large_webp(*, side: int) -> bytes:
    """Return a lossless WebP of about 100 bytes, with alpha and turned by its metadata."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = ROTATED_LEFT
    buffer = BytesIO()
    image = Image.new("RGBA", (side, side), (9, 90, 200, 100))
    image.save(buffer, "WEBP", lossless=True, quality=0, method=0, exif=exif)
    return buffer.getvalue()


def build_png(header: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of an IHDR's bytes and of chunks."""
    all_chunks = ((b"IHDR", header), *chunks, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, data) for name, data in all_chunks)


def build_interlaced_png(*, side: int) -> bytes:
    """Return an RGB PNG of zeros in Adam7 order."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = (bytes(1 + 3 * len(range(x, side, x_step))) * len(range(y, side, y_step)) for x, y, x_step, y_step in passes)
    compressor = zlib.compressobj(1)
    pixels = b"".join(compressor.compress(part) for part in rows) + compressor.flush()
    return build_png(struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 1), (b"IDAT", pixels))


def build_png_of_zeros(*, side: int, chunk: tuple[bytes, bytes] | None = None, repeated: int = 1) -> bytes:
    """Return a 1-bit PNG, with `repeated` copies of a chunk before its pixels."""
    pixels = zlib.compress(bytes((1 + -(-side // 8)) * side))
    chunks = [chunk] * repeated if chunk else []
    return build_png(struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), *chunks, (b"IDAT", pixels))


def build_inflating_png(name: bytes, *, megabytes: int) -> bytes:
    """Return a PNG with a profile (iCCP) or a text (zTXt) that is that long when it is inflated."""
    inflated = zlib.compress(bytes(megabytes << 20))
    return build_png_of_zeros(side=8, chunk=(name, b"name\0\0" + inflated))


def build_jpeg_of_segments(*, segments: int, nbytes: int) -> bytes:
    """Return a JPEG with many EXIF segments of `nbytes` each."""
    buffer = BytesIO()
    Image.new("L", (16, 16)).save(buffer, "JPEG")
    data = buffer.getvalue()
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 6 + nbytes) + b"Exif\0\0" + bytes(nbytes)
    return data[:2] + segment * segments + data[2:]


def build_tiff(*entries: tuple[int, int, int, int], data: bytes = b"") -> bytes:
    """Return a TIFF of one directory of (tag, type, count, value); `data` begins at byte 4096."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
    return head.ljust(4096, b"\0") + data


def build_tiff_of_samples(*, count: int) -> bytes:
    """Return a TIFF that claims millions of samples a pixel, each with a number of bits."""
    entries = ((256, 3, 1, 16), (257, 3, 1, 16), (258, 3, count, 4096), (262, 3, 1, 1), (277, 3, 1, 1))
    return build_tiff(*entries, data=bytes(2 * count))


def build_tiff_of_strips(*, width: int, height: int) -> bytes:
    """Return a deflated grey TIFF with a strip for each row; all strips are the same bytes."""
    strip = zlib.compress(bytes(width))
    offsets = struct.pack("<I", 4096) * height
    lengths = struct.pack("<I", len(strip)) * height
    start = 4096 + len(strip)
    entries = (
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (273, 4, height, start),
        (277, 3, 1, 1),
        (278, 4, 1, 1),
        (279, 4, height, start + len(offsets)),
    )
    return build_tiff(*entries, data=strip + offsets + lengths)


def build_tiff_of_a_huge_tile(*, side: int) -> bytes:
    """Return a deflated TIFF of 16 x 16 pixels in one tile of side x side."""
    tile = zlib.compress(bytes(side * side))
    entries = (
        (256, 4, 1, 16),
        (257, 4, 1, 16),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, 1, 4096),
        (325, 4, 1, len(tile)),
    )
    return build_tiff(*entries, data=tile)


def build_gif_of_a_huge_canvas(*, side: int) -> bytes:
    """Return a GIF whose only frame has 8 x 8 pixels of a canvas of side x side."""
    buffer = BytesIO()
    Image.new("P", (8, 8)).save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    data[6:10] = struct.pack("<HH", side, side)
    return bytes(data)


def build_animation(kind: str, *, side: int, frames: int) -> bytes:
    """Return a WebP or PNG of many frames of one colour each."""
    images = [Image.new("RGB", (side, side), (number % 256, 80, 20)) for number in range(frames)]
    buffer = BytesIO()
    images[0].save(buffer, kind, save_all=True, append_images=images[1:], lossless=True, quality=0, method=0)
    return buffer.getvalue()


def build_run_length_bmp(data: bytes, *, size: tuple[int, int], bits: int = 8) -> bytes:
    """Return a BMP of 4 or 8 bits whose pixels are run-length data; its palette is grey."""
    colours = 1 << bits
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(colours))
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, 1 if bits == 8 else 2, len(data), 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + palette + data


def deflate(data: bytes) -> bytes:
    return zlib.compress(data)


def build_png_header(*, width: int, height: int) -> bytes:
    """Return a PNG of this size, with the pixels of a small one."""
    return build_png(struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), (b"IDAT", deflate(bytes(100))))


def build_png_of_exif(*, tags: int, values: int = 1) -> bytes:
    """Return a PNG with Exif metadata of that many tags, the first of them an orientation of that many values."""
    return build_png_of_zeros(side=8, chunk=(b"eXIf", build_exif(tags=tags, values=values)))


def build_png_of_late_exif(*, tags: int) -> bytes:
    """Return a PNG with Exif metadata of that many tags behind its pixels."""
    header = struct.pack(">IIBBBBB", 8, 8, 1, 0, 0, 0, 0)
    return build_png(header, (b"IDAT", deflate(bytes(16))), (b"eXIf", build_exif(tags=tags)))


def build_exif(*, tags: int, values: int = 1) -> bytes:
    first = struct.pack("<HHII", EXIF_ORIENTATION, 3, values, 8 if values > 2 else 1)
    others = b"".join(struct.pack("<HHII", tag % 65536, 3, 1, 0) for tag in range(1000, 999 + tags))
    return b"II*\0" + struct.pack("<IH", 8, tags) + first + others + bytes(2 * values + 4)


def build_webp_of_a_huge_canvas(*, side: int) -> bytes:
    """Return an animated WebP whose canvas is that large, and whose frames are not."""
    data = bytearray(build_animation("WEBP", side=16, frames=2))
    data[24:30] = 2 * struct.pack("<I", side - 1)[:3]
    return bytes(data)
