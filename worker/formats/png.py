"""PNG encoding with parameters that suit the pixels.  Pure, no torch."""

from enum import Enum

import cv2
from cv2.typing import MatLike

from shared.errors import RenderingFailed


class PngStrategy(Enum):
    """Parameters of cv2.imencode(): level, zlib strategy and row filter."""

    # Label maps consist of long runs of one value: run-length matching on unfiltered rows is the fastest and among the
    # smallest (measured against every other strategy, filter and level, and against Pillow).
    RUN_LENGTH = (
        *(cv2.IMWRITE_PNG_COMPRESSION, 1),
        *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
        *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
    )
    # In colour a run is of one pixel, not of one byte; the differences to the pixel before are a run of zeros.
    COLOUR_RUNS = (
        *(cv2.IMWRITE_PNG_COMPRESSION, 1),
        *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
        *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB),
    )
    # A filtered photo has hardly any matches: searching for them takes a seventh of the time and saves a hundredth of
    # the size.
    HUFFMAN_ONLY = (
        *(cv2.IMWRITE_PNG_COMPRESSION, 1),
        *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
        *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
    )


def encode_png(pixels: MatLike, strategy: PngStrategy) -> bytes:
    """Encode uint8 or uint16 pixels, (H, W) greyscale or (H, W, 3) BGR, as a PNG of the same bit depth.

    Raises:
        RenderingFailed: the encoder refused, as it does if a side is longer than a million pixels.
    """
    is_encoded, encoded = cv2.imencode(".png", pixels, strategy.value)
    if not is_encoded or not encoded.size:
        # Otherwise an empty file would be stored as the result.
        raise RenderingFailed(f"No PNG of {pixels.shape[1]} x {pixels.shape[0]} pixels could be written")
    return encoded.tobytes()
