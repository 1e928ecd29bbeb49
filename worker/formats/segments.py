"""segments.json: the segments without their pixels.  Pure, no torch."""

import orjson

from worker.formats.descriptions import describe_image, describe_segment
from worker.formats.rendered import Rendered, RenderSource


def render(source: RenderSource) -> Rendered:
    """Write the image, the model and each segment: id in labels.png, class, score, area and box in pixels."""
    segments = [describe_segment(segment) for segment in source.segmentation.segments]
    return Rendered(orjson.dumps({"image": describe_image(source), "model": source.model, "segments": segments}))
