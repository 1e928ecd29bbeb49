"""Panoptic segmentation: each pixel belongs to at most one segment, things and stuff alike."""

from collections.abc import Sequence
from math import isfinite

from torch import Tensor

from worker.engine.postprocessing.argmax import argmax_resized
from worker.engine.postprocessing.candidates import find_candidates
from worker.engine.postprocessing.label_map import assign_segment_ids, count_pixels, empty_result, renumber
from worker.engine.postprocessing.resize import GRID, resize_planes
from worker.engine.postprocessing.types import LabelMapResult, Logits, PostprocessOptions, ScoredLabel


def postprocess_panoptic(logits: Logits, options: PostprocessOptions) -> LabelMapResult:
    """Give each pixel to the query with the highest score * mask probability.

    A query is dropped if too small a share of its own mask remains visible.  The algorithm is the general inference of
    MaskFormer (Cheng et al., 2021, section 3.4) with the thresholds of transformers.
    """
    parameters = options.parameters
    scores, labels = logits.classes.softmax(-1).max(-1)  # (Q,)
    keep = labels.ne(logits.classes.shape[-1] - 1) & (scores > parameters.threshold)
    scores, labels = scores[keep], labels[keep]  # (K,)
    if not len(scores):
        return empty_result(options.size, logits.masks.device)
    probs = resize_planes(logits.masks[keep], GRID, original_count=len(keep)).sigmoid_()  # (K, 384, 384)
    candidates = find_candidates(probs, options.size, weights=scores, area_threshold=parameters.mask_threshold)
    kept_count = len(scores)
    scores, labels = scores[candidates.indices], labels[candidates.indices]
    probs = probs if len(scores) == kept_count else probs[candidates.indices]
    argmax = argmax_resized(
        probs,
        options.size,
        original_count=kept_count,
        weights=scores,
        area_threshold=parameters.mask_threshold,
        active_columns=candidates.columns,
        budget=options.budget,
    )
    visible = count_pixels(argmax.index_map, len(scores)) / argmax.areas
    is_shown = exceed_share(visible, parameters.overlap_mask_area_threshold)
    fused = options.stuff if parameters.fuse_stuff else frozenset()
    ids = assign_segment_ids(labels.tolist(), is_shown, fused)
    return LabelMapResult(renumber(argmax.index_map, ids), best_labels(ids, labels.tolist(), scores.tolist()))


def exceed_share(shares: Tensor, threshold: float) -> list[bool]:
    """Tell for each query whether the visible share of its mask (K,) exceeds the threshold.

    Where no pixel reaches the mask threshold, the share is infinite or undefined; transformers drops such a query.
    """
    return [isfinite(share) and share > threshold for share in shares.tolist()]


def best_labels(ids: Sequence[int], labels: Sequence[int], scores: Sequence[float]) -> tuple[ScoredLabel, ...]:
    """Return label and score of each segment, by its id; of fused masks the highest score."""
    best: dict[int, tuple[int, float]] = {}
    for identifier, label, score in zip(ids, labels, scores, strict=True):
        if identifier and (identifier not in best or score > best[identifier][1]):
            best[identifier] = label, score
    return tuple(ScoredLabel(label, round(score, 6)) for label, score in best.values())
