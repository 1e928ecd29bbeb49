"""Opening of image files: structure, header and orientation, without decoding any pixels.

Pillow's format classes are called directly: the format follows from the signature, Pillow's own detection is not used,
and no other format can be reached.  They see only files whose structure has been checked.
"""

import struct
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import BinaryIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError, DecompressionBombWarning, Image, Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.errors import ImageTooCostly, ImageTooLarge, MaskmillError, NotAnImage
from shared.images.bmp import read_bmp
from shared.images.directory import check_exif
from shared.images.formats import MAX_SIDE
from shared.images.gif import read_gif
from shared.images.heif import read_heif
from shared.images.heif_file import HeifImageFile
from shared.images.jpeg import check_scans, read_jpeg
from shared.images.png import read_png
from shared.images.refused import require_image_format
from shared.images.structure import Size, Structure, truncated_error
from shared.images.tiff import read_tiff
from shared.images.tiff_file import TiffFile
from shared.images.webp import read_webp

# A multi-image JPEG (MPO, as phones write it) is read as its first JPEG.
_OPENERS: Mapping[str, Callable[[BinaryIO], ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "bmp": BmpImageFile,
    "tiff": TiffFile,
    "gif": GifImageFile,
}
# Under these Pillow finds the orientation: as Exif, or as its digits in a text of a PNG.
_EXIF_KEYS = ("exif", "Raw profile type exif")
MAX_EXIF_DIGITS = 300_000
_READERS: Mapping[str, Callable[[bytes], Structure]] = {
    "jpeg": read_jpeg,
    "png": read_png,
    "webp": read_webp,
    "bmp": read_bmp,
    "tiff": read_tiff,
    "gif": read_gif,
}
_HEIF = frozenset({"avif", "heic"})
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


def open_image(data: bytes, *, max_pixels: int, max_side: int = MAX_SIDE) -> ImageFile:
    """Parse the header of an image without decoding its pixels, in milliseconds also if the file is hostile.

    Raises:
        NotAnImage: the bytes are not an image of a supported format, or the header is damaged.
        TruncatedImage: the file stops before its end, as far as that can be told without decoding it.
        ImageTooLarge: it has more than `max_pixels` pixels, or a side of more than `max_side`.
        ImageTooCostly: it has more blocks or scans than any encoder makes.
    """
    name = require_image_format(data)
    if name in _HEIF:
        return _open_heif(data, max_pixels=max_pixels, max_side=max_side)
    try:
        structure = _READERS[name](data)
    except (IndexError, struct.error) as error:
        raise truncated_error(name.upper()) from error
    if structure.size is not None:
        check_size(structure.size, max_pixels=max_pixels, max_side=max_side)
    image = _parse_header(name, structure.source or BytesIO(data), max_pixels)
    if structure.exif is not None:
        image.info["exif"] = structure.exif
    _check_metadata(image)
    check_size(image.size, max_pixels=max_pixels, max_side=max_side)
    check_scans(structure.scans, image.size)
    if name == "bmp" and max(map(_find_raw_end, image.tile), default=0) > len(data):
        raise truncated_error("BMP")
    return image


def check_size(size: Size, *, max_pixels: int, max_side: int) -> None:
    """Check the (width, height) of an image.

    Raises:
        ImageTooLarge: it has too many pixels, or a side is too long.
    """
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The image has {width * height} pixels ({width} x {height}), at most {max_pixels} are accepted"
        )
    if max(size) > max_side:
        raise ImageTooLarge(
            f"The image is {width} x {height} pixels large, at most {max_side} are accepted for each side"
        )


def _open_heif(data: bytes, *, max_pixels: int, max_side: int) -> ImageFile:
    header = read_heif(data)
    check_size(header.canvas, max_pixels=max_pixels, max_side=max_side)
    return HeifImageFile(data, header)


def _parse_header(name: str, source: BinaryIO, max_pixels: int) -> ImageFile:
    try:
        return _OPENERS[name](source)
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise ImageTooLarge(f"The image has more than the {max_pixels} pixels that are accepted") from error
    except MaskmillError:
        raise
    except Exception as error:  # malformed bytes make parsers raise almost any type, AssertionError included
        raise NotAnImage(f"The bytes begin like a {name.upper()} image, but the header cannot be read") from error


def _check_metadata(image: ImageFile) -> None:
    """Check metadata before Pillow reads the orientation in it.

    Raises:
        ImageTooCostly: there is too much of it.
    """
    for key in _EXIF_KEYS:
        match image.info.get(key):
            case bytes(exif):
                check_exif(exif)
            case str(digits) if len(digits) > MAX_EXIF_DIGITS:
                raise ImageTooCostly(f"The image has more than {MAX_EXIF_DIGITS} digits of Exif metadata")


def _find_raw_end(tile: tuple[object, ...]) -> int:
    """Return the number of bytes that a file needs for its uncompressed pixels; 0 if only decoding can tell."""
    match tile:
        case ("raw", (_, int(top), _, int(bottom)), int(offset), (_, int(stride), *_)):
            return offset + stride * (bottom - top)
    return 0


def upright_transpose(image: Image) -> Transpose | None:
    """Return the transposition that makes the image upright, by its EXIF orientation; None if it needs none."""
    return _ORIENTATIONS.get(read_orientation(image))


def read_orientation(image: Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 is upright.

    Unreadable metadata counts as upright.  Only metadata that has been read so far is used: a PNG is not decoded to
    find metadata behind its pixels.
    """
    try:
        # The base class's method, because PngImageFile.getexif() decodes the pixels if no metadata precedes them.
        found = Image.getexif(image).get(Base.Orientation)
        return found if isinstance(found, int) and found in _ORIENTATIONS else 1
    except Exception:  # an image with damaged metadata is still valid; parsers raise almost any type here too
        return 1


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
