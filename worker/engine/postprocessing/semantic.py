"""Semantic segmentation: one class for each pixel."""

import torch

from worker.engine.postprocessing.argmax import argmax_resized
from worker.engine.postprocessing.candidates import find_candidates
from worker.engine.postprocessing.label_map import assign_segment_ids, count_pixels, renumber
from worker.engine.postprocessing.resize import GRID, resize_planes
from worker.engine.postprocessing.types import LabelMapResult, Logits, PostprocessOptions, ScoredLabel


def postprocess_semantic(logits: Logits, options: PostprocessOptions) -> LabelMapResult:
    """Give each pixel to its most probable class.  There are no scores, and no threshold applies.

    The algorithm is the semantic inference of MaskFormer (Cheng et al., 2021, section 3.4): class probabilities are
    summed over all queries, weighted by mask probabilities.
    """
    class_probs = logits.classes.softmax(-1)[:, :-1]  # (Q, C)
    mask_probs = resize_planes(logits.masks, GRID, original_count=len(class_probs)).sigmoid_()  # (Q, 384, 384)
    classes = torch.einsum("bqc, bqhw -> bchw", class_probs[None], mask_probs[None])[0]  # (C, 384, 384)
    del mask_probs
    candidates = find_candidates(classes, options.size)
    class_count = len(classes)
    classes = classes if len(candidates.indices) == class_count else classes[candidates.indices]
    argmax = argmax_resized(
        classes,
        options.size,
        original_count=class_count,
        active_columns=candidates.columns,
        budget=options.budget,
    )
    label_ids = candidates.indices.tolist()
    is_shown = (count_pixels(argmax.index_map, len(label_ids)) > 0).tolist()
    labels = tuple(ScoredLabel(label_id, None) for label_id, shown in zip(label_ids, is_shown, strict=True) if shown)
    return LabelMapResult(renumber(argmax.index_map, assign_segment_ids(label_ids, is_shown, frozenset())), labels)
