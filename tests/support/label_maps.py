"""Label maps for tests of formats: holes, islands, parts that touch at corners, single pixels, 300 segments."""

from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data, segmentation

from shared.jobs.result import Segment
from worker.segmenter import LabelMap, Segmentation

LABELS = ("cat", "тень", "猫", 'say "hi"', "<a & b>", "O'Neil", "grass")


def build_segmentation(label_map: LabelMap) -> Segmentation:
    """Measure every id of a label map from 1 to the largest; those without pixels become empty segments."""
    boxes = ndimage.find_objects(label_map)
    segments = (build_segment(label_map, number, box) for number, box in enumerate(boxes, start=1))
    return Segmentation(label_map, tuple(segments))


def build_segment(label_map: LabelMap, number: int, box: tuple[slice, slice] | None) -> Segment:
    label_id = number % len(LABELS)
    label, is_thing = LABELS[label_id], label_id != LABELS.index("grass")
    if box is None:
        return Segment(number, label, label_id, 0.5, 0, (0, 0, 0, 0), is_thing)
    rows, columns = box
    area = int((label_map[box] == number).sum())
    bbox = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    return Segment(number, label, label_id, None if number % 5 == 0 else 0.75, area, bbox, is_thing)


@cache
def build_label_maps() -> Mapping[str, LabelMap]:
    """Return twenty label maps by name."""
    return {
        "nothing": np.zeros((5, 7), np.uint8),
        "one pixel": np.ones((1, 1), np.uint8),
        "one segment": np.ones((30, 40), np.uint8),
        "very wide": _very_wide(),
        "very high": np.swapaxes(_very_wide(), 0, 1).copy(),
        "hole": _rings([12]),
        "island in a hole": _rings([30, 20, 8]),
        "touching corners": _checkerboard(12, 17),
        "hole of two corners": _hole_of_two_corners(),
        "single pixels": _single_pixels(),
        "empty segment": np.where(_rings([30, 20]) == 1, 3, 0).astype(np.uint8),
        "noise": np.random.default_rng(1).integers(0, 4, (60, 80)).astype(np.uint8),
        "blobs": blobs(320, 240, 15),
        "large blobs": blobs(480, 360, 40),
        "300 segments": blobs(400, 300, 330),
        "300 columns": np.tile(np.arange(1, 301, dtype=np.uint16), (4, 1)),
        "astronaut": _superpixels(data.astronaut(), 60),
        "coffee": _superpixels(data.coffee(), 300),
        "cat": _levels(data.chelsea()),
        "rocket": _levels(data.rocket()),
    }


def blobs(width: int, height: int, segments: int, *, seed: int = 3) -> LabelMap:
    """Return segments with uneven borders, holes and islands, which cover most of the map."""
    rng = np.random.default_rng(seed)
    cells = (min(250, -(-width // 4)), min(190, -(-height // 4)))
    y, x = np.mgrid[: cells[1], : cells[0]].astype(np.float32)
    noise = cv2.resize(rng.random((9, 12)).astype(np.float32), cells, interpolation=cv2.INTER_CUBIC)
    noise *= np.sqrt(x.size / segments) / 3
    best = np.full(x.shape, -0.9 * np.sqrt(x.size / segments), np.float32)
    found = np.zeros(x.shape, np.uint16)
    for number in range(1, segments + 1):
        centre_x, centre_y = rng.random(2) * cells
        scores = number % 3 * noise - np.hypot(x - centre_x, y - centre_y) * (0.8 + 0.4 * rng.random())
        found[scores > best] = number
        best = np.maximum(best, scores)
    grown = _enlarge(found, width, height)
    return grown.astype(np.uint16) if segments > 255 else grown.astype(np.uint8)


def _enlarge(cells: NDArray[np.uint16], width: int, height: int) -> NDArray[np.uint16]:
    """Return larger pixels with wavy borders, which are uneven at every size."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rows = y * (cells.shape[0] / height) + 0.7 * np.sin(x / 11) + 0.4 * np.sin(x / 3)
    columns = x * (cells.shape[1] / width) + 0.7 * np.sin(y / 13) + 0.4 * np.sin(y / 4)
    return np.asarray(cv2.remap(cells, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))


def _very_wide() -> NDArray[np.uint8]:
    label_map = np.ones((3, 9000), np.uint8)
    label_map[1, 20:8000] = 2
    label_map[:, 8500:] = 0
    return label_map


def _rings(radii: list[int]) -> LabelMap:
    """Return concentric discs, by turns of segment 1 and of no segment; segment 2 is around them."""
    y, x = np.mgrid[:70, :90]
    distance = np.hypot(x - 45, y - 35)
    label_map = np.full(distance.shape, 2, np.uint8)
    label_map[distance < 34] = 1
    for turn, radius in enumerate(radii):
        label_map[distance < radius] = turn % 2
    return label_map


def _checkerboard(height: int, width: int) -> LabelMap:
    y, x = np.mgrid[:height, :width]
    return (1 + (x + y) % 2).astype(np.uint8)


def _hole_of_two_corners() -> LabelMap:
    label_map = np.ones((9, 9), np.uint8)
    label_map[3, 3] = label_map[4, 4] = 0
    label_map[0, 0] = label_map[8, 8] = 2
    # An edge that closes around a bay, which the outside reaches over a corner.
    label_map[6, 7] = label_map[7, 8] = 0
    return label_map


def _single_pixels() -> LabelMap:
    label_map = np.zeros((21, 31), np.uint8)
    label_map[::2, ::2] = np.arange(1, 177).reshape(11, 16)
    return label_map


def _superpixels(photo: NDArray[np.uint8], segments: int) -> LabelMap:
    found = segmentation.slic(photo[:200, :300], segments, start_label=1, channel_axis=-1, enforce_connectivity=False)
    return found.astype(np.uint16 if found.max() > 255 else np.uint8)


def _levels(photo: NDArray[np.uint8]) -> LabelMap:
    """Return the levels of grey of a photo, as a segmentation by class gives parts all over an image."""
    grey = cv2.medianBlur(cv2.cvtColor(photo[:240, :320], cv2.COLOR_RGB2GRAY), 9)
    return (grey // 43).astype(np.uint8)
