"""Panoptic quality by COCO's rules, and how well the same maps do pixel by pixel.  Arrays only: no files, no model.

A class is a number from 0.  What could not be measured, such as the quality of a class that is nowhere, is NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
# Which classes are averaged, which part of them, and what is measured of them.
Figure = tuple[str, str, str]

MATCH: Final = 0.5
IGNORED: Final = 0.5
PERCENTILES: Final = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Region:
    """One segment of a panoptic map.  A crowd is a lump of things that nobody told apart: it is never to be matched."""

    id: int
    label: int
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class PanopticMap:
    """ids: (H, W) of any integers, the region at each pixel; an id that no region has is void."""

    ids: NDArray[np.integer]
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted for each class: (C,) for one image or all of them, (R, C) for R ways of drawing images.

    iou: the sum over matched pairs, of which there are `hits`; `wrong` were found and match nothing, `missed` were not.
    right, true, found: pixels of the class in both maps, in the truth, and where it was found, void left out.
    """

    iou: Floats
    hits: Floats
    wrong: Floats
    missed: Floats
    right: Floats
    true: Floats
    found: Floats


def tally(truth: PanopticMap, found: PanopticMap, classes: int) -> Tally:
    """Compare two maps of one image.

    A pair of one class matches if it overlaps by more than half of its union, void left out.  What was found and
    matches nothing is forgiven if more than half of it lies on void or on a crowd of its class.  A crowd is neither
    found nor missed; pixel by pixel it counts like any region of its class.
    """
    shared = overlaps(truth, found)  # (T + 1, F + 1)
    true_labels, found_labels = (_labels(one.regions) for one in (truth, found))
    is_crowd = np.array([region.is_crowd for region in truth.regions], bool)
    both, on_void, found_areas = shared[1:, 1:], shared[0, 1:], shared[:, 1:].sum(0)
    is_same = true_labels[:, None] == found_labels  # (T, F)
    union = found_areas - on_void + shared[1:].sum(1, keepdims=True) - both
    iou = np.divide(both, union, out=np.zeros(both.shape), where=is_same & ~is_crowd[:, None] & (union > 0))
    matches = iou > MATCH
    forgiven = on_void + (both * (is_same & is_crowd[:, None])).sum(0)
    is_wrong = ~matches.any(0) & ~(forgiven > IGNORED * found_areas)
    is_missed = ~matches.any(1) & ~is_crowd

    def by_label(labels: Ints, amounts: NDArray[Any]) -> Floats:
        return np.bincount(labels, weights=amounts, minlength=classes).astype(np.float64)

    return Tally(
        iou=by_label(true_labels, (iou * matches).sum(1)),
        hits=by_label(true_labels, matches.sum(1)),
        wrong=by_label(found_labels, is_wrong),
        missed=by_label(true_labels, is_missed),
        right=by_label(true_labels, (both * is_same).sum(1)),
        true=by_label(true_labels, shared[1:].sum(1)),
        found=by_label(found_labels, both.sum(0)),
    )


def overlaps(truth: PanopticMap, found: PanopticMap) -> Ints:
    """(T + 1, F + 1): how many pixels each region shares with each of the other map; row and column 0 are void."""
    rows, columns = len(truth.regions) + 1, len(found.regions) + 1
    pairs = _places(truth) * columns + _places(found)
    return np.bincount(pairs.ravel(), minlength=rows * columns).reshape(rows, columns)


def drawn(tallies: Sequence[Tally], weights: Floats) -> Tally:
    """Add up the tallies of N images, each as often as `weights` (R, N) or (N,) say."""
    return Tally(
        **{field.name: weights @ np.stack([getattr(one, field.name) for one in tallies]) for field in fields(Tally)}
    )


def total(tallies: Sequence[Tally]) -> Tally:
    return drawn(tallies, np.ones(len(tallies)))


