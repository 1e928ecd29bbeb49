"""hf.json: the array that clients of Hugging Face's image-segmentation task read.  Pure, no torch."""

from shared.formats.huggingface import hf_array
from worker.formats import masks
from worker.formats.rendered import Rendered, RenderSource


def render(source: RenderSource) -> Rendered:
    """Write score, label and mask of every segment; a mask is a PNG as base64."""
    archive = source.share("masks", lambda: masks.render(source))
    return Rendered(hf_array(source.segmentation.segments, archive.content, archive.ranges))
