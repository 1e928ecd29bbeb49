"""Facts of an image from its header, without decoding any pixels."""

import hashlib

from shared.images.formats import MAX_SIDE
from shared.images.opening import open_image, upright_size
from shared.images.refused import require_image_format
from shared.jobs.model import ImageFacts


def inspect_image(data: bytes, *, max_pixels: int, max_side: int = MAX_SIDE) -> ImageFacts:
    """Return the facts of an image; width and height, in pixels, are those of the image turned upright.

    Raises:
        NotAnImage: the bytes are not an image of a supported format.
        TruncatedImage: the file stops before its end.
        ImageTooLarge: it has more than `max_pixels` pixels, or a side of more than `max_side`.
        ImageTooCostly: it would take too long to read or to decode.
    """
    name = require_image_format(data)
    width, height = upright_size(open_image(data, max_pixels=max_pixels, max_side=max_side))
    return ImageFacts(format=name, width=width, height=height, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
