"""What several JSON formats say of an image, its segments and their classes.  Pure, no torch."""

from collections.abc import Sequence
from typing import Any

from shared.jobs.result import Segment
from worker.formats.rendered import RenderSource


def describe_image(source: RenderSource) -> dict[str, Any]:
    """Return name and size in pixels of the image."""
    height, width = source.segmentation.label_map.shape
    return {"file_name": source.file_name, "width": width, "height": height}


def describe_segment(segment: Segment) -> dict[str, Any]:
    """Return all that is known of a segment but its pixels."""
    return {
        "id": segment.id,
        "label": segment.label,
        "label_id": segment.label_id,
        "score": segment.score,
        "is_thing": segment.is_thing,
        "area": segment.area,
        "bbox": segment.bbox,
    }


def describe_coco_image(source: RenderSource) -> dict[str, Any]:
    """Return the one member of COCO's `images`."""
    return {"id": 1, **describe_image(source)}


def describe_coco_categories(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """Return COCO's `categories`: the classes of these segments, by their ids in the model."""
    found = {one.label_id: one for one in segments}
    return [
        {"id": number, "name": one.label, "supercategory": "", "isthing": int(one.is_thing)}
        for number, one in sorted(found.items())
    ]


def list_visible(source: RenderSource) -> list[Segment]:
    """Return the segments that have pixels: one that others cover has none."""
    return [segment for segment in source.segmentation.segments if segment.area]
