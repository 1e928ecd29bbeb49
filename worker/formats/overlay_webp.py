"""overlay.webp: the image with its segments drawn over it, a fraction of the size of overlay.png.  Pure, no torch."""

from typing import Final

import cv2

from shared.errors import RenderingFailed
from worker.formats.drawing import draw_overlay
from worker.formats.rendered import Rendered, RenderSource

_QUALITY: Final = 85  # per cent


def render(source: RenderSource) -> Rendered:
    """Encode the image with tinted, outlined and named segments as a lossy WebP, of the size of overlay.png.

    Raises:
        RenderingFailed: the encoder refused.
    """
    image = source.image
    if image is None:
        raise ValueError("An overlay is drawn over an image")
    overlay = source.share("overlay", lambda: draw_overlay(image, source.segmentation))  # (h, w, 3) RGB
    pixels = cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR)
    is_encoded, encoded = cv2.imencode(".webp", pixels, (cv2.IMWRITE_WEBP_QUALITY, _QUALITY))
    if not is_encoded or not encoded.size:
        raise RenderingFailed(f"No WebP of {pixels.shape[1]} x {pixels.shape[0]} pixels could be written")
    return Rendered(encoded.tobytes())
