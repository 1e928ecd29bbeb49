"""Photos with COCO's panoptic truth, cut and turned at random for training.

The folder has `images/`, `panoptic/` (PNG, segment id = R + 256 G + 65536 B) and `panoptic.json`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from PIL.Image import Resampling, Transpose

OTHER: Final = 255
CROP: Final = (0.55, 1.0)
BRIGHTNESS: Final = (0.7, 1.3)


@dataclass(frozen=True, slots=True)
class Example:
    """classes: (size, size) uint8, the number of the class at each pixel, 255 where it is none of ours."""

    image: Image.Image
    classes: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo on disk; `classes` maps segment ids of its truth to our class numbers."""

    image: Path
    truth: Path
    classes: Mapping[int, int]


def read_index(folder: Path, names: Sequence[str]) -> list[Photo]:
    """List the photos of a folder, in the order of their ids.

    Args:
        names: the classes to learn, by number; segments of others count as none of ours.
    """
    index = json.loads((folder / "panoptic.json").read_text())
    numbers = {name: number for number, name in enumerate(names)}
    category = {entry["id"]: numbers.get(entry["name"], OTHER) for entry in index["categories"]}
    images = {entry["id"]: entry["file_name"] for entry in index["images"]}
    return [
        Photo(
            image=folder / "images" / images[entry["image_id"]],
            truth=folder / "panoptic" / entry["file_name"],
            classes={segment["id"]: category[segment["category_id"]] for segment in entry["segments_info"]},
        )
        for entry in sorted(index["annotations"], key=lambda entry: int(entry["image_id"]))
    ]


def draw(photo: Photo, size: int, rng: np.random.Generator) -> Example:
    """Cut a part out of a photo, resize it to a square, and turn and light it at random."""
    image, classes = Image.open(photo.image).convert("RGB"), Image.fromarray(class_map(photo))
    box = random_box(*image.size, rng)
    image = image.resize((size, size), Resampling.BILINEAR, box=box)
    classes = classes.resize((size, size), Resampling.NEAREST, box=box)
    if rng.random() < 0.5:
        image, classes = image.transpose(Transpose.FLIP_LEFT_RIGHT), classes.transpose(Transpose.FLIP_LEFT_RIGHT)
    return Example(ImageEnhance.Brightness(image).enhance(rng.uniform(*BRIGHTNESS)), np.asarray(classes))


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of a random part, in pixels."""
    wide, high = width * rng.uniform(*CROP), height * rng.uniform(*CROP)
    left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
    return left, top, left + wide, top + high


def class_map(photo: Photo) -> NDArray[np.uint8]:
    """(H, W) uint8: the number of the class at each pixel, 255 where it is none of ours."""
    colours = np.asarray(Image.open(photo.truth).convert("RGB")).astype(np.int64)
    identifiers, places = np.unique(colours @ (1, 256, 65536), return_inverse=True)
    table = np.array([photo.classes.get(int(identifier), OTHER) for identifier in identifiers], np.uint8)
    return table[places].reshape(colours.shape[:2])
