"""panoptic.json: the segments as COCO's panoptic format; panoptic_png.py has the pixels.  Pure, no torch.

Source: https://cocodataset.org/#format-data, "Panoptic Segmentation".
"""

from typing import Any, Final

import orjson

from shared.jobs.result import Segment
from worker.formats.descriptions import describe_coco_categories, describe_coco_image, list_visible
from worker.formats.rendered import Rendered, RenderSource

PNG_NAME: Final = "panoptic.png"


def render(source: RenderSource) -> Rendered:
    """Write one image, the classes of its segments, and one annotation with a member for each segment that has pixels.

    Pixels that belong to no segment are 0 in the PNG, which is COCO's void.
    """
    segments = list_visible(source)
    annotation = {
        "image_id": 1,
        "file_name": PNG_NAME,
        "segments_info": [_describe(segment) for segment in segments],
    }
    document = {
        "info": {"description": source.model},
        "licenses": [],
        "images": [describe_coco_image(source)],
        "categories": describe_coco_categories(segments),
        "annotations": [annotation],
    }
    return Rendered(orjson.dumps(document))


def _describe(segment: Segment) -> dict[str, Any]:
    return {
        "id": segment.id,
        "category_id": segment.label_id,
        "area": segment.area,
        "bbox": segment.bbox,
        "iscrowd": 0,
        "score": segment.score,
    }
