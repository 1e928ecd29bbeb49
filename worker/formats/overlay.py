"""overlay.png: the image with its segments drawn over it.  Pure, no torch."""

import cv2

from worker.formats.drawing import draw_overlay
from worker.formats.png import PngStrategy, encode_png
from worker.formats.rendered import Rendered, RenderSource


def render(source: RenderSource) -> Rendered:
    """Encode the image with tinted, outlined and named segments as an RGB PNG.

    Args:
        source: has the image, the size of the label map, or scaled down if that exceeds drawing.MAX_OVERLAY_SIDE.
    """
    image = source.image
    if image is None:
        raise ValueError("An overlay is drawn over an image")
    overlay = source.share("overlay", lambda: draw_overlay(image, source.segmentation))  # (h, w, 3) RGB
    return Rendered(encode_png(cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR), PngStrategy.HUFFMAN_ONLY))
