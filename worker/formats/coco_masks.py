"""COCO's compressed run-length encoding of each segment.  Pure, no torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from shared.jobs.result import Segment
from worker.formats.rendered import RenderSource
from worker.formats.runs import NO_RUNS, Runs, find_runs
from worker.segmenter import LabelMap


def encode_segment(source: RenderSource, segment: Segment) -> dict[str, Any]:
    """Return a segment's mask as `{"size": [height, width], "counts": "..."}`.

    The encoding is that of pycocotools: runs in column order, the first of them zeros, as a string of six-bit groups.
    """
    label_map = source.segmentation.label_map
    runs = source.share("column_runs", lambda: _find_column_runs(label_map)).get(segment.id, NO_RUNS)
    height, width = label_map.shape
    uncompressed = {"size": [height, width], "counts": runs.count(label_map.size).tolist()}
    encoded = coco_mask.frPyObjects(uncompressed, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _find_column_runs(label_map: LabelMap) -> Mapping[int, Runs]:
    """Return the runs in the columns, as indices into the map flattened column by column."""
    return find_runs(np.ascontiguousarray(label_map.T))
