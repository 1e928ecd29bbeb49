"""Compare two segmentations of one image: their pixels and their segments."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from shared.jobs.result import Segment
from worker.segmenter import Segmentation

# Rounding may move a score across the threshold.  A segment whose score is this close to it may be in one result only.
SCORE_MARGIN: Final = 0.01
MIN_EQUAL_SHARE: Final = 0.999
# Key of pixels without a segment, and of pixels in segments close to the threshold.
NOTHING: Final = 0
UNDECIDED: Final = -1

# A segment by its label, and its number among the segments of this label.
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two ways to segment the same images agree.

    equal_share: the share of pixels, in [0, 1], that have the same label and segment; of the worst image.
    has_same_segments: whether all images have the same labels in the same order.
    """

    equal_share: float = 1.0
    has_same_segments: bool = True

    @property
    def is_sufficient(self) -> bool:
        """Whether one may stand for the other: at most one pixel in a thousand differs, and no segment."""
        return self.has_same_segments and self.equal_share >= MIN_EQUAL_SHARE

    @classmethod
    def merge(cls, parts: Iterable[Self]) -> Self:
        """Return the agreement of the worst of several images."""
        known = list(parts)
        return cls(min(one.equal_share for one in known), all(one.has_same_segments for one in known))


def compare_segmentations(ours: Segmentation, reference: Segmentation, *, threshold: float) -> Agreement:
    """Compare two results of one image.

    Args:
        threshold: the score that a segment needed.  A segment within SCORE_MARGIN of it is left out with its pixels.
    """
    clear = [list_clear_segments(one, threshold) for one in (ours, reference)]
    codes: dict[Key, int] = {}
    for segments in clear:
        for key in segments.values():
            codes.setdefault(key, len(codes) + 1)
    ours_keys, reference_keys = (
        encode_pixels(one, segments, codes) for one, segments in zip((ours, reference), clear, strict=True)
    )
    is_decided = (ours_keys != UNDECIDED) & (reference_keys != UNDECIDED)
    equal = (ours_keys == reference_keys)[is_decided]
    labels = [[label for label, _ in segments.values()] for segments in clear]
    return Agreement(float(equal.mean()) if equal.size else 1.0, labels[0] == labels[1])


def compare_labels(ours: Segmentation, reference: Segmentation) -> Agreement:
    """Compare only the label of each pixel: for semantic segmentation, where a class may consist of one pixel."""
    return Agreement(compare_segmentations(ours, reference, threshold=0.0).equal_share)


def list_clear_segments(result: Segmentation, threshold: float) -> dict[int, Key]:
    """Return the keys of the segments whose score is not close to the threshold, by segment id, in their order."""
    numbers: Counter[str] = Counter()
    keys = {}
    for segment in result.segments:
        if not is_close(segment, threshold):
            keys[segment.id] = segment.label, numbers[segment.label]
            numbers[segment.label] += 1
    return keys


def is_close(segment: Segment, threshold: float) -> bool:
    return segment.score is not None and abs(segment.score - threshold) < SCORE_MARGIN


def encode_pixels(result: Segmentation, clear: Mapping[int, Key], codes: Mapping[Key, int]) -> NDArray[Any]:
    """Return (H, W) int64: the code of each pixel's segment, NOTHING, or UNDECIDED."""
    by_id: Sequence[int] = [
        NOTHING,
        *(codes[clear[segment.id]] if segment.id in clear else UNDECIDED for segment in result.segments),
    ]
    return np.asarray(by_id)[result.label_map]
