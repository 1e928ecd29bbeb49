"""The formats of image files, by their signatures."""

from collections.abc import Mapping

# Libraries write no JPEG with a longer side, and no PNG, the format of results, with one above a million.
MAX_SIDE = 65_500
# Raised when a kind of file is decoded to other pixels than before, so that no result of before is reused.
DECODING_VERSION = 2
FORMATS = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC"

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


# Of the ISO base media file format.  One of these names the codec; with a general one alone, the items of the file do.
_BRANDS: Mapping[bytes, str] = {
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "heic"),
}
_GENERAL_BRANDS = frozenset({b"mif1", b"mif2", b"msf1"})
_MAX_BRANDS = 64


def detect_image_format(data: bytes) -> str | None:
    """Return jpeg, png, webp, bmp, tiff, gif, avif or heic by the signature of a file; None for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _detect_by_brand(data)
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def list_brands(data: bytes) -> list[bytes]:
    """Return the brands of a file that begins with the box `ftyp`, the major one first."""
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MAX_BRANDS)
    return [data[8:12], *(data[start : start + 4] for start in range(16, end, 4))]


def _detect_by_brand(data: bytes) -> str | None:
    brands = list_brands(data)
    general = "heic" if _GENERAL_BRANDS & {*brands} else None
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), general)
