"""Decoding of image files to upright RGB, pixel by pixel as the reference pipeline does.  Opens no file and no URL."""

from PIL.Image import DecompressionBombError, Image

from shared.errors import ImageTooLarge, NotAnImage, TruncatedImage
from shared.images import open_image, upright_transpose


def decode(data: bytes, *, max_pixels: int) -> Image:
    """Decode an image, transpose it upright by its metadata and convert it to RGB.

    An animation is reduced to its first frame; transparency is dropped, not blended.

    Args:
        data: a JPEG, PNG, WebP, BMP, TIFF or GIF file.
        max_pixels: checked before any pixel is decoded.

    Raises:
        NotAnImage: the bytes are not an image, or it is damaged.
        TruncatedImage: the file ends before the image does.
        ImageTooLarge: the image has more than `max_pixels` pixels.
    """
    image = open_image(data, max_pixels=max_pixels)
    try:
        image.load()
        transposition = upright_transpose(image)
        return _convert_to_rgb(image if transposition is None else image.transpose(transposition))
    except DecompressionBombError as error:
        raise ImageTooLarge(f"The image has more than the {max_pixels} pixels that are accepted") from error
    except Exception as error:  # damaged pixels make decoders raise almost any type
        raise _classify_error(error) from error


def _convert_to_rgb(image: Image) -> Image:
    if isinstance(image.info.get("transparency"), bytes):
        # Image.convert() drops it too, but warns each time.
        del image.info["transparency"]
    return image if image.mode == "RGB" else image.convert("RGB")


def _classify_error(error: Exception) -> NotAnImage | TruncatedImage:
    # Pillow has no exception type for truncation; only the message distinguishes it.
    if isinstance(error, EOFError) or "truncated" in str(error):
        return TruncatedImage("The image stops before its end")
    return NotAnImage("The image is damaged: its pixels cannot be decoded")
