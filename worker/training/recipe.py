"""Hyperparameters of the training of the embedded model."""

from dataclasses import dataclass
from itertools import accumulate
from math import cos, pi
from typing import Final


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training.

    side: of the images, in pixels.
    batch: images of a step, every view counted.
    share: of all steps.
    """

    side: int
    batch: int
    share: float

    @classmethod
    def parse(cls, text: str) -> "Stage":
        """Parse SIDExIMAGES:SHARE, the output of str()."""
        sizes, _, share = text.partition(":")
        side, _, batch = sizes.partition("x")
        return cls(int(side), int(batch), float(share))

    def __str__(self) -> str:
        return f"{self.side}x{self.batch}:{self.share}"


DEFAULT_STAGES: Final = (Stage(128, 32, 0.42), Stage(192, 16, 0.33), Stage(256, 8, 0.12), Stage(320, 6, 0.13))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters; each is an option of the command line.

    steps: number of batches.
    stages: large batches of small images first, since most is learned from those.
    rate: learning rate; it rises for `warmup` steps, then falls to 0 along a cosine.
    tuned_blocks: number of the backbone's last blocks that are trained, at `backbone_rate` times the rate; the others
        are frozen.
    anchoring: initial cost of a unit of distance between a region and its query's anchor; it falls linearly to 0 in
        the first `anchored_share` of the steps.
    mean_decay: of the moving average of the weights.
    paste: probability that things are pasted into an example.
    mosaic: probability that an example is a mosaic.
    cutout: probability that a pasted thing is a cut-out.
    views: variations of each example in a batch; they are matched together, and their results may not differ.
    mirror: probability that every view of a batch but the first is mirrored.  Then each is matched for itself, and only
        the classes that they show may not differ: which query shows a thing may depend on where it is.
    share: of the images with exhaustive ground truth in a batch.
    save_every: steps between checkpoints.
    """

    steps: int = 4200
    stages: tuple[Stage, ...] = DEFAULT_STAGES
    rate: float = 5e-4
    warmup: int = 100
    weight_decay: float = 0.05
    tuned_blocks: int = 6
    backbone_rate: float = 0.1
    anchoring: float = 8.0
    anchored_share: float = 1.0
    mean_decay: float = 0.998
    paste: float = 0.6
    mosaic: float = 0.3
    cutout: float = 0.3
    views: int = 1
    mirror: float = 0.5
    share: float = 0.15
    seed: int = 0
    save_every: int = 50

    def stage_at(self, step: int) -> Stage:
        """Return the stage of a step; the last one lasts to the end."""
        ends = accumulate(stage.share * self.steps for stage in self.stages)
        return next((stage for stage, end in zip(self.stages, ends, strict=True) if step < end), self.stages[-1])

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step as a share of `rate`."""
        return min(1.0, (step + 1) / self.warmup) * (1 + cos(pi * step / self.steps)) / 2

    def anchoring_at(self, step: int) -> float:
        return self.anchoring * max(0.0, 1 - step / max(1.0, self.anchored_share * self.steps))
