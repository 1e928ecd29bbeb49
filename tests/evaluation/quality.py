"""Panoptic quality (Kirillov et al., 2019) by COCO's rules, and semantic measures of the same maps.

Arrays only: no files, no model.  A class is an index from 0.  An undefined figure, such as the quality of a class
without any segment, is NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
# The key of a figure: the set of classes, the part of them (all, things or stuff), and the measure.
Figure = tuple[str, str, str]

# A pair matches above this intersection over union, so that each segment has one match at most.
MIN_MATCH_IOU: Final = 0.5
# An unmatched segment is ignored above this share of void and crowd pixels.
MIN_IGNORED_SHARE: Final = 0.5
PERCENTILES: Final = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Region:
    """One segment of a panoptic map.  A crowd merges several things (COCO's `iscrowd`) and is never matched."""

    id: int
    label: int
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class PanopticMap:
    """ids: (H, W) of any integer dtype, the region's id at each pixel; an id without a region is void."""

    ids: NDArray[np.integer]
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of each class: (C,) for one image or a sum over images, (R, C) for R resamplings of the images.

    iou: sum over the matched pairs.
    hits, wrong, missed: true positives, false positives and false negatives, in segments.
    correct_pixels, truth_pixels, found_pixels: pixels of the class in both maps, in the ground truth, and in the
        prediction; void is excluded.
    """

    iou: Floats
    hits: Floats
    wrong: Floats
    missed: Floats
    correct_pixels: Floats
    truth_pixels: Floats
    found_pixels: Floats


def tally(truth: PanopticMap, found: PanopticMap, classes: int) -> Tally:
    """Compare two maps of one image.

    A pair of segments of one class matches if its intersection over union, void excluded, is above one half.  An
    unmatched predicted segment is ignored if more than half of it lies on void or on a crowd of its class.  A crowd is
    neither a hit nor missed; its pixels count like those of any region of its class.

    Args:
        found: the prediction.
        classes: the number C of classes.
    """
    shared = intersections(truth, found)  # (T + 1, F + 1)
    true_labels, found_labels = (_labels(one.regions) for one in (truth, found))
    is_crowd = np.array([region.is_crowd for region in truth.regions], bool)
    both, on_void, found_areas = shared[1:, 1:], shared[0, 1:], shared[:, 1:].sum(0)
    is_same_class = true_labels[:, None] == found_labels  # (T, F)
    union = found_areas - on_void + shared[1:].sum(1, keepdims=True) - both
    iou = np.divide(both, union, out=np.zeros(both.shape), where=is_same_class & ~is_crowd[:, None] & (union > 0))
    matches = iou > MIN_MATCH_IOU
    ignored = on_void + (both * (is_same_class & is_crowd[:, None])).sum(0)
    is_wrong = ~matches.any(0) & ~(ignored > MIN_IGNORED_SHARE * found_areas)
    is_missed = ~matches.any(1) & ~is_crowd

    def by_label(labels: Ints, amounts: NDArray[Any]) -> Floats:
        return np.bincount(labels, weights=amounts, minlength=classes).astype(np.float64)

    return Tally(
        iou=by_label(true_labels, (iou * matches).sum(1)),
        hits=by_label(true_labels, matches.sum(1)),
        wrong=by_label(found_labels, is_wrong),
        missed=by_label(true_labels, is_missed),
        correct_pixels=by_label(true_labels, (both * is_same_class).sum(1)),
        truth_pixels=by_label(true_labels, shared[1:].sum(1)),
        found_pixels=by_label(found_labels, both.sum(0)),
    )


def intersections(truth: PanopticMap, found: PanopticMap) -> Ints:
    """Return (T + 1, F + 1) pixel counts of the intersections of all pairs of regions; row and column 0 are void."""
    rows, columns = len(truth.regions) + 1, len(found.regions) + 1
    pairs = _region_numbers(truth) * columns + _region_numbers(found)
    return np.bincount(pairs.ravel(), minlength=rows * columns).reshape(rows, columns)


def weighted_total(tallies: Sequence[Tally], weights: Floats) -> Tally:
    """Sum the tallies of N images, multiplied by weights of shape (N,) or (R, N)."""
    return Tally(
        **{field.name: weights @ np.stack([getattr(one, field.name) for one in tallies]) for field in fields(Tally)}
    )


def total(tallies: Sequence[Tally]) -> Tally:
    return weighted_total(tallies, np.ones(len(tallies)))


def class_figures(counted: Tally) -> dict[str, Floats]:
    """Return pq, sq, rq and the iou of the pixels of each class, in [0, 1] and of the tally's shape."""
    seen = counted.hits + (counted.wrong + counted.missed) / 2
    return {
        "pq": _ratio(counted.iou, seen),
        # The segmentation quality of a class without matches is undefined; COCO averages it as 0.
        "sq": np.where(seen > 0, _ratio(counted.iou, np.maximum(counted.hits, 1)), np.nan),
        "rq": _ratio(counted.hits, seen),
        "iou": _ratio(counted.correct_pixels, counted.truth_pixels + counted.found_pixels - counted.correct_pixels),
    }


def averages(counted: Tally, *, is_known: Bools, is_thing: Bools) -> dict[Figure, Floats]:
    """Average over three sets of classes, each for all of its classes, for things, and for stuff.

    `seen` is COCO's own: classes in the ground truth or the prediction.  `in_truth` excludes classes that are in the
    prediction only.  `known` are the seen classes that the model has.

    Args:
        is_known: (C,) bool, the classes that the model has.
        is_thing: (C,) bool.
    """
    figures = class_figures(counted)
    seen, occupied = ~np.isnan(figures["pq"]), ~np.isnan(figures["iou"])
    chosen = {
        "seen": (seen, occupied),
        "in_truth": (counted.hits + counted.missed > 0, counted.truth_pixels > 0),
        "known": (seen & is_known, occupied & is_known),
    }
    parts = {"all": np.ones_like(is_thing), "things": is_thing, "stuff": ~is_thing}
    averaged: dict[Figure, Floats] = {}
    for subset, (segments, pixels) in chosen.items():
        for part, members in parts.items():
            for name in ("pq", "sq", "rq"):
                averaged[subset, part, name] = _mean(figures[name], segments & members)
            averaged[subset, part, "miou"] = _mean(figures["iou"], pixels & members)
            averaged[subset, part, "classes"] = (segments & members).sum(-1, dtype=np.float64)
    return averaged | accuracies(counted, is_known)


def accuracies(counted: Tally, is_known: Bools) -> dict[Figure, Floats]:
    """Return the share of pixels with the correct class: of all but void, and of those of known classes."""
    return {
        ("pixels", "all", "accuracy"): _ratio(counted.correct_pixels.sum(-1), counted.truth_pixels.sum(-1)),
        ("pixels", "known", "accuracy"): _ratio(
            (counted.correct_pixels * is_known).sum(-1), (counted.truth_pixels * is_known).sum(-1)
        ),
    }


def bootstrap_intervals(
    tallies: Sequence[Tally], compute_figures: Callable[[Tally], Mapping[Figure, Floats]], *, draws: int, seed: int = 0
) -> dict[Figure, tuple[float, float]]:
    """Return the 95 % interval of each figure by the bootstrap percentile method (Efron and Tibshirani, 1993).

    A class that a resampling lacks is excluded from its average, or counts as 0 if the prediction has it.  Where many
    classes are rare, the averages of the resamplings are therefore not symmetric about that of all images.

    Args:
        compute_figures: called with tallies of shape (draws, C).
        draws: the number of resamplings of the images, with replacement.
    """
    images = len(tallies)
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    spread: dict[Figure, tuple[float, float]] = {}
    for figure, values in compute_figures(weighted_total(tallies, weights.astype(np.float64))).items():
        defined = values[~np.isnan(values)]
        low, high = np.percentile(defined, PERCENTILES) if len(defined) else (np.nan, np.nan)
        spread[figure] = float(low), float(high)
    return spread


def _labels(regions: Sequence[Region]) -> Ints:
    return np.array([region.label for region in regions], np.int64)


def _region_numbers(mapped: PanopticMap) -> Ints:
    """Return (H, W), the number of the region at each pixel, counted from 1; 0 is void."""
    numbers = {region.id: number for number, region in enumerate(mapped.regions, start=1)}
    ids, inverse = np.unique(mapped.ids, return_inverse=True)
    table = np.array([numbers.get(int(one), 0) for one in ids], np.int64)
    return table[inverse].reshape(mapped.ids.shape)


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=np.greater(whole, 0))
    return ratio


def _mean(values: Floats, chosen: Bools) -> Floats:
    return _ratio(np.where(chosen, values, 0).sum(-1), chosen.sum(-1, dtype=np.float64))
