"""labels.png: the label map itself.  Pure, no torch."""

from PIL.Image import Image

from worker.formats.png import PngStrategy, encode_png
from worker.formats.rendered import Rendered
from worker.segmenter import Segmentation


def render(segmentation: Segmentation, image: Image | None) -> Rendered:
    """Encode the label map (H, W) as a greyscale PNG, 8 or 16 bit by its dtype; decoding returns the same array.

    Args:
        image: not used.
    """
    return Rendered(encode_png(segmentation.label_map, PngStrategy.RUN_LENGTH))
