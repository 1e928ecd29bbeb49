"""polygons.json: the outlines of every segment, with holes and islands.  Pure, no torch."""

from collections.abc import Sequence
from typing import Any

import orjson

from worker.formats.descriptions import describe_image, describe_segment
from worker.formats.outlines import Outline
from worker.formats.rendered import Rendered, RenderSource
from worker.formats.simplification import get_outlines


def render(source: RenderSource) -> Rendered:
    """Write each segment with its polygons, one for each part: an exterior and the holes in it, as [x, y] of corners.

    0 is the left or upper edge of the image.  At tolerance 0 a polygon holds the centres of its pixels and of no other.
    """
    outlines = get_outlines(source)
    segments = [
        {**describe_segment(segment), "polygons": _describe(outlines.get(segment.id, ()))}
        for segment in source.segmentation.segments
    ]
    document = {
        "image": describe_image(source),
        "model": source.model,
        "tolerance": source.options.polygon_tolerance,
        "segments": segments,
    }
    return Rendered(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def _describe(outlines: Sequence[Outline]) -> list[dict[str, Any]]:
    return [{"exterior": one.exterior, "holes": one.holes} for one in outlines]
