"""rle.json: every mask as COCO's compressed run-length encoding.  Pure, no torch."""

from typing import Any

import numpy as np
import orjson
from pycocotools import mask as coco_mask

from shared.jobs.result import Segment
from worker.formats.rendered import Rendered, RenderSource
from worker.segmenter import LabelMap


def render(source: RenderSource) -> Rendered:
    """Encode the segments as JSON, each with its mask as `{"size": [height, width], "counts": "..."}`.

    The encoding is that of pycocotools: runs in column order, the first of them zeros, as a string of six-bit groups.
    """
    label_map = source.segmentation.label_map  # (H, W)
    segments = [describe_segment(label_map, segment) for segment in source.segmentation.segments]
    return Rendered(orjson.dumps({"size": label_map.shape, "segments": segments}))


def describe_segment(label_map: LabelMap, segment: Segment) -> dict[str, Any]:
    """Return one segment of a label map (H, W) in COCO's terms."""
    encoded = coco_mask.encode(np.asfortranarray(label_map == segment.id, dtype=np.uint8))
    return {
        "id": segment.id,
        "category_id": segment.label_id,
        "label": segment.label,
        "score": segment.score,
        "area": segment.area,
        "bbox": segment.bbox,
        "segmentation": {"size": label_map.shape, "counts": encoded["counts"].decode("ascii")},
    }
