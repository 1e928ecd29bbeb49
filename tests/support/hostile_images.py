"""Small files that take much time or memory to decode."""

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
