"""The port between the pipeline and a model: prepare an image, segment a batch.  No torch here.

The segmenters of worker/engine implement it; tests implement it with fakes.
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
    """The canonical result: a label map and its segments.  Masks never overlap.

    label_map: (H, W), 0 = no segment, n = the segment with id n; uint8 up to 255 segments, uint16 above.
    segments: in the order of the reference pipeline; their ids count from 1 in that order.
    """

    label_map: LabelMap
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One preprocessed image.

    pixels: opaque to all but the segmenter (for Mask2Former a CPU tensor (3, h, w), float32).
    height, width: of the upright image in pixels; the label map has this size.
    """

    pixels: Any
    height: int
    width: int
    parameters: SegmentParameters


class Segmenter(Protocol):
    """A loaded model on a device."""

    model: str  # public id, such as facebook/mask2former-swin-large-coco-panoptic
    revision: str  # differs if the weights or their configuration differ
    device: str  # cpu or cuda:0

    def prepare(self, image: Image, parameters: SegmentParameters) -> Prepared:
        """Preprocess an upright RGB image.  Thread-safe; does not use the device.

        Raises:
            BadParameter: the model does not support the subtask.
        """

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        """Run one forward pass and post-process each image.  Called from one thread only.

        Returns one item per image, in the order of the batch.  An image that cannot be segmented yields an error
        (OutOfMemory, EngineFailed) instead; the other images are not affected.
        """

    def warm_up(self) -> None:
        """Run the initialization that would otherwise slow down the first batch."""
