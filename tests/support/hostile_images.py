"""Small files that take much time or memory to decode."""

import struct
import zlib
from io import BytesIO

from PIL import Image

from tests.support.images import EXIF_ORIENTATION, ROTATED_LEFT

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
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in all_chunks
    )


def build_interlaced_png(*, side: int) -> bytes:
    """Return an RGB PNG of zeros in Adam7 order."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = (bytes(1 + 3 * len(range(x, side, x_step))) * len(range(y, side, y_step)) for x, y, x_step, y_step in passes)
    compressor = zlib.compressobj(1)
    pixels = b"".join(compressor.compress(part) for part in rows) + compressor.flush()
    return build_png(struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 1), (b"IDAT", pixels))
