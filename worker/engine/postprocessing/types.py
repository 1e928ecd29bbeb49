"""Inputs and outputs of post-processing."""

from dataclasses import dataclass, field
from typing import Final

from torch import Tensor

from shared.jobs.parameters import SegmentParameters

# Memory for one image if no setting gives it; see Budget.
DEFAULT_BUDGET_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Logits:
    """The model's float32 output for one image.

    classes: (Q, C + 1), the last class is "no object".
    masks: (Q, h, w).
    """

    classes: Tensor
    masks: Tensor


@dataclass(frozen=True, slots=True)
class ScoredLabel:
    """The class of one segment and its score in [0, 1]; None for semantic segmentation, which has no scores."""

    label_id: int
    score: float | None


@dataclass(frozen=True, slots=True)
class LabelMapResult:
    """A label map on the device, and the class of each of its segments.

    label_map: (H, W), uint8 or int16; 0 = no segment, n = labels[n - 1].
    labels: a segment that others cover entirely is listed too.
    """

    label_map: Tensor
    labels: tuple[ScoredLabel, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """How the memory for one image is divided.

    Half is for strips: planes resized in width only, from which bands are cut.  A band is small enough for a cache and
    large enough to occupy all threads.  Planes that fit into a quarter at full size are resized without bands.
    """

    total_bytes: int = DEFAULT_BUDGET_BYTES

    @property
    def strip_bytes(self) -> int:
        return self.total_bytes // 2

    @property
    def direct_bytes(self) -> int:
        return self.total_bytes // 4

    @property
    def band_bytes(self) -> int:
        return self.total_bytes // 16


@dataclass(frozen=True, slots=True)
class PostprocessOptions:
    """How to post-process one image.

    size: (height, width) of the image, in pixels.
    parameters: thresholds and switches of the request.
    budget: memory for this image.
    stuff: label ids that `fuse_stuff` merges into one segment each.
    """

    size: tuple[int, int]
    parameters: SegmentParameters
    budget: Budget = field(default_factory=Budget)
    stuff: frozenset[int] = frozenset()
