"""Training examples: random crops of annotated images with colour jitter, copy-paste of things, and mosaics.

Copy-paste is that of Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
2021; the mosaic is that of Bochkovskiy et al., "YOLOv4", 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from PIL.Image import Resampling, Transpose
from scipy.ndimage import find_objects

from worker.training.coco_panoptic import ImageRecord, Scene

# Sides of a crop relative to those of the image; above 1 the image is padded.
CROP_SCALE: Final = (0.45, 1.0)
ZOOM_OUT_SCALE: Final = (1.0, 1.6)
ZOOM_OUT_PROBABILITY: Final = 0.2
WHOLE_IMAGE_PROBABILITY: Final = 0.3
# Range of the factors of brightness, contrast and saturation.
COLOUR_FACTOR: Final = (0.65, 1.4)
GREY_PROBABILITY: Final = 0.04
PADDING_COLOUR: Final = (124, 116, 104)
# Only things whose share of the example lies in this range are pasted.
PASTE_AREA: Final = (0.004, 0.6)
MAX_PASTED: Final = 3
MIN_PASTE_CONFIDENCE: Final = 0.5
# Range of the factor by which a pasted thing is resized.
PASTE_SCALE: Final = (0.5, 1.25)
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


@dataclass(frozen=True, slots=True)
class Example:
    """One input of the network with its ground truth; the arrays are described in Scene.

    pixels: (H, W, 3) uint8, RGB.
    regions: (H, W) int16, index of the region at each pixel.
    labels: (R,) int16.
    is_crowd: (R,) bool.
    is_exhaustive: (C,) bool.
    confidence: (H, W) uint8.
    """

    pixels: NDArray[np.uint8]
    regions: NDArray[np.int16]
    labels: NDArray[np.int16]
    is_crowd: NDArray[np.bool_]
    is_exhaustive: NDArray[np.bool_]
    confidence: NDArray[np.uint8]


def draw_crop(scene: Scene, sides: tuple[int, int], rng: np.random.Generator) -> Example:
    """Crop a scene at random, then augment the crop as `augment_crop` does.

    Args:
        sides: (width, height) of the example in pixels.
    """
    return augment_crop(scene, draw_crop_box(*scene.image.size, rng), sides, rng)


def augment_crop(
    scene: Scene, box: tuple[int, int, int, int], sides: tuple[int, int], rng: np.random.Generator
) -> Example:
    """Resize a crop to `sides` (width, height), flip it horizontally at random and jitter its colours."""
    image, regions, confidence = crop_scene(scene, box, sides)
    if rng.random() < 0.5:
        image, regions, confidence = (
            layer.transpose(Transpose.FLIP_LEFT_RIGHT) for layer in (image, regions, confidence)
        )
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(*COLOUR_FACTOR))
    if rng.random() < GREY_PROBABILITY:
        image = image.convert("L").convert("RGB")
    return Example(
        pixels=np.asarray(image),
        regions=np.asarray(regions).astype(np.int16),
        labels=scene.labels,
        is_crowd=scene.is_crowd,
        is_exhaustive=scene.is_exhaustive,
        confidence=np.asarray(confidence),
    )


def draw_crop_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in pixels; the box may reach beyond the image."""
    chance = rng.random()
    if chance < WHOLE_IMAGE_PROBABILITY:
        return 0, 0, width, height
    scale = ZOOM_OUT_SCALE if chance < WHOLE_IMAGE_PROBABILITY + ZOOM_OUT_PROBABILITY else CROP_SCALE
    crop_width, crop_height = round(width * rng.uniform(*scale)), round(height * rng.uniform(*scale))
    left, top = (int(rng.integers(min(0, gap), max(0, gap) + 1)) for gap in (width - crop_width, height - crop_height))
    return left, top, left + crop_width, top + crop_height


