"""Parts of photos at which teachers look, so that one photo is several lessons."""

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image
from PIL.Image import Resampling, Transpose

# Parts of a photo: their sides against the photo's, and how much they may be out of proportion.
PART: Final = (0.45, 0.9)
STRETCH: Final = (0.85, 1.18)


@dataclass(frozen=True, slots=True)
class View:
    """A part of a photo, perhaps mirrored.  box: left, top, right, bottom in pixels."""

    box: tuple[float, float, float, float]
    is_mirrored: bool

    def of(self, image: Image.Image, side: int, resampling: Resampling) -> Image.Image:
        """Cut the part out as a square."""
        part = image.resize((side, side), resampling, box=self.box)
        return part.transpose(Transpose.FLIP_LEFT_RIGHT) if self.is_mirrored else part


def view_of(stem: str, size: tuple[int, int], number: int) -> View:
    """Return a view of a photo: 0 is all of it, 1 its mirror image, the others are parts drawn by name and number."""
    width, height = size
    if number <= 1:
        return View((0, 0, width, height), is_mirrored=number == 1)
    rng = np.random.default_rng([zlib.crc32(stem.encode()), number])
    side, stretch = rng.uniform(*PART), rng.uniform(*STRETCH)
    wide, high = min(1, side * stretch) * width, min(1, side / stretch) * height
    left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
    return View((left, top, left + wide, top + high), is_mirrored=bool(rng.random() < 0.5))
