"""The port between the pipeline and a model: resize an image, prepare it, segment a batch.  No torch here.

A host process resizes; the engine process, which has the model, prepares and segments.  The segmenters of worker/engine
implement the port; tests implement it with fakes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters
from shared.jobs.result import Segment
from shared.worker_registry import ModelFacts
from worker.recut.kept import KeepRule, KeptLogits, RecutModel

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
# A photo may be decoded at a fraction of its size down to this many times the sides of the model's input.
MIN_DECODE_SCALE: Final = 2


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The canonical result: a label map and its segments.  Masks never overlap.

    label_map: (H, W), 0 = no segment, n = the segment with id n; uint8 up to 255 segments, uint16 above.
    segments: in the order of the reference pipeline; their ids count from 1 in that order.
    kept: the logits for a recut, if the image was submitted with a rule for them.
    """

    label_map: LabelMap
    segments: tuple[Segment, ...]
    kept: KeptLogits | None = None


@dataclass(frozen=True, slots=True)
class Resize:
    """How images are resized for a model whose input has one size.

    width, height: of the model's input in pixels.
    resample: Pillow's filter, a value of PIL.Image.Resampling.
    """

    width: int
    height: int
    resample: int

    def apply(self, image: Image) -> Image:
        """Return an RGB image at the size of the model's input."""
        return image.resize((self.width, self.height), Resampling(self.resample))


@dataclass(frozen=True, slots=True)
class ModelImage:
    """One image as it is submitted to a model.

    pixels: (h, w, 3) uint8 RGB; at the size of the model's input, or upright and at its own size without a Resize.
    height, width: of the upright image in pixels; the label map has this size.
    keep: which logits are returned beside the segmentation; None: none.
    """

    pixels: NDArray[np.uint8]
    height: int
    width: int
    parameters: SegmentParameters
    keep: KeepRule | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """One preprocessed image.

    pixels: opaque to all but the segmenter (for Mask2Former a CPU tensor: (h, w, 3) uint8, or (3, h, w) float32).
    height, width: of the upright image in pixels; the label map has this size.
    keep: as in ModelImage.
    """

    pixels: Any
    height: int
    width: int
    parameters: SegmentParameters
    keep: KeepRule | None = None


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """How a segmenter computes, and how far that agrees with the reference on the engine's own photos.

    agreement: the share of pixels, in [0, 1], that the fast path labels as the exact forward pass; None: not measured.
    can_scale_decode: whether a JPEG may be decoded at a fraction of its size, down to MIN_DECODE_SCALE times the input.
    scaled_agreement: the share of pixels, in [0, 1], that such a decode leaves as they are; None: not measured.
    dtype: in which it multiplies.
    """

    kind: Literal["exact", "fast"] = "exact"
    agreement: float | None = None
    can_scale_decode: bool = False
    scaled_agreement: float | None = None
    dtype: str = "float32"


class Segmenter(Protocol):
    """A loaded model on a device."""

    facts: ModelFacts

    model: str  # public id, such as facebook/mask2former-swin-large-coco-panoptic
    revision: str  # differs if the weights or their configuration differ
    device: str  # cpu or cuda:0
    resize: Resize | None  # None: the model prepares images of any size itself
    forward_pass: ForwardPass
    recut_model: RecutModel | None  # None: it keeps no logits under any rule

    def prepare(self, image: ModelImage) -> Prepared:
        """Preprocess an image, which must stay unchanged until it is segmented.  Thread-safe; does not use the device.

        Raises:
            BadParameter: the model does not support the subtask.
        """

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        """Segment each image, in one forward pass or in several.  Called from one thread only.

        Returns one item per image, in the order of the batch.  An image that cannot be segmented yields an error
        (OutOfMemory, EngineFailed) instead; the other images are not affected.
        """

    def warm_up(self) -> None:
        """Run the initialization that would otherwise slow down the first batch."""


def prepare_image(segmenter: Segmenter, image: Image, parameters: SegmentParameters) -> Prepared:
    """Resize and prepare an upright RGB image in one process, as host and engine do together.

    Raises:
        BadParameter: the model does not support the subtask.
    """
    resized = segmenter.resize.apply(image) if segmenter.resize else image
    return segmenter.prepare(ModelImage(np.array(resized), image.height, image.width, parameters))
