"""labels.png: the label map itself.  Pure, no torch."""

from worker.formats.png import PngStrategy, encode_png
from worker.formats.rendered import Rendered, RenderSource


def render(source: RenderSource) -> Rendered:
    """Encode the label map (H, W) as a greyscale PNG, 8 or 16 bit by its dtype; decoding returns the same array."""
    return Rendered(encode_png(source.segmentation.label_map, PngStrategy.RUN_LENGTH))
