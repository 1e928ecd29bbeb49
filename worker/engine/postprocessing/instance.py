"""Instance segmentation: pairs of query and class, each with a mask and a score of its own."""

from collections.abc import Sequence
from math import inf, log

import torch
from torch import Tensor

from worker.engine.postprocessing.candidates import ROUNDING_MARGIN
from worker.engine.postprocessing.label_map import (
    assign_segment_ids,
    count_pixels,
    empty_result,
    label_map_dtype,
    renumber,
)
from worker.engine.postprocessing.resize import GRID, nearest_indices, resize_planes
from worker.engine.postprocessing.types import LabelMapResult, Logits, PostprocessOptions, ScoredLabel


def postprocess_instance(logits: Logits, options: PostprocessOptions) -> LabelMapResult:
    """Write the masks of the most probable pairs of query and class over each other, in the order of transformers.

    A pair's score is its class probability times the mean mask probability inside the mask (Mask2Former, Cheng et al.,
    2022).  With `strict_instance_thresholds` the mask threshold applies too, and a mask is dropped if later ones cover
    too much of it; transformers ignores both thresholds here.

    The order is that of an unsorted topk.  A rounding error in a probability near zero can change it, and with it which
    of two masks that overlap is on top.
    """
    parameters = options.parameters
    class_probs = logits.classes.softmax(-1)[:, :-1]  # (Q, C)
    scores, pairs = class_probs.flatten().topk(len(class_probs), sorted=False)  # (Q,)
    # The mean mask probability is at most 1, so a pair below the threshold stays below it.
    keep = scores * (1 + ROUNDING_MARGIN) >= parameters.threshold
    scores, pairs = scores[keep], pairs[keep]  # (K,)
    if not len(scores):
        return empty_result(options.size, logits.masks.device)
    queries, label_ids = pairs // class_probs.shape[1], (pairs % class_probs.shape[1]).tolist()
    masks = resize_planes(logits.masks[queries], GRID, original_count=len(class_probs))  # (K, 384, 384)
    inside = masks > (logit(parameters.mask_threshold) if parameters.strict_instance_thresholds else 0.0)
    rows, columns = nearest_indices(options.size, masks.device)
    weights = inside.float()
    areas = count_sampled_pixels(weights, rows, columns).tolist()
    final_scores = (scores * mask_scores(masks, weights)).tolist()
    shown = [n for n, score in enumerate(final_scores) if areas[n] and score >= parameters.threshold]
    label_map = overlay_masks(inside, shown)[rows][:, columns]
    result = LabelMapResult(label_map, tuple(ScoredLabel(label_ids[n], round(final_scores[n], 6)) for n in shown))
    if not parameters.strict_instance_thresholds:
        return result
    return drop_covered(result, [areas[n] for n in shown], parameters.overlap_mask_area_threshold)


def overlay_masks(inside: Tensor, shown: Sequence[int]) -> Tensor:
    """Write masks (K, h, w) over each other as 1, 2, ..., in the order of `shown`: (h, w); the last one is on top."""
    grid = torch.zeros(inside.shape[1:], dtype=label_map_dtype(len(shown)), device=inside.device)
    for identifier, number in enumerate(shown, start=1):
        grid[inside[number]] = identifier
    return grid


def drop_covered(result: LabelMapResult, areas: Sequence[int], min_share: float) -> LabelMapResult:
    """Drop the segments of which no more than `min_share` of the area (in pixels, each above 0) is visible."""
    visible = count_pixels(result.label_map, len(areas) + 1)[1:].tolist()
    is_shown = [count / area > min_share for count, area in zip(visible, areas, strict=True)]
    ids = [0, *assign_segment_ids([0] * len(is_shown), is_shown, frozenset())]
    labels = tuple(label for label, shown in zip(result.labels, is_shown, strict=True) if shown)
    return LabelMapResult(renumber(result.label_map, ids), labels)


def count_sampled_pixels(weights: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Count the image's pixels in masks of the grid, without resizing the masks.

    Args:
        weights: (K, 384, 384) float32, 1 inside the mask and 0 outside.
        rows, columns: (H,) and (W,), the row and column of the grid that each one of the image is sampled from.

    Returns:
        (K,) int64.
    """
    row_counts, column_counts = (torch.bincount(taken, minlength=GRID[0]).double() for taken in (rows, columns))
    by_row = weights @ column_counts.float()
    return (by_row.double() @ row_counts).long()


def mask_scores(masks: Tensor, weights: Tensor) -> Tensor:
    """Return the mean probability inside each mask.

    Args:
        masks: (K, h, w), logits.
        weights: (K, h, w) float32, 1 inside the mask and 0 outside.

    Returns:
        (K,) in [0, 1].
    """
    if len(masks) == 1:
        # torch sums a single row in another order than one of many, and transformers always has many.
        return mask_scores(masks.expand(2, -1, -1), weights.expand(2, -1, -1))[:1]
    flat = weights.flatten(1)
    return masks.sigmoid().flatten(1).mul_(flat).sum(1) / (flat.sum(1) + 1e-6)


def logit(probability: float) -> float:
    """Return the inverse of the sigmoid; infinite for 0 and 1."""
    if probability in (0.0, 1.0):
        return -inf if probability == 0.0 else inf
    return log(probability / (1 - probability))
