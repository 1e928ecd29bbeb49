"""Opening an image safely: which bytes are taken for one, how large it is, and which way is up.

Both sides open images here, so that the size that the gateway promises is the size that the worker delivers.
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

# A multi-image JPEG (MPO, as phones write it) is read as the JPEG that it begins with.
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


def detect_image_format(data: bytes) -> str | None:
    """Return jpeg, png, webp, bmp, tiff or gif by the first bytes, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def open_image(data: bytes, *, max_pixels: int) -> ImageFile:
    """Read the header of an image; its pixels stay undecoded.

    Raises:
        NotAnImage: the bytes are no image of a format that is read here.
        ImageTooLarge: it has more than `max_pixels` pixels.
    """
    name = detect_image_format(data)
    if name is None:
        raise NotAnImage(f"The bytes are not a {FORMATS} image")
    try:
        image = _OPENERS[name](BytesIO(data))
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise ImageTooLarge(f"The image has more than the {max_pixels} pixels that are taken") from error
    except Exception as error:  # hostile bytes raise almost anything in a parser, AssertionError included
        raise NotAnImage(f"The bytes begin like a {name.upper()} image, but the header cannot be read") from error
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageTooLarge(
            f"The image has {pixels} pixels ({image.width} x {image.height}), at most {max_pixels} are taken"
        )
    return image


def upright_transpose(image: Image) -> Transpose | None:
    """Return how to turn the image upright, by the orientation in its metadata; unreadable metadata turns nothing.

    Looks only at what has been read so far: a PNG is not decoded in search of metadata behind its pixels.
    """
    try:
        # The method of the base class, because that of PNG decodes the pixels when it finds no metadata before them.
        return _TURNS.get(Image.getexif(image).get(Base.Orientation))
    except Exception:  # broken metadata must not cost a good photo, and it too raises almost anything
        return None


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Return (width, height) of an undecoded image as they will be once it is turned upright."""
    # Pillow turns TIFF images by itself, and tells their size as turned.
    if upright_transpose(image) in _SIDEWAYS and not isinstance(image, TiffImageFile):
        return image.height, image.width
    return image.size
