"""The two photos that most files hold, small and with more than one segment each, and a third for previews.

Photos and sizes were chosen for the embedded model: noise of one in each value changes at most 1.5 % of the label map,
and wrong pixels, such as swapped channels or clamped values, more than 4 %.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.support import images

Samples = NDArray[np.uint8]


@cache
def portrait() -> Image.Image:
    """An admiral before a flag, RGB, 320 x 240."""
    return images.admiral().resize((320, 240), Image.Resampling.LANCZOS)


@cache
def grey_cat() -> Image.Image:
    """A cat's face, grey, 256 x 192, with the values 0 and 255."""
    grey = images.cat().convert("L").resize((256, 192), Image.Resampling.LANCZOS)
    return ImageOps.autocontrast(grey)


@cache
def preview() -> Image.Image:
    """Another photo than the other two, RGB, 80 x 60."""
    return ImageOps.flip(images.coffee()).resize((80, 60))


def portrait_samples() -> Samples:
    """Return (240, 320, 3)."""
    return np.asarray(portrait())


def cat_samples() -> Samples:
    """Return (192, 256)."""
    return np.asarray(grey_cat())


def grey_twin() -> Image.Image:
    """Return the cat as RGB."""
    return grey_cat().convert("RGB")


def reduced_cat(bits: int) -> Samples:
    """Return the cat in values of 0 to 2^bits - 1, (192, 256); for 1 to 8 bits."""
    return (cat_samples().astype(np.uint16) * ((1 << bits) - 1) // 255).astype(np.uint8)


def reduced_twin(bits: int) -> Image.Image:
    """Return the cat of so few bits as RGB."""
    grey = reduced_cat(bits).astype(np.uint16) * 255 // ((1 << bits) - 1)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


@cache
def palette_image(colours: int = 256) -> Image.Image:
    """The portrait with a palette of that many colours."""
    return portrait().quantize(colours, dither=Image.Dither.NONE)


def indexed_twin(colours: int = 256) -> Image.Image:
    return palette_image(colours).convert("RGB")


@cache
def scattered_alpha() -> Image.Image:
    """Values from 0 to 255 of every kind, L, 320 x 240: a half is transparent, a quarter opaque."""
    ramp = np.add.outer(np.arange(240), np.arange(320))
    return Image.fromarray(np.where(ramp % 80 < 40, 0, (ramp * 3 % 256).clip(0, 255)).astype(np.uint8))


def transparent_portrait() -> Image.Image:
    """The portrait with alpha, RGBA; its colours are kept where alpha is 0."""
    image = portrait().convert("RGBA")
    image.putalpha(scattered_alpha())
    return image


def deepen(samples: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return values of 8 bits as the same of 16."""
    return samples.astype(np.uint16) * 257


def add_noise(samples: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return values of 16 bits, none of which is exactly one of 8, and each nearest to that of `samples`."""
    noise = np.random.default_rng(1).integers(-120, 121, samples.shape)
    return (samples.astype(np.int32) * 257 + noise).clip(0, 65_535).astype(np.uint16)


def add_alpha(samples: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return (H, W, C + 1): the values with an alpha that is 0 in a half of the pixels."""
    cube = samples if samples.ndim == 3 else samples[..., None]
    alpha = np.asarray(scattered_alpha())[: cube.shape[0], : cube.shape[1], None]
    return np.concatenate([cube, deepen(alpha) if samples.dtype == np.uint16 else alpha], axis=2)
