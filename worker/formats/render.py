"""A segmentation as files: label map, masks, zip and overlay.  Pure functions, no torch."""

import zipfile
from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from shared.jobs.result import ByteRange
from worker.formats.drawing import draw_overlay
from worker.formats.mask_png import Runs
from worker.segmenter import LabelMap, Segmentation

# Label maps are long runs of one value: run-length matching on unfiltered rows is both the fastest and among the
# smallest (measured against every other strategy, filter and level, and against Pillow).
_FLAT = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
)
# A filtered photo has hardly any runs: looking for them costs a seventh of the time and saves a hundredth of the size.
_PHOTO = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
)

# The earliest date that a zip can hold: equal masks give equal bytes.
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_READABLE_FILE = 0o100644 << 16


def labels_png(label_map: LabelMap) -> bytes:
    """Encode the label map (H, W) as a greyscale PNG, 8 or 16 bit as its dtype; decoding gives it back exactly."""
    return _png(label_map, _FLAT)


def mask_png(label_map: LabelMap, segment_id: int) -> bytes:
    """Encode one segment of the label map (H, W) as an 8-bit greyscale PNG of that size: 255 inside, 0 outside."""
    return Runs.of(label_map).mask_png(segment_id)


def masks_zip(segmentation: Segmentation) -> tuple[bytes, dict[int, ByteRange]]:
    """Pack every mask into a zip with the entries 1.png, 2.png, ... by segment id.

    Returns:
        the zip, and by segment id where in it that mask's PNG lies: entries are stored, not compressed, so those bytes
        are the PNG itself.
    """
    buffer = BytesIO()
    ranges: dict[int, ByteRange] = {}
    runs = Runs.of(segmentation.label_map)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for segment in segmentation.segments:
            entry = zipfile.ZipInfo(f"{segment.id}.png", _NO_DATE)
            entry.external_attr = _READABLE_FILE
            png = runs.mask_png(segment.id)
            archive.writestr(entry, png)
            ranges[segment.id] = ByteRange(offset=buffer.tell() - len(png), length=len(png))
    return buffer.getvalue(), ranges


def overlay_png(image: Image, segmentation: Segmentation) -> bytes:
    """Encode the photo with its segments drawn over it as an RGB PNG for people to look at.

    Args:
        image: upright RGB, the size of the label map; a longest side above the bound of the overlay is scaled down.
    """
    drawn = draw_overlay(image, segmentation)  # (h, w, 3) RGB
    return _png(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), _PHOTO)


def _png(pixels: NDArray[np.generic], parameters: Sequence[int]) -> bytes:
    encoded = cv2.imencode(".png", pixels, parameters)[1]  # type: ignore[arg-type]
    return encoded.tobytes()
