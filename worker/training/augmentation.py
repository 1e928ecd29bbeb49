"""Photos for training: cut, stretched, lit and turned at random, with things out of other photos pasted in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from PIL.Image import Resampling, Transpose
from scipy.ndimage import find_objects

from worker.training.coco_panoptic import Photo, Scene

# Sides of what is cut out, against those of the photo; above 1 there is a margin of nothing around it.
CROP: Final = (0.45, 1.0)
ZOOM_OUT: Final = (1.0, 1.6)
ZOOM_OUT_CHANCE: Final = 0.2
WHOLE_CHANCE: Final = 0.3
LIGHT: Final = (0.65, 1.4)
GREY_CHANCE: Final = 0.04
MARGIN_COLOUR: Final = (124, 116, 104)
# Shares of the image between which a thing is worth pasting, and how many are pasted at most.
PASTED: Final = (0.004, 0.6)
MOST_PASTED: Final = 3
SURE_ENOUGH: Final = 0.5
# A pasted thing is made so many times as wide and high.
RESIZED: Final = (0.5, 1.25)
# Photos are drawn fewer times than this to find one that shows the same as the one beside it.
MOST_DRAWS: Final = 8
# Columns and rows of photos that are shown together.
LAYOUTS: Final = ((2, 1), (1, 2), (2, 2))
# A photo is drawn the more often the rarer the rarest of its classes is, by this power; FEW photos are rare enough.
# One that shows several things of a class is drawn SEVERAL times as often.
RARITY: Final = 0.5
FEW: Final = 4
SEVERAL: Final = 3.0


@dataclass(frozen=True, slots=True)
class Example:
    """What the network gets to see, and its truth; the rest as in Scene.

    pixels: (H, W, 3) uint8.  regions: (H, W) int16.  sure: (H, W) uint8.
    """

    pixels: NDArray[np.uint8]
    regions: NDArray[np.int16]
    kinds: NDArray[np.int16]
    crowds: NDArray[np.bool_]
    certain: NDArray[np.bool_]
    sure: NDArray[np.uint8]


def draw(scene: Scene, sides: tuple[int, int], rng: np.random.Generator) -> Example:
    """Cut a part out of a photo at random, and show it as `shown` does."""
    return shown(scene, random_box(*scene.image.size, rng), sides, rng)


def shown(scene: Scene, box: tuple[int, int, int, int], sides: tuple[int, int], rng: np.random.Generator) -> Example:
    """Resize a part of a photo to a width and a height, and turn and light it at random."""
    image, regions, sure = cut(scene, box, sides)
    if rng.random() < 0.5:
        image, regions, sure = (one.transpose(Transpose.FLIP_LEFT_RIGHT) for one in (image, regions, sure))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(*LIGHT))
    if rng.random() < GREY_CHANCE:
        image = image.convert("L").convert("RGB")
    return Example(
        pixels=np.asarray(image),
        regions=np.asarray(regions).astype(np.int16),
        kinds=scene.kinds,
        crowds=scene.crowds,
        certain=scene.certain,
        sure=np.asarray(sure),
    )


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in pixels; it may reach beyond the photo."""
    chance = rng.random()
    if chance < WHOLE_CHANCE:
        return 0, 0, width, height
    reach = ZOOM_OUT if chance < WHOLE_CHANCE + ZOOM_OUT_CHANCE else CROP
    wide, high = round(width * rng.uniform(*reach)), round(height * rng.uniform(*reach))
    left, top = (int(rng.integers(min(0, gap), max(0, gap) + 1)) for gap in (width - wide, height - high))
    return left, top, left + wide, top + high


