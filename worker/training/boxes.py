"""Boxes of an object detector, which split the mask of a class into separate things."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.training.views import View

# Boxes of a lower score define no thing.
MIN_SCORE: Final = 0.25
# Of two boxes of one class with a larger intersection over union, the one of lower score is dropped.
MAX_IOU: Final = 0.6
# A thing fills at least this share of its box, and this share of the image.
MIN_FILL: Final = 0.35
MIN_AREA: Final = 0.0015
# A pixel belongs to a box only up to this distance from its centre, in half sides of the box.
MAX_DISTANCE: Final = 1.15


@dataclass(frozen=True, slots=True)
class Box:
    """A detection.

    name: COCO's name of the class.
    score: in [0, 1].
    left, top, right, bottom: in pixels of an image, or as shares of the sides of a view of it.
    """

    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


def read_boxes(files: Sequence[Path]) -> dict[str, list[Box]]:
    """Return the boxes of each image in pixels, by the image's file name.

    Args:
        files: JSON lists of {file_name, category, bbox, score}, with COCO's bbox: left, top, width, height in pixels.
    """
    entries = [entry for file in files for entry in json.loads(file.read_text())]
    entries.sort(key=itemgetter("file_name"))
    return {
        name: [parse_box(entry, *entry["bbox"]) for entry in group]
        for name, group in groupby(entries, key=itemgetter("file_name"))
    }


def parse_box(entry: Mapping[str, Any], left: float, top: float, width: float, height: float) -> Box:
    return Box(entry["category"], entry["score"], left, top, left + width, top + height)


def project_boxes(view: View, boxes: Sequence[Box]) -> list[Box]:
    """Convert boxes from pixels of an image to shares of the sides of a view; boxes outside of the view are dropped."""
    left, top, right, bottom = view.box
    projected = []
    for box in boxes:
        ends = clip_interval((box.left, box.right), left, right)
        across = sorted(1 - end if view.is_mirrored else end for end in ends)
        down = clip_interval((box.top, box.bottom), top, bottom)
        if across[0] < across[1] and down[0] < down[1]:
            projected.append(Box(box.name, box.score, across[0], down[0], across[1], down[1]))
    return projected


def clip_interval(ends: tuple[float, float], first: float, last: float) -> list[float]:
    """Return the ends as shares of the interval [first, last], clipped to [0, 1]."""
    return [min(1.0, max(0.0, (end - first) / (last - first))) for end in ends]


def score_maps(boxes: Sequence[Box], names: Sequence[str], side: int) -> NDArray[np.float32]:
    """Return (side, side, len(names)) float32, the highest score of the boxes of each class that cover a pixel.

    Args:
        boxes: as shares of the sides.
        names: of the classes; boxes of others are ignored.
    """
    maps = np.zeros((side, side, len(names)), np.float32)
    for box in boxes:
        if box.name in names:
            rows, columns = (
                slice(int(first * side), max(int(first * side) + 1, round(last * side)))
                for first, last in ((box.top, box.bottom), (box.left, box.right))
            )
            layer = maps[rows, columns, names.index(box.name)]
            np.maximum(layer, box.score, out=layer)
    return maps


def split_mask(mask: NDArray[np.bool_], boxes: Sequence[Box]) -> tuple[list[NDArray[np.bool_]], NDArray[np.bool_]]:
    """Split the mask of a class into things: each pixel goes to the nearest box, see `nearest_box`.

    Args:
        mask: (h, w) bool.
        boxes: of this class, as shares of the sides.

    Returns:
        the masks of the things, (h, w) bool each, and the pixels of `mask` that belong to none of them.
    """
    chosen = suppress_duplicates([box for box in boxes if box.score >= MIN_SCORE])
    while chosen:
        owners = nearest_box(chosen, mask)
        areas = np.bincount(owners[owners >= 0], minlength=len(chosen)) / mask.size
        fills = [area / min_area(box) for area, box in zip(areas, chosen, strict=True)]
        if min(fills) >= 1:
            return [owners == number for number in range(len(chosen))], mask & (owners < 0)
        # Boxes are dropped one at a time, the emptiest first: its pixels may be what another box lacks.
        del chosen[int(np.argmin(fills))]
    return [], mask


def min_area(box: Box) -> float:
    """Return the smallest share of the image that a thing in a box covers."""
    return max(MIN_AREA, MIN_FILL * (box.right - box.left) * (box.bottom - box.top))


def nearest_box(boxes: Sequence[Box], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return (h, w) the index of the box whose centre is nearest to each pixel of a mask, -1 for none.

    Distances are measured in half sides of the box.
    """
    height, width = mask.shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    distances = np.full((len(boxes), height, width), np.inf)
    for number, box in enumerate(boxes):
        down = np.abs(rows / height - (box.top + box.bottom) / 2) / max(1 / height, (box.bottom - box.top) / 2)
        across = np.abs(columns / width - (box.left + box.right) / 2) / max(1 / width, (box.right - box.left) / 2)
        inside = mask & (np.maximum(down, across) <= MAX_DISTANCE)
        distances[number][inside] = np.hypot(down, across)[inside]
    return np.where(np.isfinite(distances.min(0)), distances.argmin(0), -1)


def suppress_duplicates(boxes: Sequence[Box]) -> list[Box]:
    """Apply greedy non-maximum suppression; the result is sorted by score, highest first."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(box_iou(box, other) <= MAX_IOU for other in kept):
            kept.append(box)
    return kept


def box_iou(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, in [0, 1]."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    intersection = max(0.0, width) * max(0.0, height)
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (one, other)]
    return intersection / (sum(areas) - intersection) if intersection else 0.0
