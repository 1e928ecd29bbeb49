"""rle.json: every mask as COCO's compressed run-length encoding.  Pure, no torch."""

from typing import Any

import orjson

from shared.jobs.result import Segment
from worker.formats.coco_masks import encode_segment
from worker.formats.rendered import Rendered, RenderSource


def render(source: RenderSource) -> Rendered:
    """Encode the segments as JSON, each with its mask as `{"size": [height, width], "counts": "..."}`."""
    segments = [_describe(source, segment) for segment in source.segmentation.segments]
    return Rendered(orjson.dumps({"size": source.segmentation.label_map.shape, "segments": segments}))


def _describe(source: RenderSource, segment: Segment) -> dict[str, Any]:
    return {
        "id": segment.id,
        "category_id": segment.label_id,
        "label": segment.label,
        "score": segment.score,
        "area": segment.area,
        "bbox": segment.bbox,
        "segmentation": encode_segment(source, segment),
    }
