"""overlay.png: the image with its segments drawn over it.  Pure, no torch."""

import cv2
from PIL.Image import Image

from worker.formats.drawing import draw_overlay
from worker.formats.png import PngStrategy, encode_png
from worker.formats.rendered import Rendered
from worker.segmenter import Segmentation


def render(segmentation: Segmentation, image: Image | None) -> Rendered:
    """Encode the image with tinted, outlined and named segments as an RGB PNG.

    Args:
        image: upright RGB, the size of the label map, or scaled down if that exceeds drawing.MAX_OVERLAY_SIDE.
    """
    if image is None:
        raise ValueError("An overlay is drawn over an image")
    overlay = draw_overlay(image, segmentation)  # (h, w, 3) RGB
    return Rendered(encode_png(cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR), PngStrategy.HUFFMAN_ONLY))
