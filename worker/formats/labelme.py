"""labelme.json: the segments as polygons of LabelMe.  Pure, no torch.

Source: the files that https://github.com/wkentaro/labelme writes.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from shared.jobs.result import Segment
from worker.formats.descriptions import list_visible
from worker.formats.outlines import Ring
from worker.formats.rendered import Rendered, RenderSource
from worker.formats.simplification import get_outlines

_VERSION: Final = "5.5.0"  # the first release of LabelMe's present form


def render(source: RenderSource) -> Rendered:
    """Write a polygon for each part of each segment; parts of one segment share its id as their group.  Holes are lost.

    The image is not included: it is looked for beside the file.
    """
    height, width = source.segmentation.label_map.shape
    document = {
        "version": _VERSION,
        "flags": {},
        "shapes": list(_describe_shapes(source)),
        "imagePath": source.file_name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return Rendered(orjson.dumps(document))


def _describe_shapes(source: RenderSource) -> Iterator[dict[str, Any]]:
    outlines = get_outlines(source)
    for segment in list_visible(source):
        for outline in outlines[segment.id]:
            yield _describe_shape(segment, outline.exterior)


def _describe_shape(segment: Segment, ring: Ring) -> dict[str, Any]:
    return {
        "label": segment.label,
        "points": ring.astype(float).tolist(),
        "group_id": segment.id,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }
