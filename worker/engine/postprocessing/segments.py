"""From a label map on the host to the canonical result: measure each segment.  No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from shared.jobs.result import Segment
from worker.engine.postprocessing.types import ScoredLabel
from worker.segmenter import LabelMap, Segmentation


def measure_segments(
    label_map: NDArray[np.integer],
    labels: Sequence[ScoredLabel],
    names: Mapping[int, str],
    *,
    stuff: frozenset[int] | None = None,
) -> Segmentation:
    """Measure area and bounding box of each segment.

    Args:
        label_map: (H, W), values in [0, len(labels)].
        labels: label and score of segment n at n - 1.
        names: the name of each label id.
        stuff: label ids of classes without separate instances; None if the model does not say.
    """
    compact: LabelMap = (
        label_map.astype(np.uint8, copy=False) if len(labels) < 256 else label_map.astype(np.uint16, copy=False)
    )
    boxes = ndimage.find_objects(compact, max_label=len(labels))
    segments = (
        replace(
            measure_segment(compact, number, label, names[label.label_id], box),
            is_thing=stuff is None or label.label_id not in stuff,
        )
        for number, (label, box) in enumerate(zip(labels, boxes, strict=True), start=1)
    )
    return Segmentation(compact, tuple(segments))


def measure_segment(
    label_map: LabelMap, number: int, label: ScoredLabel, name: str, box: tuple[slice, slice] | None
) -> Segment:
    """Count the pixels of segment `number` inside its box (rows, columns); box is None if it has no pixels.

    The segment's bbox is (x, y, width, height) in pixels.
    """
    if box is None:
        return Segment(number, name, label.label_id, label.score, area=0, bbox=(0, 0, 0, 0))
    rows, columns = box
    return Segment(
        id=number,
        label=name,
        label_id=label.label_id,
        score=label.score,
        area=int(np.count_nonzero(label_map[box] == number)),
        bbox=(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start),
    )
