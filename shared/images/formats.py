"""The formats of image files, by their signatures."""

# Libraries write no JPEG with a longer side, and no PNG, the format of results, with one above a million.
MAX_SIDE = 65_500
FORMATS = "JPEG, PNG, WebP, BMP, TIFF or GIF"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
)


def detect_image_format(data: bytes) -> str | None:
    """Return jpeg, png, webp, bmp, tiff or gif by the signature of a file; None for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)
