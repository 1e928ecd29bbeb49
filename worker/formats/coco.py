"""coco.json: the segments as COCO's instances.  Pure, no torch.

Source: https://cocodataset.org/#format-data, "Object Detection".
"""

from typing import Any

import orjson

from shared.jobs.result import Segment
from worker.formats.coco_masks import encode_segment
from worker.formats.descriptions import describe_coco_categories, describe_coco_image, list_visible
from worker.formats.rendered import Rendered, RenderSource
from worker.formats.simplification import get_outlines


def render(source: RenderSource) -> Rendered:
    """Write one image, the classes of its segments, and one annotation for each segment that has pixels.

    Masks are compressed RLE; or, by an option, polygons: one for each part of a segment, without its holes.  Area and
    box are those of the mask in either case.  Each id of a class is that of the model, which may be 0.
    """
    segments = list_visible(source)
    document = {
        "info": {"description": source.model},
        "licenses": [],
        "images": [describe_coco_image(source)],
        "categories": describe_coco_categories(segments),
        "annotations": [_describe(source, segment) for segment in segments],
    }
    return Rendered(orjson.dumps(document))


def _describe(source: RenderSource, segment: Segment) -> dict[str, Any]:
    return {
        "id": segment.id,
        "image_id": 1,
        "category_id": segment.label_id,
        "segmentation": _describe_mask(source, segment),
        "area": segment.area,
        "bbox": segment.bbox,
        "iscrowd": 0,
        "score": segment.score,
    }


def _describe_mask(source: RenderSource, segment: Segment) -> dict[str, Any] | list[list[int]]:
    if not source.options.coco_polygons:
        return encode_segment(source, segment)
    return [outline.exterior.ravel().tolist() for outline in get_outlines(source)[segment.id]]
