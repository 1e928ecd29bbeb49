"""Segment images through the port of worker/segmenter.py, and compare results pixel by pixel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters
from worker.segmenter import Prepared, Segmentation, Segmenter, prepare_image

# Label id of a pixel that no segment covers.
NO_LABEL = -1


def segment_images(
    segmenter: Segmenter, images: Sequence[Image.Image], batch: int, parameters: SegmentParameters
) -> list[Segmentation]:
    """Prepare and segment images in batches of `batch`.

    Raises:
        MaskmillError: one of them could not be segmented.
    """
    results: list[Segmentation] = []
    for first in range(0, len(images), batch):
        prepared = [prepare_image(segmenter, image, parameters) for image in images[first : first + batch]]
        results += segment_batch(segmenter, prepared)
    return results


def segment_batch(segmenter: Segmenter, batch: Sequence[Prepared]) -> list[Segmentation]:
    """Segment one batch.

    Raises:
        MaskmillError: one of its images could not be segmented.
    """
    results = []
    for outcome in segmenter.segment(batch):
        if isinstance(outcome, MaskmillError):
            raise outcome
        results.append(outcome)
    return results


def label_ids(result: Segmentation) -> np.ndarray:
    """Return the label id of each pixel, (H, W) int64; NO_LABEL where there is no segment.

    Label ids and not segment ids are compared, because one additional segment shifts all segment ids after it.
    """
    return np.array([NO_LABEL, *(segment.label_id for segment in result.segments)])[result.label_map]


def equal_label_share(a: Segmentation, b: Segmentation) -> float:
    """Return the share of pixels, in [0, 1], that have the same label id in both results."""
    return float((label_ids(a) == label_ids(b)).mean())


def equal_name_share(ours: Segmentation, reference: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of pixels, in [0, 1], that have the same label name in our result and in the pipeline's.

    Args:
        reference: the pipeline's segments; later masks overwrite earlier ones where they overlap.
    """
    labels = np.array(["", *(segment.label for segment in ours.segments)], dtype=object)[ours.label_map]  # (H, W)
    expected = np.full(labels.shape, "", dtype=object)
    for segment in reference:
        expected[np.asarray(segment["mask"]) > 0] = segment["label"]
    return float((labels == expected).mean())


def is_same(ours: Segmentation, reference: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether labels, scores, order and every pixel equal those of the pipeline."""
    labels = [(segment.label, segment.score) for segment in ours.segments]
    return labels == [(one["label"], one["score"]) for one in reference] and all(
        np.array_equal(ours.label_map == number, np.asarray(one["mask"]) > 0)
        for number, one in enumerate(reference, start=1)
    )
