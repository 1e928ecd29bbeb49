"""The port between the job's life and the model: prepare an image, segment a batch.  No torch here.

The engine files (mask2former.py, transformers_any.py) fill it; tests may fill it with a class of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters
from shared.jobs.result import Segment

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One canonical result: masks that never overlap.

    label_map: (H, W), 0 = nothing, n = the segment with id n; uint8 up to 255 segments, uint16 above.
    segments: in the order of the reference pipeline, which is the order of their ids from 1.
    """

    label_map: LabelMap
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image, ready for the device.

    pixels: the engine's own business (a CPU tensor (3, h, w) float32 for Mask2Former).
    height, width: pixels of the upright image; the label map has this size.
    """

    pixels: Any
    height: int
    width: int
    parameters: SegmentParameters


class Segmenter(Protocol):
    """A loaded model."""

    model: str  # the public model id, such as facebook/mask2former-swin-large-coco-panoptic
    revision: str  # changes whenever the weights or their configuration do
    device: str  # cpu, cuda:0

    def prepare(self, image: Image, parameters: SegmentParameters) -> Prepared:
        """Preprocess an upright RGB image.  Called from many job threads at once; touches no device.

        Raises:
            BadParameter: the model has no such subtask.
        """

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        """Run one forward pass and post-process each image.  Called from one thread only.

        Returns as many items as the batch has, in its order; an image that could not be segmented has its error in
        its place (OutOfMemory, EngineFailed) and does not harm the others.
        """

    def warm_up(self) -> None:
        """Do once what the first batch would otherwise pay for."""
