"""Random draws of training examples: which scenes, which things are pasted into them, and mosaics of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.training.augmentation import Example, augment_crop, draw_crop, paste_things, tile_examples
from worker.training.coco_panoptic import ImageRecord, Scene

# Upper bound (exclusive) of the redraws that look for an image with a thing of the same class.
MAX_DRAWS: Final = 8
# (columns, rows) of a mosaic.
MOSAIC_LAYOUTS: Final = ((2, 1), (1, 2), (2, 2))
# The weight of an image is that of its rarest class: (images that show it) ** -RARITY_EXPONENT.  A class that fewer
# than MIN_CLASS_COUNT images show counts as if that many showed it.
RARITY_EXPONENT: Final = 0.5
MIN_CLASS_COUNT: Final = 4
# Multiplies the weight of an image that shows several things of one class.
SEVERAL_THINGS_FACTOR: Final = 3.0
# Range of the ratio of width to height of the image that a cut-out is thought to stand in.
CUTOUT_ASPECT: Final = (0.67, 1.5)


@dataclass(frozen=True, slots=True)
class ExampleSampler:
    """Draws examples at random.

    annotated: scenes with exhaustive ground truth.
    labelled: scenes with partial ground truth; may be empty.
    is_thing: (C,) bool.
    annotated_share: of the annotated scenes among those drawn.
    paste_probability: that things of another scene are pasted in.
    mosaic_probability: that an example is a mosaic of several scenes.
    cutouts: scenes of one thing whose surroundings are not annotated, to be pasted only; may be empty.
    cutout_probability: that the source of a paste is a cut-out.
    annotated_weights, labelled_weights: (N,) sampling probabilities of the scenes, summing to 1; None is uniform.
    """

    annotated: Sequence[Scene]
    labelled: Sequence[Scene]
    is_thing: NDArray[np.bool_]
    annotated_share: float = 0.5
    paste_probability: float = 0.4
    mosaic_probability: float = 0.3
    cutouts: Sequence[Scene] = ()
    cutout_probability: float = 0.3
    annotated_weights: NDArray[np.float64] | None = None
    labelled_weights: NDArray[np.float64] | None = None

    def draw_example(self, size: int, rng: np.random.Generator) -> Example:
        """Draw a square example.

        Args:
            size: its side in pixels, an even number.
        """
        if rng.random() >= self.mosaic_probability:
            return self.draw_tile(self.draw_scene(rng), (size, size), rng)
        columns, rows = MOSAIC_LAYOUTS[int(rng.integers(len(MOSAIC_LAYOUTS)))]
        sides = size // columns, size // rows
        scenes = [self.draw_scene(rng)]
        scenes += [self.draw_similar_scene(scenes[0], rng) for _ in range(columns * rows - 1)]
        return tile_examples([self.draw_tile(scene, sides, rng) for scene in scenes], columns, self.is_thing)

    def draw_tile(self, scene: Scene, sides: tuple[int, int], rng: np.random.Generator) -> Example:
        """Draw a crop of a scene, with probability `paste_probability` with things of another one."""
        target = draw_crop(scene, sides, rng)
        if rng.random() >= self.paste_probability:
            return target
        return paste_things(target, self.draw_source(scene, sides, rng), self.is_thing, rng)

    def draw_source(self, scene: Scene, sides: tuple[int, int], rng: np.random.Generator) -> Example:
        """Draw an example whose things are pasted into one of `scene`."""
        if len(self.cutouts) and rng.random() < self.cutout_probability:
            cutout = self.cutouts[int(rng.integers(len(self.cutouts)))]
            return augment_crop(cutout, widen_box(*cutout.image.size, rng.uniform(*CUTOUT_ASPECT)), sides, rng)
        other = self.draw_similar_scene(scene, rng)
        # The whole image: a crop would cut things into pieces.
        return augment_crop(other, (0, 0, *other.image.size), sides, rng)

    def draw_similar_scene(self, other: Scene, rng: np.random.Generator) -> Scene:
        """Draw a scene that probably shares a thing class with another one.

        A scene that shares none is redrawn, at most a random number of times below MAX_DRAWS.
        """
        scene = self.draw_scene(rng)
        for _ in range(int(rng.integers(MAX_DRAWS))):
            if self.thing_classes(scene) & self.thing_classes(other):
                break
            scene = self.draw_scene(rng)
        return scene

    def thing_classes(self, scene: Scene) -> set[int]:
        return {int(label) for label in scene.labels if label >= 0 and self.is_thing[label]}

    def draw_scene(self, rng: np.random.Generator) -> Scene:
        if rng.random() < self.annotated_share or not len(self.labelled):
            return self.annotated[int(rng.choice(len(self.annotated), p=self.annotated_weights))]
        return self.labelled[int(rng.choice(len(self.labelled), p=self.labelled_weights))]


def widen_box(width: int, height: int, aspect: float) -> tuple[int, int, int, int]:
    """Return the smallest box (left, top, right, bottom) around an image that has a ratio of width to height.

    Every example is square, so an image of one thing has to be widened first, or the thing would be stretched.
    """
    across, down = max(0, round(height * aspect) - width) // 2, max(0, round(width / aspect) - height) // 2
    return -across, -down, width + across, height + down


def mix_weights(
    groups: Sequence[Sequence[ImageRecord]], shares: Sequence[float], is_thing: NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """Return (N,) sampling probabilities of all images of the groups, of which each has its share.

    Args:
        shares: relative to each other.
        is_thing: (C,) bool.

    Returns:
        None where there are no images.
    """
    parts = [(sampling_weights(records, is_thing), share) for records, share in zip(groups, shares, strict=True)]
    weights = [weights * share for weights, share in parts if weights is not None]
    if not weights:
        return None
    joined = np.concatenate(weights)
    normalized: NDArray[np.float64] = joined / joined.sum()
    return normalized


def sampling_weights(records: Sequence[ImageRecord], is_thing: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Return (N,) sampling probabilities that favour rare classes and images with several things of one class.

    Args:
        is_thing: (C,) bool.

    Returns:
        None where there are no images.
    """
    if not records:
        return None
    counts = np.array([segment_counts(record, len(is_thing)) for record in records])  # (N, C)
    is_present = counts > 0
    rarity = np.maximum(is_present.sum(0), MIN_CLASS_COUNT) ** -RARITY_EXPONENT
    weights = np.maximum((is_present * rarity).max(1), len(records) ** -RARITY_EXPONENT)
    weights *= np.where((counts * is_thing > 1).any(1), SEVERAL_THINGS_FACTOR, 1)
    normalized: NDArray[np.float64] = weights / weights.sum()
    return normalized


def segment_counts(record: ImageRecord, classes: int) -> NDArray[np.int64]:
    """Return (C,) the number of segments of each class in an image, without crowds."""
    labels = [label for segment, label in record.labels.items() if label >= 0 and segment not in record.crowds]
    return np.bincount(labels, minlength=classes)
