"""Variations of an example's pixels that leave its ground truth as it is: JPEG compression, rescaling, brightness.

A network is trained on several variations of one example at once, so that its result depends on them less.
"""

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from PIL.Image import Resampling

# Ranges of the JPEG quality, of the factor of both sides at which the image is compressed, and of that of brightness.
JPEG_QUALITY: Final = (50, 95)
SCALE: Final = (0.7, 1.5)
BRIGHTNESS: Final = (0.92, 1.08)
JPEG_PROBABILITY: Final = 0.8
SCALE_PROBABILITY: Final = 0.7
FILTERS: Final = (Resampling.BILINEAR, Resampling.BICUBIC, Resampling.BOX)


def vary_pixels(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a variation of (H, W, 3) uint8 of the same size, every region in its place."""
    image = Image.fromarray(pixels)
    size = image.size
    if rng.random() < SCALE_PROBABILITY:
        factor = rng.uniform(*SCALE)
        image = image.resize((round(size[0] * factor), round(size[1] * factor)), draw_filter(rng))
    if rng.random() < JPEG_PROBABILITY:
        image = compress_jpeg(image, int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)))
    if image.size != size:
        image = image.resize(size, draw_filter(rng))
    return np.asarray(ImageEnhance.Brightness(image).enhance(rng.uniform(*BRIGHTNESS)))


def draw_filter(rng: np.random.Generator) -> Resampling:
    return FILTERS[int(rng.integers(len(FILTERS)))]


def compress_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Return an RGB image as a JPEG of some quality shows it."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as opened:
        return opened.convert("RGB")
