"""The cost of a batch: how long the device needs for it, learned from the batches that it has run.

Pure: values and functions, no clock and no device.  The model is linear, seconds = fixed + a * images + b * megapixels,
with coefficients that are never negative.  A Kalman filter estimates them: its state are the coefficients, and they
drift.  Most of the drift is common to all three, because what changes is the speed of the device (contention, clock
rate), so a sample of one size corrects the estimate for all sizes.  The covariance says which sizes are known: it
limits how fast batches grow, and tells when a size should be tried again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

PIXELS_PER_MEGAPIXEL = 1e6
# Standard deviations, as shares of the seconds that a batch takes: of one sample, as long as it is not known, at least
# and at most; and of the drift from one batch to the next, of all coefficients together and of each alone.
INITIAL_NOISE = 0.2
MIN_NOISE = 0.03
MAX_NOISE = 0.3
NOISE_GAIN = 0.05
LEVEL_DRIFT = 0.05
PART_DRIFT = 0.003
# A sample may be slow by accident (page faults, a busy host), but not fast.  Slower ones count as this many standard
# deviations slower; if the device has really become so slow, the next samples say so too.
MAX_DEVIATIONS = 3.0
# How the seconds of the first sample are split among fixed part, images and megapixels, and the standard deviation of
# each; one sample tells no more than their sum.  Later, a part is never less certain than MAX_DEVIATION of a batch.
INITIAL_SHARES = (0.5, 0.45, 0.05)
INITIAL_DEVIATIONS = (0.5, 0.45, 0.2)
MAX_DEVIATION = 0.5
# Small images say nothing of the cost of a megapixel, and a division by their size would give a huge one.
MIN_MEGAPIXELS = 0.25
MIN_SECONDS = 1e-6
TINY = 1e-30

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
AXES: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
ZERO: Matrix = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class BatchCost:
    """An estimate of the seconds that a batch takes.

    parts: seconds of a batch as such, of each image and of each megapixel (at the images' own sizes).
    covariance: of the parts, in seconds squared.
    noise: the standard deviation of one batch from the estimate, as a share of its duration.
    samples: the number of batches it was learned from; without any, nothing is known.
    """

    parts: Vector
    covariance: Matrix = ZERO
    noise: float = INITIAL_NOISE
    samples: int = 1

    @property
    def fixed_seconds(self) -> float:
        """The part that does not depend on the images; the larger it is, the more do larger batches gain."""
        return self.parts[0]

    def seconds(self, images: int, pixels: int) -> float:
        """Return the expected duration of a batch; `pixels` is the sum over its images."""
        fixed, image, megapixel = self.parts
        return fixed + image * images + megapixel * (pixels / PIXELS_PER_MEGAPIXEL)

    def deviation_seconds(self, images: int, pixels: int) -> float:
        """Return the standard deviation of the expected duration, without the noise of a single batch."""
        if not self.samples:
            return math.inf
        # Written out, because a plan asks for it once for each image of a batch.
        (a, ab, ac), (_, b, bc), (_, _, c) = self.covariance
        megapixels = pixels / PIXELS_PER_MEGAPIXEL
        variance = a + images * (2 * ab + b * images) + megapixels * (2 * (ac + bc * images) + c * megapixels)
        return math.sqrt(max(0.0, variance))

    @property
    def fixed_deviation_seconds(self) -> float:
        """The standard deviation of `fixed_seconds`."""
        return math.sqrt(max(0.0, self.covariance[0][0])) if self.samples else math.inf


UNKNOWN_COST = BatchCost((0.0, 0.0, 0.0), samples=0)


def update_cost(cost: BatchCost, *, images: int, pixels: int, seconds: float) -> BatchCost:
    """Return the estimate after one more batch.

    Args:
        images, pixels: of the batch; pixels are summed.
        seconds: that the device needed for it.
    """
    features = _features(images, pixels)
    seconds = max(seconds, MIN_SECONDS)
    drifted = _add_drift(cost, features) if cost.samples else _split_first_sample(features, seconds)
    expected = max(_dot(drifted.parts, features), MIN_SECONDS)
    spread = _multiply(drifted.covariance, features)
    variance = max(0.0, _dot(spread, features))
    deviation = math.sqrt(variance + (drifted.noise * expected) ** 2)
    measured = min(seconds, expected + MAX_DEVIATIONS * deviation)
    # The geometric mean of both durations follows a device that has become much faster at once.
    gain = _scale(spread, 1 / (variance + drifted.noise**2 * measured * expected))
    parts = _add(drifted.parts, _scale(gain, measured - expected))
    covariance = _add_outer(drifted.covariance, spread, gain, -1.0)
    parts = _exclude_negative(parts, covariance)
    typical = _typical_parts(features, max(_dot(parts, features), MIN_SECONDS))
    noise = _learn_noise(drifted.noise, min(expected - measured, MAX_DEVIATIONS * deviation) / expected)
    return BatchCost(parts, _limit_deviations(covariance, typical), noise, cost.samples + 1)


class LearnedCost:
    """The estimate for one model on one device; the scheduler reports each batch to it."""

    def __init__(self) -> None:
        self._cost = UNKNOWN_COST

    @property
    def estimate(self) -> BatchCost:
        """The estimate after all batches so far."""
        return self._cost

    def observe(self, *, images: int, pixels: int, seconds: float) -> None:
        """Learn from a batch that the device has completed."""
        self._cost = update_cost(self._cost, images=images, pixels=pixels, seconds=seconds)


def _features(images: int, pixels: int) -> Vector:
    return 1.0, float(images), pixels / PIXELS_PER_MEGAPIXEL


def _typical_parts(features: Vector, seconds: float) -> Vector:
    """Return for each part its value if the batch cost nothing else."""
    _, images, megapixels = features
    return seconds, seconds / images, seconds / max(megapixels, MIN_MEGAPIXELS)


def _split_first_sample(features: Vector, seconds: float) -> BatchCost:
    typical = _typical_parts(features, seconds)
    fixed, image, megapixel = (share * part for share, part in zip(INITIAL_SHARES, typical, strict=True))
    a, b, c = ((deviation * part) ** 2 for deviation, part in zip(INITIAL_DEVIATIONS, typical, strict=True))
    return BatchCost((fixed, image, megapixel), ((a, 0.0, 0.0), (0.0, b, 0.0), (0.0, 0.0, c)))


def _add_drift(cost: BatchCost, features: Vector) -> BatchCost:
    """Add the drift since the last batch to the covariance."""
    typical = _typical_parts(features, _dot(cost.parts, features))
    covariance = _add_outer(cost.covariance, cost.parts, cost.parts, LEVEL_DRIFT**2)
    for index, part in enumerate(typical):
        unit = AXES[index]
        covariance = _add_outer(covariance, unit, unit, (PART_DRIFT * part) ** 2)
    return replace(cost, covariance=covariance)


def _learn_noise(noise: float, error: float) -> float:
    learned = math.sqrt(noise**2 + NOISE_GAIN * (error**2 - noise**2))
    return min(max(learned, MIN_NOISE), MAX_NOISE)


def _limit_deviations(covariance: Matrix, typical: Vector) -> Matrix:
    """Scale a covariance down so that no part is more uncertain than it can be, given the seconds of one batch.

    Otherwise the covariance of a slow first batch would make all sizes uncertain for long.
    """
    limits = [MAX_DEVIATION * part for part in typical]
    factors = [
        min(1.0, limit / math.sqrt(max(row[index], TINY)))
        for index, (limit, row) in enumerate(zip(limits, covariance, strict=True))
    ]
    first, second, third = (
        (factor * row[0] * factors[0], factor * row[1] * factors[1], factor * row[2] * factors[2])
        for factor, row in zip(factors, covariance, strict=True)
    )
    return first, second, third


def _exclude_negative(parts: Vector, covariance: Matrix) -> Vector:
    """Return the most likely parts of which none is negative: those of the estimate that become 0 change the others."""
    for _ in parts:
        index = min(range(3), key=lambda number: parts[number])
        if parts[index] >= 0:
            break
        parts = _add(parts, _scale(covariance[index], -parts[index] / max(covariance[index][index], TINY)))
    first, second, third = (max(0.0, part) for part in parts)
    return first, second, third


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _add(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _scale(vector: Vector, factor: float) -> Vector:
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def _multiply(matrix: Matrix, vector: Vector) -> Vector:
    return _dot(matrix[0], vector), _dot(matrix[1], vector), _dot(matrix[2], vector)


def _add_outer(matrix: Matrix, a: Vector, b: Vector, factor: float) -> Matrix:
    """Return matrix + factor * a b^T."""
    first, second, third = (_add(row, _scale(b, factor * a[index])) for index, row in enumerate(matrix))
    return first, second, third