def cut(
    scene: Scene, box: tuple[int, int, int, int], sides: tuple[int, int]
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Return a part of the photo, of its regions and of how sure they are; what lies beyond the photo is void."""
    layers = scene.image, Image.fromarray(scene.regions.astype(np.int32)), Image.fromarray(scene.sure)
    if box[0] < 0 or box[1] < 0 or box[2] > scene.image.width or box[3] > scene.image.height:
        whole = box[2] - box[0], box[3] - box[1]
        canvases = Image.new("RGB", whole, MARGIN_COLOUR), Image.new("I", whole, 0), Image.new("L", whole, 0)
        for canvas, layer in zip(canvases, layers, strict=True):
            canvas.paste(layer, (-box[0], -box[1]))
        layers, box = canvases, (0, 0, *whole)
    ways = Resampling.BILINEAR, Resampling.NEAREST, Resampling.BILINEAR
    image, regions, sure = (layer.resize(sides, way, box=box) for layer, way in zip(layers, ways, strict=True))
    return image, regions, sure


def pasted(target: Example, source: Example, things: NDArray[np.bool_], rng: np.random.Generator) -> Example:
    """Put a few things out of one example into another, anywhere and in another size.

    Args:
        things: (C,), the classes that may be pasted.
    """
    chosen = pasteable(source, things)
    rng.shuffle(chosen)
    chosen = chosen[: rng.integers(1, MOST_PASTED + 1)]
    if not len(chosen):
        return target
    pixels, regions, sure = target.pixels.copy(), target.regions.copy(), target.sure.copy()
    for number, region in enumerate(chosen, start=len(target.kinds)):
        thing = piece_of(source, region, rng)
        height, width = thing.mask.shape
        top, left = (int(rng.integers(gap + 1)) for gap in np.subtract(regions.shape, thing.mask.shape))
        window = slice(top, top + height), slice(left, left + width)
        pixels[window][thing.mask] = thing.pixels[thing.mask]
        regions[window][thing.mask] = number
        sure[window][thing.mask] = thing.sure[thing.mask]
    return replace(
        target,
        pixels=pixels,
        regions=regions,
        sure=sure,
        kinds=np.concatenate([target.kinds, source.kinds[chosen]]),
        crowds=np.concatenate([target.crowds, np.zeros(len(chosen), np.bool_)]),
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing in an image no larger than itself.  pixels: (h, w, 3) uint8, mask: (h, w) bool, sure: (h, w) uint8."""

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    sure: NDArray[np.uint8]


def piece_of(source: Example, region: int, rng: np.random.Generator) -> Piece:
    """Cut one region out and resize it at random, but not beyond the example's own sides."""
    mask = source.regions == region
    [window] = find_objects(mask.astype(np.uint8))
    height, width = mask[window].shape
    factor = min(rng.uniform(*RESIZED), mask.shape[0] / height, mask.shape[1] / width)
    sides = max(1, round(width * factor)), max(1, round(height * factor))
    pixels, inside, sure = (
        np.asarray(Image.fromarray(np.ascontiguousarray(layer[window])).resize(sides, way))
        for layer, way in (
            (source.pixels, Resampling.BILINEAR),
            (mask, Resampling.NEAREST),
            (source.sure, Resampling.BILINEAR),
        )
    )
    return Piece(pixels, inside, sure)


def pasteable(source: Example, things: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the regions that are surely one thing of a class in question and neither tiny nor nearly everything."""
    flat, count = source.regions.ravel(), len(source.kinds)
    areas = np.bincount(flat, minlength=count)
    surety = np.bincount(flat, source.sure.ravel() / 255, minlength=count) / np.maximum(areas, 1)
    shares = areas / len(flat)
    is_thing = (source.kinds >= 0) & things[np.maximum(source.kinds, 0)] & ~source.crowds
    return np.flatnonzero(is_thing & (shares >= PASTED[0]) & (shares <= PASTED[1]) & (surety >= SURE_ENOUGH))


def laid_out(tiles: Sequence[Example], columns: int, things: NDArray[np.bool_]) -> Example:
    """Lay examples in rows of so many; stuff of one class becomes one region, things stay what they are.

    Args:
        tiles: all of the same sides.
        things: (C,), the classes that are things.
    """
    firsts = np.cumsum([0, *(len(tile.kinds) for tile in tiles[:-1])])
    kinds = np.concatenate([tile.kinds for tile in tiles])
    joined = np.arange(len(kinds))
    for kind in np.unique(kinds):
        if kind < 0 or not things[kind]:
            joined[kinds == kind] = joined[kinds == kind][0]
    regions = [joined[tile.regions + first].astype(np.int16) for tile, first in zip(tiles, firsts, strict=True)]
    return Example(
        pixels=in_rows([tile.pixels for tile in tiles], columns),
        regions=in_rows(regions, columns),
        kinds=kinds,
        crowds=np.concatenate([tile.crowds for tile in tiles]),
        certain=np.logical_and.reduce([tile.certain for tile in tiles]),
        sure=in_rows([tile.sure for tile in tiles], columns),
    )


def in_rows(tiles: Sequence[NDArray[Any]], columns: int) -> NDArray[Any]:
    return np.concatenate([np.concatenate(tiles[at : at + columns], 1) for at in range(0, len(tiles), columns)])


@dataclass(frozen=True, slots=True)
class Mix:
    """Where examples come from.

    annotated, labelled: photos with whole truth, and those with partial truth, which may be none.
    share: of the annotated ones in a batch.  paste: the chance that things out of another photo are put in.
    mosaic: the chance that an example is several photos beside and above each other.
    annotated_odds, labelled_odds: how likely each photo is drawn; None where all are alike.
    """

    annotated: Sequence[Scene]
    labelled: Sequence[Scene]
    things: NDArray[np.bool_]
    share: float = 0.5
    paste: float = 0.4
    mosaic: float = 0.3
    annotated_odds: NDArray[np.float64] | None = None
    labelled_odds: NDArray[np.float64] | None = None

    def example(self, size: int, rng: np.random.Generator) -> Example:
        """Draw a square example.

        Args:
            size: its side in pixels, an even number.
        """
        if rng.random() >= self.mosaic:
            return self.part(self.scene(rng), (size, size), rng)
        columns, rows = LAYOUTS[int(rng.integers(len(LAYOUTS)))]
        sides = size // columns, size // rows
        scenes = [self.scene(rng)]
        scenes += [self.scene_like(scenes[0], rng) for _ in range(columns * rows - 1)]
        return laid_out([self.part(scene, sides, rng) for scene in scenes], columns, self.things)

    def part(self, scene: Scene, sides: tuple[int, int], rng: np.random.Generator) -> Example:
        """Draw a part of a photo, perhaps with things out of another."""
        target = draw(scene, sides, rng)
        if rng.random() >= self.paste:
            return target
        other = self.scene_like(scene, rng)
        # Not a part of it, which would cut things into pieces.
        source = shown(other, (0, 0, *other.image.size), sides, rng)
        return pasted(target, source, self.things, rng)

    def scene_like(self, other: Scene, rng: np.random.Generator) -> Scene:
        """Draw a photo, more often than not one that shows things of a class that another photo shows as well."""
        found = self.scene(rng)
        for _ in range(int(rng.integers(MOST_DRAWS))):
            if self.things_in(found) & self.things_in(other):
                break
            found = self.scene(rng)
        return found

    def things_in(self, scene: Scene) -> set[int]:
        return {int(kind) for kind in scene.kinds if kind >= 0 and self.things[kind]}

    def scene(self, rng: np.random.Generator) -> Scene:
        if rng.random() < self.share or not len(self.labelled):
            return self.annotated[int(rng.choice(len(self.annotated), p=self.annotated_odds))]
        return self.labelled[int(rng.choice(len(self.labelled), p=self.labelled_odds))]


def odds_of(photos: Sequence[Photo], things: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Return how likely each photo should be drawn, so that rare classes and several things of a class come up.

    Args:
        things: (C,), the classes that are things.

    Returns:
        None where there are no photos.
    """
    if not photos:
        return None
    counts = np.array([counted(photo, len(things)) for photo in photos])
    shown = counts > 0
    rarity = np.maximum(shown.sum(0), FEW) ** -RARITY
    wanted = np.maximum((shown * rarity).max(1), len(photos) ** -RARITY)
    wanted *= np.where((counts * things > 1).any(1), SEVERAL, 1)
    odds: NDArray[np.float64] = wanted / wanted.sum()
    return odds


def counted(photo: Photo, classes: int) -> NDArray[np.int64]:
    """Return how many segments of each class a photo has, crowds left aside."""
    kinds = [kind for segment, kind in photo.kinds.items() if kind >= 0 and segment not in photo.crowds]
    return np.bincount(kinds, minlength=classes)
