"""Image files from untrusted sources: format detection, header parsing and orientation.

Gateway and worker both use this module, so that the size in the gateway's response equals the size of the masks.
Pillow's format classes are called directly: the format follows from the signature, Pillow's own detection is not used,
and no other format can be reached.
"""

from collections.abc import Callable, Mapping
from io import BytesIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError, DecompressionBombWarning, Image, Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.errors import ImageTooLarge, NotAnImage

# A multi-image JPEG (MPO, as phones write it) is read as its first JPEG.
_OPENERS: Mapping[str, Callable[[BytesIO], ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "bmp": BmpImageFile,
    "tiff": TiffImageFile,
    "gif": GifImageFile,
}
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
# By the value of the EXIF tag Orientation; 1 is upright.
_ORIENTATIONS: Mapping[object, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_SWAPS_SIDES = frozenset({Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90})

FORMATS = "JPEG, PNG, WebP, BMP, TIFF or GIF"


def detect_image_format(data: bytes) -> str | None:
    """Return jpeg, png, webp, bmp, tiff or gif by the signature of a file; None for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def open_image(data: bytes, *, max_pixels: int) -> ImageFile:
    """Parse the header of an image without decoding its pixels.

    Raises:
        NotAnImage: the bytes are not an image of a supported format, or the header is damaged.
        ImageTooLarge: it has more than `max_pixels` pixels.
    """
    name = detect_image_format(data)
    if name is None:
        raise NotAnImage(f"The bytes are not a {FORMATS} image")
    try:
        image = _OPENERS[name](BytesIO(data))
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise ImageTooLarge(f"The image has more than the {max_pixels} pixels that are accepted") from error
    except Exception as error:  # malformed bytes make parsers raise almost any type, AssertionError included
        raise NotAnImage(f"The bytes begin like a {name.upper()} image, but the header cannot be read") from error
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageTooLarge(
            f"The image has {pixels} pixels ({image.width} x {image.height}), at most {max_pixels} are accepted"
        )
    return image


def upright_transpose(image: Image) -> Transpose | None:
    """Return the transposition that makes the image upright, by its EXIF orientation; None if it needs none.

    Unreadable metadata counts as upright.  Only metadata that has been read so far is used: a PNG is not decoded to
    find metadata behind its pixels.
    """
    try:
        # The base class's method, because PngImageFile.getexif() decodes the pixels if no metadata precedes them.
        return _ORIENTATIONS.get(Image.getexif(image).get(Base.Orientation))
    except Exception:  # an image with damaged metadata is still valid; parsers raise almost any type here too
        return None


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Return (width, height) of the upright image, without decoding it."""
    # Pillow transposes TIFF images itself and reports the transposed size.
    if upright_transpose(image) in _SWAPS_SIDES and not isinstance(image, TiffImageFile):
        return image.height, image.width
    return image.size


def fit_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Return a (width, height) of the same proportions whose longer side is at most `max_side`, and no side is 0."""
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
