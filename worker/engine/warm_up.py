"""Blank images to warm a segmenter up with."""

from typing import Final

from PIL import Image

from shared.errors import MaskmillError, ModelUnusable
from shared.jobs.parameters import SegmentParameters
from worker.segmenter import Segmenter, prepare_image

WARM_UP_SIZE: Final = (640, 480)


def new_blank_image() -> Image.Image:
    return Image.new("RGB", WARM_UP_SIZE)


def segment_blank_image(segmenter: Segmenter, parameters: SegmentParameters) -> None:
    """Segment a blank image and discard the result.

    Raises:
        ModelUnusable: the model fails on it.
    """
    [result] = segmenter.segment([prepare_image(segmenter, new_blank_image(), parameters)])
    if isinstance(result, MaskmillError):
        raise ModelUnusable(f"{segmenter.model} fails on a blank image on {segmenter.device}: {result}") from result
