"""Things of a class, one by one: how many are matched, how many segments are wrong, and which come in pieces.

Arrays only: no files, no model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

import numpy as np

from tests.evaluation.quality import PanopticMap, Tally, intersections

# The 97.5 % quantile of the normal distribution.
QUANTILE: Final = 1.96
# A person is found if segments of people cover at least this share of it, and is whole if one of them has at least the
# other share of what they cover.
MIN_COVERED: Final = 0.5
MIN_WHOLE: Final = 0.8


@dataclass(frozen=True, slots=True)
class Matches:
    """Counts of things over all images.

    things: those large enough.
    matched: things that match a segment of their class.
    wrong: segments that neither match a thing nor lie on smaller things.
    """

    things: int
    matched: int
    wrong: int

    @property
    def share(self) -> float:
        return self.matched / self.things if self.things else float("nan")

    @property
    def wrong_per_match(self) -> float:
        return self.wrong / self.matched if self.matched else float("inf")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Counts of things over all images.

    things: those large enough.
    found: things that segments of their class cover by half.
    whole: those of them of which one segment has nearly all that is covered.
    """

    things: int
    found: int
    whole: int

    @property
    def share(self) -> float:
        return self.whole / self.found if self.found else float("nan")


def mark_small_as_crowd(truth: PanopticMap, labels: Iterable[int], min_share: float) -> PanopticMap:
    """Mark the things of some classes below a share of the image as crowds, which are neither found nor missed."""
    chosen = frozenset(labels)
    regions = tuple(
        replace(one, is_crowd=True) if one.label in chosen and (truth.ids == one.id).mean() < min_share else one
        for one in truth.regions
    )
    return PanopticMap(truth.ids, regions)


def count_matches(tallies: Iterable[Tally], labels: Sequence[int]) -> Matches:
    """Sum the counts of some classes over the images."""
    rows = [[counts[list(labels)].sum() for counts in (one.hits, one.missed, one.wrong)] for one in tallies]
    hits, missed, wrong = (int(sum(column)) for column in zip(*rows, strict=True)) if rows else (0, 0, 0)
    return Matches(hits + missed, hits, wrong)


def count_pieces(truth: PanopticMap, found: PanopticMap, label: int, min_share: float) -> Pieces:
    """Count the things of one class in one image of which one segment shows nearly all that segments show."""
    shared = intersections(truth, found)[1:]
    is_segment = np.array([region.label == label for region in found.regions], np.bool_)
    covered = shared[:, 1:][:, is_segment]  # (T, segments of the class)
    areas = shared.sum(1)
    is_large = np.array([one.label == label and not one.is_crowd for one in truth.regions], np.bool_)
    is_large &= areas >= min_share * truth.ids.size
    total, largest = covered.sum(1), covered.max(1, initial=0)
    is_found = is_large & (total >= MIN_COVERED * areas)
    is_whole = is_found & (largest >= MIN_WHOLE * total)
    return Pieces(int(is_large.sum()), int(is_found.sum()), int(is_whole.sum()))


def sum_pieces(counts: Sequence[Pieces]) -> Pieces:
    return Pieces(sum(one.things for one in counts), sum(one.found for one in counts), sum(one.whole for one in counts))


def share_interval(part: int, whole: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927), [0, 1] if there is nothing to count."""
    if not whole:
        return 0.0, 1.0
    share, spread = part / whole, QUANTILE**2 / whole
    centre = (share + spread / 2) / (1 + spread)
    half = QUANTILE * sqrt(share * (1 - share) / whole + spread / (4 * whole)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
