"""Grey samples of any type, scaled to 8 bits.

Pillow's own conversion cuts off what is above 255, so that an image of 16 bits is white.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, fromarray, new
from PIL.ImageFile import ImageFile

from shared.images.samples import Samples
from shared.images.tiff_file import TiffFile

_BAND_PIXELS = 1 << 16  # scaled at a time
_LEVELS = 256
_FLOAT_MAX = np.finfo(np.float32).max
# What Pillow's modes hold, unless a file says more.
_SAMPLES = {"I;16": Samples("u", 16), "I;16B": Samples("u", 16), "I": Samples("i", 32), "F": Samples("f", 32)}


def find_samples(image: ImageFile) -> Samples | None:
    """Return how the samples of an image that is not loaded yet are to be scaled; None if they have 8 bits."""
    return image.samples if isinstance(image, TiffFile) else _SAMPLES.get(image.mode)


def scale_to_8_bits(pixels: Image, samples: Samples) -> Image:
    """Return the brightness of an image as mode L, and close the image.

    Which samples are black and white: those that the file declares, if none is outside of them; else of integers the
    first and the last of their bits, and of floating point 0 and 1, or the lowest and the highest sample if one is
    outside of 0 to 1.  Of 8 bits are also taken samples of more than 16 bits, and signed ones, if none needs more, and
    those of more than 16 of 16 or else of the least bits that hold all, because no camera has so many: they are numbers
    of fewer bits in a wide type, such as sums and counts.  Signed integers are taken without sign if none is negative.

    Rounding: integers are divided into 256 ranges of equal length, so that of n bits the first 8 are kept, and an image
    of 8 bits that was multiplied by 257, or shifted by 8, gives the same pixels; floating point is rounded to the
    nearest of 256 levels.  NaN and negative infinity are black, positive infinity is white.

    Samples without data are as NaN: those that the file declares to be so, and of floating point the lowest and the
    highest number of single precision, which programs write for it.
    """
    low, high = _find_limits(pixels, samples)
    scaled = new("L", pixels.size)
    for top, band in _iterate_bands(pixels, samples):
        levels = _scale_floats(band, low, high) if samples.kind == "f" else _scale_integers(band, int(low), int(high))
        missing = _find_missing(band, samples)
        if missing is not None:
            levels[missing] = 0
        if samples.is_inverted:
            np.subtract(255, levels, out=levels)
        scaled.paste(fromarray(levels), (0, top))
    pixels.close()
    return scaled


def _iterate_bands(pixels: Image, samples: Samples) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first row and the samples of bands of rows, of the type that the file has."""
    width, height = pixels.size
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = np.asarray(pixels.crop((0, top, width, min(height, top + rows))))
        if pixels.mode != "F" and samples.per_pixel == 1:
            byte_order = band.dtype.byteorder.replace("|", "=")
            band = band.view(f"{byte_order}{samples.kind}{band.itemsize}")
        elif samples.per_pixel > 1:
            band = band.view(f"{samples.kind}{samples.bits // 8}")[:, :: samples.per_pixel]
        yield top, band


def _find_limits(pixels: Image, samples: Samples) -> tuple[float, float]:
    """Return the samples that are black and white."""
    if samples.kind == "u" and samples.bits <= 16 and (samples.low, samples.high) == (None, None):
        return 0, 2**samples.bits - 1  # without a look at all pixels
    lowest, highest = _find_extremes(pixels, samples)
    black, white = (0.0, 1.0) if samples.kind == "f" else _find_depth(samples, int(lowest), int(highest))
    low, high = _get_declared(samples, black, white)
    if _can_be_limits(samples, low, high) and low <= lowest and highest <= high:
        return low, high  # else the declaration is wrong
    is_inside = black <= lowest and highest <= white
    return (black, white) if is_inside else (lowest, highest)


def _get_declared(samples: Samples, black: float, white: float) -> tuple[float, float]:
    """Return the limits that the file declares; in place of one that it does not declare, black or white."""
    return black if samples.low is None else samples.low, white if samples.high is None else samples.high


def _can_be_limits(samples: Samples, low: float, high: float) -> bool:
    """Return whether two declared samples are numbers of the type, in order; NaN is none."""
    bound = np.finfo(np.float64).max if samples.kind == "f" else 2**samples.bits
    return bool(-bound <= low < high <= bound)


def _find_extremes(pixels: Image, samples: Samples) -> tuple[float, float]:
    """Return the lowest and the highest sample that is a number; (0, 0) if none is."""
    lowest, highest = np.inf, -np.inf
    for _, band in _iterate_bands(pixels, samples):
        missing = _find_missing(band, samples)
        known = band if missing is None else band[~(missing | np.isinf(band))]
        if known.size:
            lowest, highest = min(lowest, float(known.min())), max(highest, float(known.max()))
    return (lowest, highest) if lowest <= highest else (0, 0)


def _find_missing(band: NDArray[Any], samples: Samples) -> NDArray[np.bool_] | None:
    """Return which samples of a band have no data, or are NaN; None if none can be so."""
    if samples.kind != "f":
        return None if samples.no_data is None else np.equal(band, samples.no_data)
    missing: NDArray[np.bool_] = np.isnan(band)
    if band.dtype != np.float16:
        missing |= np.abs(band) == _FLOAT_MAX
    if samples.no_data is not None:
        with np.errstate(over="ignore"):  # a double that no sample can be is infinite
            missing |= band == band.dtype.type(samples.no_data)
    return missing


def _find_depth(samples: Samples, lowest: int, highest: int) -> tuple[int, int]:
    """Return the first and the last number of the least bits that hold an image's samples: 8, 16 or more."""
    if samples.kind == "u" and samples.bits <= 16:
        return 0, 2**samples.bits - 1
    depths = [bits for bits in (8, *range(16, samples.bits + 1)) if bits <= samples.bits]
    if lowest < 0:
        ranges = [(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in depths]
    else:
        is_signed = samples.kind == "i"
        ranges = [(0, 2 ** (bits - (is_signed and bits == samples.bits)) - 1) for bits in depths]
    return next(pair for pair in ranges if pair[0] <= lowest and highest <= pair[1])


def _scale_integers(band: NDArray[Any], low: int, high: int) -> NDArray[np.uint8]:
    span = high - low + 1
    if low == 0 and span >= _LEVELS and span.bit_count() == 1:
        return (band >> (span.bit_length() - _LEVELS.bit_length())).astype(np.uint8)
    return ((band.astype(np.int64) - low) * _LEVELS // span).astype(np.uint8)


def _scale_floats(band: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if low == high:
        return np.zeros(band.shape, np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        levels = (band.astype(np.float64) - low) / (high - low) * (_LEVELS - 1)
    levels = np.nan_to_num(levels, copy=False, nan=0.0, posinf=_LEVELS - 1, neginf=0.0)
    return np.rint(levels).clip(0, _LEVELS - 1).astype(np.uint8)
