"""How far a result depends on what should not matter: JPEG quality, a horizontal flip, and rescaling by 3 %."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling, Transpose
from scipy.optimize import linear_sum_assignment

from worker.segmenter import Segmentation

JPEG_QUALITIES: Final = (60, 75, 95)
SCALES: Final = (0.97, 1.03)
PERCENTILE: Final = 5
Segment = Callable[[Image.Image], Segmentation]


@dataclass(frozen=True, slots=True)
class Variant:
    """A changed image, and how its label map is put back on the image it was made from."""

    name: str
    image: Image.Image
    restore: Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result on a variant beside that on the image.

    agreement: share of equal pixels, see `agreement`.
    people: number of people in both results.
    """

    variant: str
    agreement: float
    people: tuple[int, int]


def compare_variants(image: Image.Image, segment: Segment, person: str = "person") -> list[Comparison]:
    """Segment an image and all of its variants."""
    result = segment(image)
    comparisons = []
    for variant in make_variants(image):
        other = segment(variant.image)
        restored = variant.restore(other.label_map)
        people = count_segments(result, person), count_segments(other, person)
        comparisons.append(Comparison(variant.name, agreement(result, other, restored), people))
    return comparisons


def make_variants(image: Image.Image) -> Iterator[Variant]:
    """Yield the variants of an RGB image."""
    for quality in JPEG_QUALITIES:
        yield Variant(f"jpeg {quality}", compress_jpeg(image, quality), lambda labels: labels)
    yield Variant("flip", image.transpose(Transpose.FLIP_LEFT_RIGHT), lambda labels: labels[:, ::-1])
    for scale in SCALES:
        size = round(image.width * scale), round(image.height * scale)
        yield Variant(
            f"scale {scale}",
            image.resize(size, Resampling.BICUBIC),
            lambda labels: np.asarray(Image.fromarray(labels).resize(image.size, Resampling.NEAREST)),
        )


def compress_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as opened:
        return opened.convert("RGB")


def agreement(one: Segmentation, other: Segmentation, labels: NDArray[Any]) -> float:
    """Return the share of pixels that have the same segment in two results, in [0, 1].

    Two segments are the same if they have one class, and are paired with each other: each segment has one partner at
    most, so that the sum of their intersections is the largest.  Pixels without a segment in both are equal.

    Args:
        labels: (H, W), the label map of `other`, put back on the image of `one`.
    """
    columns = len(other.segments) + 1
    pairs = one.label_map.astype(np.int64) * columns + labels
    shared = np.bincount(pairs.ravel(), minlength=(len(one.segments) + 1) * columns).reshape(-1, columns)
    classes, other_classes = (np.array([segment.label for segment in each.segments]) for each in (one, other))
    overlaps = shared[1:, 1:] * (classes[:, None] == other_classes) if classes.size and other_classes.size else None
    equal = int(shared[0, 0])
    if overlaps is not None:
        equal += int(overlaps[linear_sum_assignment(overlaps, maximize=True)].sum())
    return equal / labels.size


def count_segments(result: Segmentation, label: str) -> int:
    return sum(segment.label == label for segment in result.segments)


def summarize(by_image: Sequence[Sequence[Comparison]]) -> Mapping[str, Any]:
    """Return the figures of all images.

    `worst_5_percent` is the 5th percentile of the images, of the mean over the variants of each.  `same_people` is the
    share of variants with as many people as the image, among those where either has people.
    """
    means = [float(np.mean([one.agreement for one in comparisons])) for comparisons in by_image]
    everything = [one for comparisons in by_image for one in comparisons]
    peopled = [one for one in everything if any(one.people)]
    variants = dict.fromkeys(one.variant for one in everything)
    return {
        "images": len(by_image),
        "agreement": float(np.mean(means)),
        "worst_5_percent": float(np.percentile(means, PERCENTILE)),
        "by_variant": {
            name: float(np.mean([one.agreement for one in everything if one.variant == name])) for name in variants
        },
        "same_people": sum(one.people[0] == one.people[1] for one in peopled) / max(1, len(peopled)),
        "cases_with_people": len(peopled),
    }
