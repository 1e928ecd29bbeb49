"""panoptic.png: the label map in the colours of COCO's panoptic format.  Pure, no torch."""

import numpy as np

from worker.formats.png import PngStrategy, encode_png
from worker.formats.rendered import Rendered, RenderSource


def render(source: RenderSource) -> Rendered:
    """Encode the label map (H, W) as an RGB PNG whose pixels have the id R + 256 G + 65536 B, 0 for no segment."""
    label_map = source.segmentation.label_map
    colours = np.zeros((*label_map.shape, 3), np.uint8)  # (H, W, 3) BGR
    colours[:, :, 2] = label_map & 255
    if label_map.dtype != np.uint8:
        colours[:, :, 1] = label_map >> 8
    return Rendered(encode_png(colours, PngStrategy.COLOUR_RUNS))