def crop_scene(
    scene: Scene, box: tuple[int, int, int, int], sides: tuple[int, int]
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Crop and resize the image, the regions and the confidence of a scene.

    Outside of the image the padding is void: region 0 with confidence 0.

    Args:
        box: left, top, right, bottom in pixels.
        sides: (width, height) of the results.

    Returns:
        the image (mode RGB), the regions (I) and the confidence (L).
    """
    layers = scene.image, Image.fromarray(scene.regions.astype(np.int32)), Image.fromarray(scene.confidence)
    if box[0] < 0 or box[1] < 0 or box[2] > scene.image.width or box[3] > scene.image.height:
        size = box[2] - box[0], box[3] - box[1]
        canvases = Image.new("RGB", size, PADDING_COLOUR), Image.new("I", size, 0), Image.new("L", size, 0)
        for canvas, layer in zip(canvases, layers, strict=True):
            canvas.paste(layer, (-box[0], -box[1]))
        layers, box = canvases, (0, 0, *size)
    filters = Resampling.BILINEAR, Resampling.NEAREST, Resampling.BILINEAR
    image, regions, confidence = (
        layer.resize(sides, resampling, box=box) for layer, resampling in zip(layers, filters, strict=True)
    )
    return image, regions, confidence


def paste_things(target: Example, source: Example, is_thing: NDArray[np.bool_], rng: np.random.Generator) -> Example:
    """Paste up to MAX_PASTED things of one example into another, at random places and scales.

    Args:
        is_thing: (C,) bool, the classes that may be pasted.

    Returns:
        a copy of the target, or the target itself where the source has nothing to paste.
    """
    chosen = pasteable_regions(source, is_thing)
    rng.shuffle(chosen)
    chosen = chosen[: rng.integers(1, MAX_PASTED + 1)]
    if not len(chosen):
        return target
    pixels, regions, confidence = target.pixels.copy(), target.regions.copy(), target.confidence.copy()
    for number, region in enumerate(chosen, start=len(target.labels)):
        thing = cut_out_region(source, region, rng)
        height, width = thing.mask.shape
        top, left = (int(rng.integers(gap + 1)) for gap in np.subtract(regions.shape, thing.mask.shape))
        window = slice(top, top + height), slice(left, left + width)
        pixels[window][thing.mask] = thing.pixels[thing.mask]
        regions[window][thing.mask] = number
        confidence[window][thing.mask] = thing.confidence[thing.mask]
    return replace(
        target,
        pixels=pixels,
        regions=regions,
        confidence=confidence,
        labels=np.concatenate([target.labels, source.labels[chosen]]),
        is_crowd=np.concatenate([target.is_crowd, np.zeros(len(chosen), np.bool_)]),
    )


@dataclass(frozen=True, slots=True)
class Cutout:
    """One thing in its bounding box.  pixels: (h, w, 3) uint8, mask: (h, w) bool, confidence: (h, w) uint8."""

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    confidence: NDArray[np.uint8]


def cut_out_region(source: Example, region: int, rng: np.random.Generator) -> Cutout:
    """Cut one region out and resize it at random, at most to the sides of the example."""
    mask = source.regions == region
    [window] = find_objects(mask.astype(np.uint8))
    height, width = mask[window].shape
    factor = min(rng.uniform(*PASTE_SCALE), mask.shape[0] / height, mask.shape[1] / width)
    sides = max(1, round(width * factor)), max(1, round(height * factor))
    pixels, inside, confidence = (
        np.asarray(Image.fromarray(np.ascontiguousarray(layer[window])).resize(sides, resampling))
        for layer, resampling in (
            (source.pixels, Resampling.BILINEAR),
            (mask, Resampling.NEAREST),
            (source.confidence, Resampling.BILINEAR),
        )
    )
    return Cutout(pixels, inside, confidence)


def pasteable_regions(source: Example, is_thing: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the indices of the regions that are one confident thing, neither tiny nor nearly the whole example."""
    flat, count = source.regions.ravel(), len(source.labels)
    areas = np.bincount(flat, minlength=count)
    confidence = np.bincount(flat, source.confidence.ravel() / 255, minlength=count) / np.maximum(areas, 1)
    shares = areas / len(flat)
    is_candidate = (source.labels >= 0) & is_thing[np.maximum(source.labels, 0)] & ~source.is_crowd
    is_fitting = (shares >= PASTE_AREA[0]) & (shares <= PASTE_AREA[1])
    return np.flatnonzero(is_candidate & is_fitting & (confidence >= MIN_PASTE_CONFIDENCE))


def tile_examples(tiles: Sequence[Example], columns: int, is_thing: NDArray[np.bool_]) -> Example:
    """Join examples into a mosaic; stuff of one class becomes one region, things stay separate.

    Args:
        tiles: in reading order, all of the same sides.
        is_thing: (C,) bool.
    """
    firsts = np.cumsum([0, *(len(tile.labels) for tile in tiles[:-1])])
    labels = np.concatenate([tile.labels for tile in tiles])
    merged = np.arange(len(labels))
    for label in np.unique(labels):
        if label < 0 or not is_thing[label]:
            merged[labels == label] = merged[labels == label][0]
    regions = [merged[tile.regions + first].astype(np.int16) for tile, first in zip(tiles, firsts, strict=True)]
    return Example(
        pixels=concatenate_rows([tile.pixels for tile in tiles], columns),
        regions=concatenate_rows(regions, columns),
        labels=labels,
        is_crowd=np.concatenate([tile.is_crowd for tile in tiles]),
        is_exhaustive=np.logical_and.reduce([tile.is_exhaustive for tile in tiles]),
        confidence=concatenate_rows([tile.confidence for tile in tiles], columns),
    )


def concatenate_rows(tiles: Sequence[NDArray[Any]], columns: int) -> NDArray[Any]:
    return np.concatenate([np.concatenate(tiles[at : at + columns], 1) for at in range(0, len(tiles), columns)])


@dataclass(frozen=True, slots=True)
class ExampleSampler:
    """Draws examples at random.

    annotated: scenes with exhaustive ground truth.
    labelled: scenes with partial ground truth; may be empty.
    is_thing: (C,) bool.
    annotated_share: of the annotated scenes among those drawn.
    paste_probability: that things of another scene are pasted in.
    mosaic_probability: that an example is a mosaic of several scenes.
    annotated_weights, labelled_weights: (N,) sampling probabilities of the scenes, summing to 1; None is uniform.
    """

    annotated: Sequence[Scene]
    labelled: Sequence[Scene]
    is_thing: NDArray[np.bool_]
    annotated_share: float = 0.5
    paste_probability: float = 0.4
    mosaic_probability: float = 0.3
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
        other = self.draw_similar_scene(scene, rng)
        # The whole image: a crop would cut things into pieces.
        source = augment_crop(other, (0, 0, *other.image.size), sides, rng)
        return paste_things(target, source, self.is_thing, rng)

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
