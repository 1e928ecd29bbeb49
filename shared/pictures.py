"""Opening a picture safely: which bytes are taken for one, how large it is, and which way is up.

Both sides open pictures here, so that the size that the gateway promises is the size that the worker delivers.
Pillow's format classes are called directly: the format is known from the signature, nothing is ever guessed from the
rest of the bytes, and no other format than these can be reached.
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

# A multi-picture JPEG (MPO, as phones write it) is read as the JPEG that it begins with.
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
_TURNS: Mapping[object, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90})

FORMATS = "JPEG, PNG, WebP, BMP, TIFF or GIF"


def picture_format(data: bytes) -> str | None:
    """Return jpeg, png, webp, bmp, tiff or gif by the first bytes, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def open_picture(data: bytes, *, max_pixels: int) -> ImageFile:
    """Read the header of a picture; its pixels stay undecoded.

    Raises:
        NotAnImage: the bytes are no picture of a format that is read here.
        ImageTooLarge: it has more than `max_pixels` pixels.
    """
    name = picture_format(data)
    if name is None:
        raise NotAnImage(f"The bytes are not a {FORMATS} picture")
    try:
        picture = _OPENERS[name](BytesIO(data))
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise ImageTooLarge(f"The picture has more than the {max_pixels} pixels that are taken") from error
    except Exception as error:  # hostile bytes raise almost anything in a parser, AssertionError included
        raise NotAnImage(f"The bytes begin like a {name.upper()} picture, but the header cannot be read") from error
    pixels = picture.width * picture.height
    if pixels > max_pixels:
        raise ImageTooLarge(
            f"The picture has {pixels} pixels ({picture.width} x {picture.height}), at most {max_pixels} are taken"
        )
    return picture


def turn_of(picture: Image) -> Transpose | None:
    """Return how to turn the picture upright, by the orientation in its metadata; unreadable metadata turns nothing.

    Looks only at what has been read so far: a PNG is not decoded in search of metadata behind its pixels.
    """
    try:
        # The method of the base class, because that of PNG decodes the pixels when it finds no metadata before them.
        return _TURNS.get(Image.getexif(picture).get(Base.Orientation))
    except Exception:  # broken metadata must not cost a good photo, and it too raises almost anything
        return None


def upright_size(picture: ImageFile) -> tuple[int, int]:
    """Return (width, height) of an undecoded picture as they will be once it is turned upright."""
    # Pillow turns TIFF pictures by itself, and tells their size as turned.
    if turn_of(picture) in _SIDEWAYS and not isinstance(picture, TiffImageFile):
        return picture.height, picture.width
    return picture.size
