"""The segments that a job's caller wants, by their labels.  No torch here."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from worker.segmenter import Segmentation

_MAX_SMALL_IDS = np.iinfo(np.uint8).max


def select_labels(segmentation: Segmentation, labels: Collection[str]) -> Segmentation:
    """Return only the segments of these labels, renumbered from 1 in their order; all without labels.

    The pixels of the others have no segment any more.  Scores, areas and boxes do not change.
    """
    if not labels:
        return segmentation
    kept = [segment for segment in segmentation.segments if segment.label in labels]
    if len(kept) == len(segmentation.segments):
        return segmentation
    # By the old id; 0 stays 0.
    new_ids = np.zeros(1 + max(segment.id for segment in segmentation.segments), dtype=np.uint16)
    for new_id, segment in enumerate(kept, start=1):
        new_ids[segment.id] = new_id
    segments = tuple(replace(segment, id=new_id) for new_id, segment in enumerate(kept, start=1))
    if len(kept) <= _MAX_SMALL_IDS:
        return Segmentation(new_ids.astype(np.uint8)[segmentation.label_map], segments)
    return Segmentation(new_ids[segmentation.label_map], segments)
