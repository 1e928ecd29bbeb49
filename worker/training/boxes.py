"""Boxes that a detector drew around things, which tell things of one class apart."""

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

# A box less sure than this is no thing of its own.
SURE: Final = 0.25
# Of two boxes of a class that share more than this of their union, only the surer one counts.
SAME: Final = 0.6
# A thing fills at least this share of its box, and this share of the image.
FILLED: Final = 0.35
LEAST: Final = 0.0015
# A place farther from the middle of every box than so many times the half of its sides belongs to none.
REACH: Final = 1.15


@dataclass(frozen=True, slots=True)
class Box:
    """left, top, right, bottom: in pixels of a photo, or in shares of the sides of a view of it.  score: in [0, 1]."""

    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


def read_boxes(files: Sequence[Path]) -> dict[str, list[Box]]:
    """Return the boxes of each photo in pixels, by the name of the photo's file.

    Args:
        files: lists of {file_name, category, bbox, score}, with COCO's bbox: left, top, width, height in pixels.
    """
    entries = [entry for file in files for entry in json.loads(file.read_text())]
    entries.sort(key=itemgetter("file_name"))
    return {
        name: [box_of(entry, *entry["bbox"]) for entry in found]
        for name, found in groupby(entries, key=itemgetter("file_name"))
    }


def box_of(entry: Mapping[str, Any], left: float, top: float, width: float, height: float) -> Box:
    return Box(entry["category"], entry["score"], left, top, left + width, top + height)


def seen_in(view: View, boxes: Sequence[Box]) -> list[Box]:
    """Return what a view shows of a photo's boxes, in shares of the view's sides."""
    left, top, right, bottom = view.box
    found = []
    for box in boxes:
        across = sorted(1 - one if view.is_mirrored else one for one in within((box.left, box.right), left, right))
        down = within((box.top, box.bottom), top, bottom)
        if across[0] < across[1] and down[0] < down[1]:
            found.append(Box(box.name, box.score, across[0], down[0], across[1], down[1]))
    return found


def within(ends: tuple[float, float], first: float, last: float) -> list[float]:
    """Return where the ends lie between first and last, as shares; what is beyond them is cut off."""
    return [min(1.0, max(0.0, (end - first) / (last - first))) for end in ends]


def covers(boxes: Sequence[Box], names: Sequence[str], side: int) -> NDArray[np.float32]:
    """(side, side, len(names)): the highest score of a box of each class around each place, of boxes in shares."""
    found = np.zeros((side, side, len(names)), np.float32)
    for box in boxes:
        if box.name in names:
            rows, columns = (
                slice(int(first * side), max(int(first * side) + 1, round(last * side)))
                for first, last in ((box.top, box.bottom), (box.left, box.right))
            )
            layer = found[rows, columns, names.index(box.name)]
            np.maximum(layer, box.score, out=layer)
    return found


def parted(mask: NDArray[np.bool_], boxes: Sequence[Box]) -> tuple[list[NDArray[np.bool_]], NDArray[np.bool_]]:
    """Give each place of a class's mask to the box around it whose middle is nearest, measured in the box's sides.

    Args:
        mask: (h, w), where things of one class are.
        boxes: those of this class, in shares.

    Returns:
        the masks of the things, and what of `mask` belongs to none of them.
    """
    chosen = distinct([box for box in boxes if box.score >= SURE])
    while chosen:
        owners = nearest(chosen, mask)
        areas = np.bincount(owners[owners >= 0], minlength=len(chosen)) / mask.size
        shares = [area / wanted(box) for area, box in zip(areas, chosen, strict=True)]
        if min(shares) >= 1:
            return [owners == number for number in range(len(chosen))], mask & (owners < 0)
        # The emptiest goes first; the others may get what it had.
        del chosen[int(np.argmin(shares))]
    return [], mask


def wanted(box: Box) -> float:
    """Return the share of the image that a thing in a box covers at least."""
    return max(LEAST, FILLED * (box.right - box.left) * (box.bottom - box.top))


def nearest(boxes: Sequence[Box], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of the box that each place of a mask belongs to, -1 for none."""
    height, width = mask.shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    away = np.full((len(boxes), height, width), np.inf)
    for number, box in enumerate(boxes):
        down = np.abs(rows / height - (box.top + box.bottom) / 2) / max(1 / height, (box.bottom - box.top) / 2)
        across = np.abs(columns / width - (box.left + box.right) / 2) / max(1 / width, (box.right - box.left) / 2)
        inside = mask & (np.maximum(down, across) <= REACH)
        away[number][inside] = np.hypot(down, across)[inside]
    return np.where(np.isfinite(away.min(0)), away.argmin(0), -1)


def distinct(boxes: Sequence[Box]) -> list[Box]:
    """Return boxes of which no two are nearly the same, the surest first."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(overlap(box, other) <= SAME for other in kept):
            kept.append(box)
    return kept


def overlap(one: Box, other: Box) -> float:
    """Return the share of the union of two boxes that is in both."""
    wide = min(one.right, other.right) - max(one.left, other.left)
    high = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0.0, wide) * max(0.0, high)
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (one, other)]
    return both / (sum(areas) - both) if both else 0.0
