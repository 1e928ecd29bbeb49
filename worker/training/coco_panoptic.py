"""Photos with panoptic truth in COCO's layout, as they lie on disk and as they are read.

The folder has `images/`, `panoptic/` (PNG, segment id = R + 256 G + 65536 B) and `panoptic.json`.  Two things go beyond
COCO: an annotation may list as `certain` the categories of which it shows all there is (without the list: all of them),
and a segment may be of a category that says no more than that no thing is there.  Grey images in a folder
`confidence/`, where there is one, say how sure the truth is from place to place.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

# Kinds below 0 are no classes of ours: known to be another one; known to be no thing; unknown.
OTHER: Final = -1
NO_THING: Final = -2
VOID: Final = -3
NO_THING_NAME: Final = "no thing"
# Larger photos are made smaller when they are read: the network's input is a quarter of it.
LONGEST_SIDE: Final = 512


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo on disk.

    kinds: what each segment id of its truth is, a class number or one of the kinds below 0.
    crowds: the segments in which several things are one.
    certain: (C,) bool, whether the truth shows all there is of a class.
    confidence: how sure the truth is; None where all of it is.
    """

    image: Path
    truth: Path
    kinds: Mapping[int, int]
    crowds: frozenset[int]
    certain: NDArray[np.bool_]
    confidence: Path | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A photo and its truth in memory.

    regions: (H, W) int16, which region is at each pixel.
    kinds: (R,) int16, what each region is; the first one is void.
    crowds: (R,) bool.
    certain: (C,) bool, whether the regions show all there is of a class.
    sure: (H, W) uint8, how sure the regions are; 255 is beyond doubt.
    """

    image: Image.Image
    regions: NDArray[np.int16]
    kinds: NDArray[np.int16]
    crowds: NDArray[np.bool_]
    certain: NDArray[np.bool_]
    sure: NDArray[np.uint8]


def read_index(folder: Path, names: Sequence[str]) -> list[Photo]:
    """List the photos of a folder, in the order of their ids.

    Args:
        names: the classes to learn, by number.
    """
    index = json.loads((folder / "panoptic.json").read_text())
    numbers = {name: number for number, name in enumerate(names)} | {NO_THING_NAME: NO_THING}
    kinds = {entry["id"]: numbers.get(entry["name"], OTHER) for entry in index["categories"]}
    images = {entry["id"]: folder / "images" / entry["file_name"] for entry in index["images"]}
    confidence = folder / "confidence"
    return [
        Photo(
            image=images[entry["image_id"]],
            truth=folder / "panoptic" / entry["file_name"],
            kinds={segment["id"]: kinds[segment["category_id"]] for segment in entry["segments_info"]},
            crowds=frozenset(segment["id"] for segment in entry["segments_info"] if segment.get("iscrowd")),
            certain=_certain(entry, kinds, len(names)),
            confidence=confidence / entry["file_name"] if confidence.exists() else None,
        )
        for entry in sorted(index["annotations"], key=lambda entry: int(entry["image_id"]))
    ]


def read_scene(photo: Photo) -> Scene:
    """Read one photo and its truth, both no larger than LONGEST_SIDE."""
    image = Image.open(photo.image).convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Resampling.BICUBIC)
    truth = Image.open(photo.truth).convert("RGB").resize(image.size, Resampling.NEAREST)
    colours = np.asarray(truth).astype(np.int64) @ (1, 256, 65536)
    identifiers = sorted(photo.kinds)
    numbers = np.zeros(colours.shape, np.int16)
    for number, identifier in enumerate(identifiers, start=1):
        numbers[colours == identifier] = number
    return Scene(
        image=image,
        regions=numbers,
        kinds=np.array([VOID, *(photo.kinds[one] for one in identifiers)], np.int16),
        crowds=np.array([False, *(one in photo.crowds for one in identifiers)]),
        certain=photo.certain,
        sure=_sure(photo, image.size),
    )


class Shelf(Sequence[Scene]):
    """Photos that are read when they are first asked for, and stay in memory."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self.photos = photos
        self.read: dict[int, Scene] = {}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, place: Any) -> Any:
        if place not in self.read:
            self.read[place] = read_scene(self.photos[place])
        return self.read[place]


def _sure(photo: Photo, size: tuple[int, int]) -> NDArray[np.uint8]:
    if photo.confidence is None:
        return np.full(size[::-1], 255, np.uint8)
    return np.asarray(Image.open(photo.confidence).convert("L").resize(size, Resampling.BILINEAR))


def _certain(entry: Mapping[str, Any], kinds: Mapping[int, int], classes: int) -> NDArray[np.bool_]:
    if "certain" not in entry:
        return np.ones(classes, np.bool_)
    return np.isin(np.arange(classes), [kinds[category] for category in entry["certain"]])
