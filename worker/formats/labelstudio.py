"""labelstudio.json: a task of Label Studio with the segments as predictions.  Pure, no torch.

Source: https://labelstud.io/guide/predictions and https://labelstud.io/tags/brushlabels.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.jobs.result import Segment
from worker.formats.brush import encode_brush
from worker.formats.descriptions import list_visible
from worker.formats.outlines import Ring
from worker.formats.rendered import Rendered, RenderSource
from worker.formats.runs import get_runs
from worker.formats.simplification import get_outlines


def render(source: RenderSource) -> Rendered:
    """Write a list of one task: each segment that has pixels as a brush mask, and each of its parts as a polygon.

    The labeling interface needs an Image named `image`, BrushLabels named `brush` and PolygonLabels named `polygon`;
    results of tags that it lacks are ignored.  Polygons have no holes, their points are per cent of width and height.
    """
    results = [result for segment in list_visible(source) for result in _describe(source, segment)]
    prediction = {"model_version": source.model, "result": results}
    task = {"data": {"image": source.file_name}, "predictions": [prediction]}
    return Rendered(orjson.dumps([task], option=orjson.OPT_SERIALIZE_NUMPY))


def _describe(source: RenderSource, segment: Segment) -> Iterator[dict[str, Any]]:
    label_map = source.segmentation.label_map
    brush = encode_brush(get_runs(source, segment), label_map.size)
    yield {
        **_describe_result(source, segment, "brush"),
        "id": f"brush-{segment.id}",
        "value": {"format": "rle", "rle": brush, "brushlabels": [segment.label]},
    }
    for number, outline in enumerate(get_outlines(source)[segment.id], start=1):
        points = _scale(outline.exterior, label_map.shape)
        yield {
            **_describe_result(source, segment, "polygon"),
            "id": f"polygon-{segment.id}-{number}",
            "value": {"points": points, "closed": True, "polygonlabels": [segment.label]},
        }


def _describe_result(source: RenderSource, segment: Segment, name: str) -> dict[str, Any]:
    height, width = source.segmentation.label_map.shape
    return {
        "from_name": name,
        "to_name": "image",
        "type": f"{name}labels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": segment.score,
    }


def _scale(ring: Ring, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return (n, 2): x and y of the corners in per cent of the image's sides."""
    height, width = shape
    percents: NDArray[np.float64] = ring * np.array((100 / width, 100 / height))
    return percents
