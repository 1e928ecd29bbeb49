"""Decoding of an image file to upright RGB, pixel by pixel as the reference pipeline does.  Opens no file and no URL.

Grey samples of more than 8 bits, or with a sign, are scaled instead; the reference cuts off what is above 255.

Runs where no limit of time or memory holds, too: those are the business of the decoder process.
"""

from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import DecompressionBombError, Image, Transpose, frombuffer
from PIL.ImageFile import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.errors import ImageTooLarge, NotAnImage, TruncatedImage
from shared.images.heif_file import HeifImageFile
from shared.images.opening import open_image, upright_transpose
from worker.decoding.bmp_runs import replace_runs
from worker.decoding.heif import load_heif
from worker.decoding.samples import find_samples, scale_to_8_bits


def decode(data: bytes, *, max_pixels: int) -> Image:
    """Decode an image, transpose it upright by its metadata and convert it to RGB.

    An animation is reduced to its first frame; transparency is dropped, not blended.

    Args:
        data: a file of one of the formats in shared/images/formats.py.
        max_pixels: checked before any pixel is decoded.

    Raises:
        NotAnImage: the bytes are not an image, or it is damaged.
        TruncatedImage: the file ends before the image does.
        ImageTooLarge: the image has more than `max_pixels` pixels.
    """
    return load_upright_rgb(open_image(data, max_pixels=max_pixels))


def load_upright_rgb(image: ImageFile) -> Image:
    """Decode the pixels of a parsed file and close it, so that its memory is free before the next copy is made.

    Raises:
        MemoryError: the process reached its limit of memory.
        NotAnImage: the image is damaged.
        TruncatedImage: the file ends before the image does.
        ImageTooLarge: a part of the file is larger than its header says.
    """
    try:
        samples = find_samples(image)
        pixels, transposition = _load(image)
        if transposition is not None:
            turned = pixels.transpose(transposition)
            pixels.close()
            pixels = turned
        if samples is not None:
            pixels = scale_to_8_bits(pixels, samples)
        return _convert_to_rgb(pixels)
    except MemoryError:
        raise
    except DecompressionBombError as error:
        raise ImageTooLarge("A part of the image is larger than its header says") from error
    except Exception as error:  # damaged pixels make decoders raise almost any type
        raise _classify_error(error) from error


def _load(image: ImageFile) -> tuple[Image, Transpose | None]:
    """Return the decoded pixels and what makes them upright; the file and its decoder are closed."""
    if isinstance(image, WebPImageFile):
        transposition = upright_transpose(image)
        return _load_webp(image), transposition
    if isinstance(image, HeifImageFile):
        return load_heif(image), upright_transpose(image)
    if isinstance(image, BmpImageFile) and image.tile and image.tile[0].codec_name == "bmp_rle":
        replace_runs(image)
    image.load()
    transposition = upright_transpose(image)
    pixels = image._new(image.im)
    image.close()
    return pixels, transposition


def _load_webp(image: WebPImageFile) -> Image:
    """Return the first frame without the two copies that WebPImageFile.load() makes of it."""
    frame, _, _ = image._get_next()
    image._decoder = None  # it holds two canvases of four bytes a pixel
    image.close()
    return frombuffer(image.rawmode, image.size, frame, "raw", image.rawmode, 0, 1)


def _convert_to_rgb(pixels: Image) -> Image:
    if isinstance(pixels.info.get("transparency"), bytes):
        # Image.convert() drops it too, but warns each time.
        del pixels.info["transparency"]
    if pixels.mode == "RGB":
        return pixels
    if pixels.mode == "La":  # grey premultiplied by alpha, which Pillow converts to nothing else
        pixels = pixels.convert("LA")
    converted = pixels.convert("RGB")
    pixels.close()
    return converted


def _classify_error(error: Exception) -> NotAnImage | TruncatedImage:
    # Pillow has no exception type for truncation; only the message distinguishes it.
    if isinstance(error, EOFError) or "truncated" in str(error):
        return TruncatedImage("The image stops before its end")
    return NotAnImage("The image is damaged: its pixels cannot be decoded")
