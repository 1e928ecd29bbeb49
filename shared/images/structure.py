"""What the blocks of an image file say, read before any parser of the format sees it.

Parsers and decoders take time and memory for each block of a file, and have few limits of their own.  A module for each
format reads the structure within limits that real encoders stay far below, in milliseconds.
"""

from dataclasses import dataclass
from typing import BinaryIO

from shared.errors import ImageTooCostly, NotAnImage, TruncatedImage

Size = tuple[int, int]  # (width, height) in pixels
# A tile may be larger than its image, as encoders make them, but not by much.
MAX_TILE_PIXELS = 4_194_304
_MAX_TILE_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Structure:
    """What is known of a file of which nothing is decoded.

    size: as stored, not turned upright; None if only Pillow reads it.
    scans: how often a decoder visits all pixels, at most.
    source: what Pillow reads instead of the file; None means the file.
    exif: metadata that is not in the source.
    """

    size: Size | None = None
    scans: int = 1
    source: BinaryIO | None = None
    exif: bytes | None = None


def check_tile(name: str, tile: Size, image: Size) -> None:
    """Check the size of a tile: a decoder holds a whole one, also of a small image.

    Raises:
        ImageTooCostly: it is much larger than the image.
    """
    if tile[0] * tile[1] > max(MAX_TILE_PIXELS, _MAX_TILE_FACTOR * image[0] * image[1]):
        raise ImageTooCostly(f"The {name} image has tiles that are much larger than itself; save it anew")


def truncated_error(name: str) -> TruncatedImage:
    return TruncatedImage(f"The {name} image stops before its end: the upload was cut short")


def malformed_error(name: str) -> NotAnImage:
    return NotAnImage(f"The bytes begin like a {name} image, but the rest is malformed")


def excess_error(name: str, limit: int, blocks: str) -> ImageTooCostly:
    return ImageTooCostly(f"The {name} image has more than {limit} {blocks}, which take too long to read; save it anew")
