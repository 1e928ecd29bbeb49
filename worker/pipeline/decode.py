"""Bytes to an upright RGB image, pixel for pixel as the reference pipeline loads it.  Opens nothing but the bytes."""

from PIL.Image import DecompressionBombError, Image

from shared.errors import ImageTooLarge, NotAnImage, TruncatedImage
from shared.images import open_image, upright_transpose


def decode(data: bytes, *, max_pixels: int) -> Image:
    """Decode an image, turn it upright by its metadata and make it RGB.

    Of an animation the first frame is taken; transparency is dropped, not blended.

    Args:
        data: a JPEG, PNG, WebP, BMP, TIFF or GIF file.
        max_pixels: looked at before any pixel is decoded.

    Raises:
        NotAnImage: the bytes are no image, or it is damaged.
        TruncatedImage: the image stops before its end.
        ImageTooLarge: it has more than `max_pixels` pixels.
    """
    image = open_image(data, max_pixels=max_pixels)
    try:
        image.load()
        turn = upright_transpose(image)
        return _as_rgb(image if turn is None else image.transpose(turn))
    except DecompressionBombError as error:
        raise ImageTooLarge(f"The image has more than the {max_pixels} pixels that are taken") from error
    except Exception as error:  # damaged pixels raise almost anything in a decoder
        raise _broken(error) from error


def _as_rgb(image: Image) -> Image:
    if isinstance(image.info.get("transparency"), bytes):
        # It would be dropped all the same, but with a warning for each such image.
        del image.info["transparency"]
    return image if image.mode == "RGB" else image.convert("RGB")


def _broken(error: Exception) -> NotAnImage | TruncatedImage:
    # Pillow has no type of its own for this: the word in the message is all that tells.
    if isinstance(error, EOFError) or "truncated" in str(error):
        return TruncatedImage("The image stops before its end")
    return NotAnImage("The image is damaged: its pixels cannot be decoded")