def by_class(counted: Tally) -> dict[str, Floats]:
    """Return pq, sq, rq and iou (pixel by pixel) of each class, each in [0, 1] and of the tally's shape."""
    seen = counted.hits + (counted.wrong + counted.missed) / 2
    return {
        "pq": _ratio(counted.iou, seen),
        # A class that was never matched has no segments whose quality could be seen; COCO averages it as 0.
        "sq": np.where(seen > 0, _ratio(counted.iou, np.maximum(counted.hits, 1)), np.nan),
        "rq": _ratio(counted.hits, seen),
        "iou": _ratio(counted.right, counted.true + counted.found - counted.right),
    }


def averages(counted: Tally, *, is_known: Bools, is_thing: Bools) -> dict[Figure, Floats]:
    """Average over classes, in three ways, each with its figures for all of them, for things, and for stuff.

    `seen` is COCO's own: classes that are in the truth or were found.  `in_truth` leaves out those that were only
    found.  `known` are those seen that the model can name.

    Args:
        is_known: (C,), the classes that the model can name.
        is_thing: (C,), the classes with instances.
    """
    figures = by_class(counted)
    seen, occupied = ~np.isnan(figures["pq"]), ~np.isnan(figures["iou"])
    chosen = {
        "seen": (seen, occupied),
        "in_truth": (counted.hits + counted.missed > 0, counted.true > 0),
        "known": (seen & is_known, occupied & is_known),
    }
    parts = {"all": np.ones_like(is_thing), "things": is_thing, "stuff": ~is_thing}
    averaged: dict[Figure, Floats] = {}
    for way, (segments, pixels) in chosen.items():
        for part, members in parts.items():
            for name in ("pq", "sq", "rq"):
                averaged[way, part, name] = _mean(figures[name], segments & members)
            averaged[way, part, "miou"] = _mean(figures["iou"], pixels & members)
            averaged[way, part, "classes"] = (segments & members).sum(-1, dtype=np.float64)
    return averaged | accuracies(counted, is_known)


def accuracies(counted: Tally, is_known: Bools) -> dict[Figure, Floats]:
    """Return the share of pixels with the right class: of all that are not void, and of those of known classes."""
    return {
        ("pixels", "all", "accuracy"): _ratio(counted.right.sum(-1), counted.true.sum(-1)),
        ("pixels", "known", "accuracy"): _ratio((counted.right * is_known).sum(-1), (counted.true * is_known).sum(-1)),
    }


def intervals(
    tallies: Sequence[Tally], figures_of: Callable[[Tally], Mapping[Figure, Floats]], *, draws: int, seed: int = 0
) -> dict[Figure, tuple[float, float]]:
    """Return the middle 95 % of each figure when the images are drawn anew, with replacement, `draws` times.

    A class that a draw lacks is not averaged in it, or, if it was found all the same, as 0.  Where many classes are
    rare, the draws' averages over classes therefore do not lie evenly around that of all images.
    """
    images = len(tallies)
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    spread: dict[Figure, tuple[float, float]] = {}
    for figure, values in figures_of(drawn(tallies, weights.astype(np.float64))).items():
        measured = values[~np.isnan(values)]
        low, high = np.percentile(measured, PERCENTILES) if len(measured) else (np.nan, np.nan)
        spread[figure] = float(low), float(high)
    return spread


def _labels(regions: Sequence[Region]) -> Ints:
    return np.array([region.label for region in regions], np.int64)


def _places(mapped: PanopticMap) -> Ints:
    """(H, W): the number of the region at each pixel, counted from 1; 0 is void."""
    numbers = {region.id: number for number, region in enumerate(mapped.regions, start=1)}
    identifiers, places = np.unique(mapped.ids, return_inverse=True)
    table = np.array([numbers.get(int(identifier), 0) for identifier in identifiers], np.int64)
    return table[places].reshape(mapped.ids.shape)


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=np.greater(whole, 0))
    return ratio


def _mean(values: Floats, chosen: Bools) -> Floats:
    return _ratio(np.where(chosen, values, 0).sum(-1), chosen.sum(-1, dtype=np.float64))
