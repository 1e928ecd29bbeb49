"""Images with panoptic ground truth in COCO's layout: the records of a folder, and scenes in memory.

A folder has `images/`, `panoptic/` (PNG, segment id = R + 256 G + 65536 B) and `panoptic.json`.  It extends COCO's
format (https://cocodataset.org/#format-data) in four ways:

- an annotation may list as `certain` the categories that it annotates exhaustively; without the list, all are.  LVIS
  (Gupta et al., 2019) has the same notion, as `not_exhaustive_category_ids`;
- a segment of the category "no thing" shows stuff of an unknown class;
- a segment of the category "no certain category" shows what is of none of the categories that the annotation lists as
  `certain`, so that an image with all its people outlined also says where no person is;
- grey images in an optional folder `confidence/` give the confidence of the ground truth at each pixel.
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

# Labels below 0 are not trained: another known class; stuff of an unknown class; unknown; none of the certain classes.
OTHER: Final = -1
NO_THING: Final = -2
VOID: Final = -3
NOT_CERTAIN: Final = -4
NO_THING_NAME: Final = "no thing"
NOT_CERTAIN_NAME: Final = "no certain category"
# Larger images are downscaled when they are read, since the network's input is smaller still.
MAX_SIDE: Final = 512


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image on disk with its ground truth.

    labels: the label of each segment id: a class index, OTHER, NO_THING, NOT_CERTAIN or VOID.
    crowds: ids of the segments that merge several things (COCO's `iscrowd`).
    is_exhaustive: (C,) bool, whether every instance of a class is annotated.
    confidence: file with the confidence of the ground truth; None where it is 1 everywhere.
    """

    image: Path
    truth: Path
    labels: Mapping[int, int]
    crowds: frozenset[int]
    is_exhaustive: NDArray[np.bool_]
    confidence: Path | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """One image with its ground truth in memory.

    regions: (H, W) int16, index of the region at each pixel.
    labels: (R,) int16, label of each region as in ImageRecord; that of region 0 is VOID.
    is_crowd: (R,) bool.
    is_exhaustive: (C,) bool, whether every instance of a class is annotated.
    confidence: (H, W) uint8, confidence of the ground truth at each pixel in 1/255.
    """

    image: Image.Image
    regions: NDArray[np.int16]
    labels: NDArray[np.int16]
    is_crowd: NDArray[np.bool_]
    is_exhaustive: NDArray[np.bool_]
    confidence: NDArray[np.uint8]


def read_index(folder: Path, names: Sequence[str]) -> list[ImageRecord]:
    """List the images of a folder, sorted by image id.

    Args:
        names: of the trained classes, by index.
    """
    index = json.loads((folder / "panoptic.json").read_text())
    numbers = {name: number for number, name in enumerate(names)}
    numbers |= {NO_THING_NAME: NO_THING, NOT_CERTAIN_NAME: NOT_CERTAIN}
    labels = {entry["id"]: numbers.get(entry["name"], OTHER) for entry in index["categories"]}
    images = {entry["id"]: folder / "images" / entry["file_name"] for entry in index["images"]}
    confidence = folder / "confidence"
    return [
        ImageRecord(
            image=images[entry["image_id"]],
            truth=folder / "panoptic" / entry["file_name"],
            labels={segment["id"]: labels[segment["category_id"]] for segment in entry["segments_info"]},
            crowds=frozenset(segment["id"] for segment in entry["segments_info"] if segment.get("iscrowd")),
            is_exhaustive=_exhaustive_classes(entry, labels, len(names)),
            confidence=confidence / entry["file_name"] if confidence.exists() else None,
        )
        for entry in sorted(index["annotations"], key=lambda entry: int(entry["image_id"]))
    ]


def read_scene(record: ImageRecord) -> Scene:
    """Read one image and its ground truth; the longer side of both is at most MAX_SIDE pixels."""
    image = Image.open(record.image).convert("RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE), Resampling.BICUBIC)
    truth = Image.open(record.truth).convert("RGB").resize(image.size, Resampling.NEAREST)
    ids = np.asarray(truth).astype(np.int64) @ (1, 256, 65536)
    known_ids = sorted(record.labels)
    regions = np.zeros(ids.shape, np.int16)
    for number, segment_id in enumerate(known_ids, start=1):
        regions[ids == segment_id] = number
    return Scene(
        image=image,
        regions=regions,
        labels=np.array([VOID, *(record.labels[one] for one in known_ids)], np.int16),
        is_crowd=np.array([False, *(one in record.crowds for one in known_ids)]),
        is_exhaustive=record.is_exhaustive,
        confidence=_read_confidence(record, image.size),
    )


class SceneCache(Sequence[Scene]):
    """Scenes that are read at their first access and stay in memory."""

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self.records = records
        self._scenes: dict[int, Scene] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: Any) -> Any:
        if place not in self._scenes:
            self._scenes[place] = read_scene(self.records[place])
        return self._scenes[place]


def _read_confidence(record: ImageRecord, size: tuple[int, int]) -> NDArray[np.uint8]:
    if record.confidence is None:
        return np.full(size[::-1], 255, np.uint8)
    return np.asarray(Image.open(record.confidence).convert("L").resize(size, Resampling.BILINEAR))


def _exhaustive_classes(entry: Mapping[str, Any], labels: Mapping[int, int], classes: int) -> NDArray[np.bool_]:
    if "certain" not in entry:
        return np.ones(classes, np.bool_)
    return np.isin(np.arange(classes), [labels[category] for category in entry["certain"]])
