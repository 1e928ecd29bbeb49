"""Bytes to an upright RGB picture, pixel for pixel as the reference pipeline loads it.  Opens nothing but the bytes."""

from PIL.Image import DecompressionBombError, Image

from shared.errors import ImageTooLarge, NotAnImage, TruncatedImage
from shared.pictures import open_picture, turn_of


def decode(data: bytes, *, max_pixels: int) -> Image:
    """Decode a picture, turn it upright by its metadata and make it RGB.

    Of an animation the first frame is taken; transparency is dropped, not blended.

    Args:
        data: a JPEG, PNG, WebP, BMP, TIFF or GIF file.
        max_pixels: looked at before any pixel is decoded.

    Raises:
        NotAnImage: the bytes are no picture, or it is damaged.
        TruncatedImage: the picture stops before its end.
        ImageTooLarge: it has more than `max_pixels` pixels.
    """
    picture = open_picture(data, max_pixels=max_pixels)
    try:
        picture.load()
        turn = turn_of(picture)
        return _as_rgb(picture if turn is None else picture.transpose(turn))
    except DecompressionBombError as error:
        raise ImageTooLarge(f"The picture has more than the {max_pixels} pixels that are taken") from error
    except Exception as error:  # damaged pixels raise almost anything in a decoder
        raise _broken(error) from error


def _as_rgb(picture: Image) -> Image:
    if isinstance(picture.info.get("transparency"), bytes):
        # It would be dropped all the same, but with a warning for each such picture.
        del picture.info["transparency"]
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _broken(error: Exception) -> NotAnImage | TruncatedImage:
    # Pillow has no type of its own for this: the word in the message is all that tells.
    if isinstance(error, EOFError) or "truncated" in str(error):
        return TruncatedImage("The picture stops before its end")
    return NotAnImage("The picture is damaged: its pixels cannot be decoded")
