"""Views of an image: fixed crops whose features the teachers compute, so that one image gives several samples."""

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image
from PIL.Image import Resampling, Transpose

# Sides of a crop relative to those of the image, and the factor by which its aspect ratio may change.
CROP_SCALE: Final = (0.45, 0.9)
ASPECT_FACTOR: Final = (0.85, 1.18)


@dataclass(frozen=True, slots=True)
class View:
    """A crop of an image, perhaps mirrored.  box: left, top, right, bottom in pixels."""

    box: tuple[float, float, float, float]
    is_mirrored: bool

    def crop(self, image: Image.Image, side: int, resampling: Resampling) -> Image.Image:
        """Cut the view out and resize it to a square of `side` pixels."""
        part = image.resize((side, side), resampling, box=self.box)
        return part.transpose(Transpose.FLIP_LEFT_RIGHT) if self.is_mirrored else part


def make_view(stem: str, size: tuple[int, int], number: int) -> View:
    """Return a view of an image: 0 is the whole image, 1 is mirrored, further ones are crops.

    A crop depends on file name, size and number only, so features that were computed earlier stay valid.

    Args:
        stem: file name of the image without its suffix.
        size: (width, height) of the image in pixels.
    """
    width, height = size
    if number <= 1:
        return View((0, 0, width, height), is_mirrored=number == 1)
    rng = np.random.default_rng([zlib.crc32(stem.encode()), number])
    side, stretch = rng.uniform(*CROP_SCALE), rng.uniform(*ASPECT_FACTOR)
    crop_width, crop_height = min(1, side * stretch) * width, min(1, side / stretch) * height
    left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
    return View((left, top, left + crop_width, top + crop_height), is_mirrored=bool(rng.random() < 0.5))
