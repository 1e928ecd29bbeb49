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

from worker.training.coco_panoptic import Scene

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
